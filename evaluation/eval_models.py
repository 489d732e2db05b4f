"""The objects as the pose errors see them: exact vertices, the listed diameter and all symmetries, in mm.

Everything comes from a data set's `models_eval`, also where other folders hold finer or textured models.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rendering.mesh import read_triangles
from utils.errors import InputError
from utils.files import read_json

MAX_SYMMETRY_STEP = 0.01  # BOP's limit for sampling a continuous symmetry, as a share of the diameter


@dataclass(frozen=True, eq=False)
class EvalModel:
    """One object of `models_eval`."""

    obj_id: int
    vertices: np.ndarray  # (V, 3) float64, mm
    faces: np.ndarray  # (F, 3) int32
    diameter: float  # mm, as listed
    symmetries: np.ndarray  # (S, 3, 4) float64, mm; the first is the identity

    @property
    def box_corners(self) -> np.ndarray:
        """(8, 3) corners of the axis-aligned box about the vertices, mm."""
        low, high = self.vertices.min(axis=0), self.vertices.max(axis=0)
        picks = np.stack(np.meshgrid(*[[False, True]] * 3, indexing="ij"), axis=-1).reshape(8, 3)
        return np.where(picks, high, low)


def load_models(dataset_dir: Path | str, obj_ids: Iterable[int]) -> dict[int, EvalModel]:
    """The models of some objects of a BOP data set; `InputError` where a file is missing or damaged."""
    folder = Path(dataset_dir) / "models_eval"
    if not folder.is_dir():
        raise InputError(f"{folder} not found: download the data set's models (they hold models_eval)")
    listing = folder / "models_info.json"
    infos = read_json(listing, remedy="download the data set's models again")
    models = {}
    for obj_id in obj_ids:
        try:
            info = infos[str(obj_id)]
            diameter = float(info["diameter"])
            transforms = symmetries(
                info.get("symmetries_discrete", []), info.get("symmetries_continuous", [])
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{listing} has no sound entry of object {obj_id} ({error!r}): download the models again"
            ) from None
        if not diameter > 0:
            raise InputError(f"{listing}: the diameter of object {obj_id} is not positive: correct it")
        vertices, faces = read_triangles(folder / f"obj_{obj_id:06d}.ply")
        models[obj_id] = EvalModel(obj_id, vertices, faces, diameter, transforms)
    return models


def symmetries(discrete: list, continuous: list) -> np.ndarray:
    """All symmetry transforms (S, 3, 4) of an object: the identity first, then in BOP's order.

    discrete: 4x4 row-major lists; continuous: dicts with `axis` and `offset`, sampled in steps that move no
    point by more than 1 % of the diameter (315 rotations). Continuous ones act after discrete ones; they are
    not combined with each other, nor discrete ones among themselves.
    """
    fixed = [np.eye(4), *(np.array(matrix, dtype=np.float64).reshape(4, 4) for matrix in discrete)]
    turns = [turn for symmetry in continuous for turn in _turns(symmetry["axis"], symmetry["offset"])]
    combined = [turn @ matrix for matrix in fixed for turn in turns] if turns else fixed
    return np.stack(combined)[:, :3]


def _turns(axis: list[float], offset: list[float]) -> list[np.ndarray]:
    """(4, 4) rotations about an axis through `offset`."""
    x, y, z = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    offset = np.asarray(offset, dtype=np.float64).reshape(3)
    count = math.ceil(math.pi / MAX_SYMMETRY_STEP)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    outer = np.outer([x, y, z], [x, y, z])
    turns = []
    for i in range(count):
        angle = 2 * math.pi * i / count
        turn = np.eye(4)
        turn[:3, :3] = math.cos(angle) * (np.eye(3) - outer) + outer + math.sin(angle) * cross
        turn[:3, 3] = offset - turn[:3, :3] @ offset
        turns.append(turn)
    return turns
