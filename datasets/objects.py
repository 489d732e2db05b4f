"""The objects of a BOP data set: size and symmetries from `models_info.json`, in metres."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.errors import InputError
from utils.files import finite_numbers, read_json
from utils.geometry import rigid
from utils.symmetry import Symmetry

_METRES_PER_MM = 1e-3
_SMALLEST_MM, _LARGEST_MM = 1.0, 10_000.0


@dataclass(frozen=True)
class ContinuousSymmetry:
    """The object may turn about this axis by any angle."""

    axis: Tensor  # (3,) unit vector, object frame
    offset: Tensor  # (3,) m, a point on the axis


@dataclass(frozen=True)
class ObjectInfo:
    """What is known of one object before any image is seen; tensors are float64."""

    obj_id: int
    model_path: Path  # mesh in mm
    diameter: float  # m, largest distance of two vertices
    symmetries_discrete: Tensor  # (N, 4, 4) m, object from object, the identity left out
    symmetries_continuous: tuple[ContinuousSymmetry, ...]


def read_objects(models: Path | str) -> dict[int, ObjectInfo]:
    """All objects of a BOP models folder (`models`, `models_cad` or `models_eval`) by id.

    Raises an `InputError` that names file and object for anything missing, not numeric or not in mm.
    """
    path = Path(models) / "models_info.json"
    table = read_json(path, remedy="download the models of the data set again")
    if not isinstance(table, dict) or not table or not all(key.isdecimal() for key in table):
        raise InputError(f"{path} is no table of objects by id: download the models of the data set again")
    return {int(key): _object(int(key), table[key], path) for key in sorted(table, key=int)}


def read_symmetry(mesh: Path) -> Symmetry | None:
    """The symmetry of a mesh file, if a `models_info.json` beside it lists the number that ends its name.

    None where there is no such file, or none that lists the mesh.
    """
    number = re.search(r"(\d+)$", mesh.stem)
    if number is None or not mesh.with_name("models_info.json").is_file():
        return None
    info = read_objects(mesh.parent).get(int(number[1]))
    if info is None or not (len(info.symmetries_discrete) or info.symmetries_continuous):
        return None
    axes = tuple((turn.axis.numpy(), turn.offset.numpy()) for turn in info.symmetries_continuous)
    return Symmetry(info.symmetries_discrete.numpy(), axes)


def _object(obj_id: int, entry: Any, path: Path) -> ObjectInfo:
    where = f"{path}: object {obj_id}"
    if not isinstance(entry, dict) or "diameter" not in entry:
        raise InputError(f"{where} has no diameter: download the models of the data set again")
    (diameter,) = finite_numbers(entry["diameter"], 1, f"{where}: diameter")
    if not _SMALLEST_MM <= diameter <= _LARGEST_MM:
        raise InputError(
            f"{where}: diameter {diameter:g} mm: metres where mm are expected? Scale models and file to mm"
        )
    return ObjectInfo(
        obj_id=obj_id,
        model_path=path.parent / f"obj_{obj_id:06d}.ply",
        diameter=diameter * _METRES_PER_MM,
        symmetries_discrete=_discrete(_list(entry, "symmetries_discrete", where), where),
        symmetries_continuous=_continuous(_list(entry, "symmetries_continuous", where), where),
    )


def _list(entry: dict, key: str, where: str) -> list:
    value = entry.get(key, [])
    if not isinstance(value, list):
        raise InputError(f"{where}: {key} must be a list: correct the file")
    return value


def _discrete(entries: list, where: str) -> Tensor:
    where = f"{where}: symmetries_discrete"
    numbers = [finite_numbers(entry, 16, where) for entry in entries]
    matrices = torch.tensor(numbers, dtype=torch.float64).reshape(-1, 4, 4)
    rotations = matrices[:, :3, :3]
    error = (rotations @ rotations.mT - torch.eye(3)).abs().amax() if len(entries) else torch.zeros(())
    if error > 0.01 or (torch.linalg.det(rotations) <= 0).any():
        raise InputError(f"{where} holds a matrix that is no rotation: correct the file")
    return rigid(rotations, matrices[:, :3, 3] * _METRES_PER_MM)


def _continuous(entries: list, where: str) -> tuple[ContinuousSymmetry, ...]:
    where = f"{where}: symmetries_continuous"
    symmetries = []
    for entry in entries:
        if not isinstance(entry, dict) or not {"axis", "offset"} <= entry.keys():
            raise InputError(f"{where} needs axis and offset: correct the file")
        axis = torch.tensor(finite_numbers(entry["axis"], 3, f"{where}: axis"), dtype=torch.float64)
        offset = torch.tensor(finite_numbers(entry["offset"], 3, f"{where}: offset"), dtype=torch.float64)
        if axis.norm() == 0:
            raise InputError(f"{where}: the axis is zero: correct the file")
        symmetries.append(ContinuousSymmetry(axis / axis.norm(), offset * _METRES_PER_MM))
    return tuple(symmetries)
