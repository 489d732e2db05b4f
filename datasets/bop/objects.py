"""The objects of a BOP data set, for runs and scores: size and symmetries, from `models_info.json`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from picopose.datasets.bop import MM
from picopose.datasets.linemod.classes import linemod_name
from picopose.datasets.tables import read_table
from picopose.utils.errors import InputError
from picopose.utils.mesh_file import MESH_SUFFIXES
from picopose.utils.reading import finite_matrix, finite_number, finite_numbers, is_rotation
from picopose.utils.symmetry import Symmetry

_SMALLEST_MM, _LARGEST_MM = 1.0, 10_000.0
_MOST_SYMMETRIES = 1000
_AXIS_LENGTHS = 1e-6, 1e6  # of what still is a direction
_ANOTHER_VERSION = 1.1  # factor: the listed diameter may be of another version of the mesh
_LINEMOD = "lm", "lmo"  # data sets of its objects
_REMEDY = "download the models of the data set again"


@dataclass(frozen=True, eq=False)
class ObjectInfo:
    """What is known of one object before any image is seen; arrays are float64."""

    obj_id: int
    model_path: Path | None  # mesh; None where there is none
    diameter: float  # m, largest distance of two vertices
    symmetry: Symmetry  # as listed: the identity left out, and no products
    name: str  # as listed, LINEMOD's in its own sets, or else the number


def read_objects(models: Path | str) -> dict[int, ObjectInfo]:
    """All objects of a BOP models folder (`models`, `models_cad` or `models_eval`) by id.

    Raises an `InputError` that names file and object for anything missing, not numeric or not in mm.
    """
    path = Path(models) / "models_info.json"
    table = read_table(path, of="object", remedy=_REMEDY)
    if not table:
        raise InputError(f"{path} lists no objects: {_REMEDY}")
    files = model_files(path.parent)
    return {obj_id: _object(obj_id, entry, path, files.get(obj_id)) for obj_id, entry in table.items()}


def model_files(models: Path) -> dict[int, Path]:
    """The meshes `obj_000001.ply`, ... of a BOP models folder by number; PLY before other formats."""
    found: dict[int, Path] = {}
    for path in sorted(models.glob("obj_*"), key=lambda path: (path.suffix.lower() != ".ply", path.name)):
        number = path.stem.removeprefix("obj_")
        if path.suffix.lower() in MESH_SUFFIXES and number.isdecimal():
            found.setdefault(int(number), path)
    return dict(sorted(found.items()))


def read_symmetry(mesh: Path) -> Symmetry | None:
    """The symmetry of a mesh file if a `models_info.json` beside it lists the number that ends its name.

    None where there is no such file, or none that lists the mesh.
    """
    number = re.search(r"(\d+)$", mesh.stem)
    if number is None or not mesh.with_name("models_info.json").is_file():
        return None
    info = read_objects(mesh.parent).get(int(number[1]))
    return info and info.symmetry


def listed_unit(path: Path, size: float) -> float:
    """Metres per unit of a BOP model `obj_000001.glb` whose diameter is `size` units.

    The format prescribes metres and BOP mm, so that the diameter in the `models_info.json` beside it decides;
    an `InputError` where it speaks for neither.
    """
    listing = path.with_name("models_info.json")
    info = read_objects(path.parent).get(int(path.stem.removeprefix("obj_")))
    if info is None:
        raise InputError(f"{listing} lacks the object of {path.name}, whose unit it tells: {_REMEDY}")
    for unit in (1.0, MM):
        if 1 / _ANOTHER_VERSION < unit * size / info.diameter < _ANOTHER_VERSION:
            return unit
    raise InputError(
        f"{path} is {size:g} units across, and {listing} lists a diameter of {info.diameter / MM:g} mm: "
        "scale the mesh to metres or mm"
    )


def _object(obj_id: int, entry: Any, path: Path, model: Path | None) -> ObjectInfo:
    where = f"{path}: object {obj_id}"
    if not isinstance(entry, dict) or "diameter" not in entry:
        raise InputError(f"{where} has no diameter: {_REMEDY}")
    diameter = finite_number(entry["diameter"], f"{where}: diameter")
    if not _SMALLEST_MM <= diameter <= _LARGEST_MM:
        raise InputError(
            f"{where}: diameter {diameter:g} mm: metres where mm are expected? Scale models and file to mm"
        )
    known = linemod_name(obj_id) if path.absolute().parents[1].name in _LINEMOD else None
    name = entry.get("name") or known or str(obj_id)
    if not isinstance(name, str) or not name.isprintable():
        raise InputError(f"{where}: its name must be text in one line: correct the file")
    discrete = _discrete(_list(entry, "symmetries_discrete", where), where)
    axes = _axes(_list(entry, "symmetries_continuous", where), where)
    return ObjectInfo(obj_id, model, MM * diameter, Symmetry(discrete, axes), name)


def _list(entry: dict, key: str, where: str) -> list:
    value = entry.get(key, [])
    if not isinstance(value, list):
        raise InputError(f"{where}: {key} must be a list: correct the file")
    if len(value) > _MOST_SYMMETRIES:
        raise InputError(f"{where}: {len(value)} {key}, more than {_MOST_SYMMETRIES}: correct the file")
    return value


def _discrete(entries: list, where: str) -> np.ndarray:
    where = f"{where}: symmetries_discrete"
    numbers = [finite_matrix(entry, 4, 4, where) for entry in entries]
    matrices = np.array(numbers, dtype=np.float64).reshape(-1, 4, 4)
    if not is_rotation(matrices[:, :3, :3]).all():
        raise InputError(f"{where} holds a matrix that is no rotation: correct the file")
    if (matrices[:, 3] != [0, 0, 0, 1]).any():
        raise InputError(f"{where} holds a matrix whose last row is not 0 0 0 1: correct the file")
    matrices[:, :3, 3] *= MM
    return matrices


def _axes(entries: list, where: str) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """The direction of each axis that the object may turn about by any angle, and a point on it, m."""
    where = f"{where}: symmetries_continuous"
    axes = []
    for entry in entries:
        if not isinstance(entry, dict) or "axis" not in entry:
            raise InputError(f"{where} needs axis and offset: correct the file")
        axis = np.array(finite_numbers(entry["axis"], 3, f"{where}: axis"))
        offset = np.array(finite_numbers(entry.get("offset", [0, 0, 0]), 3, f"{where}: offset"))
        with np.errstate(over="ignore"):
            length = float(np.linalg.norm(axis))
        if not _AXIS_LENGTHS[0] <= length <= _AXIS_LENGTHS[1]:
            problem = "is zero" if length == 0 else f"is {length:g} long, which is no direction"
            raise InputError(f"{where}: the axis {problem}: correct the file")
        axes.append((axis / length, MM * offset))
    return tuple(axes)
