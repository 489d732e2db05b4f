"""The objects as the pose errors see them: exact vertices, the listed diameter and all symmetries, in m.

Everything comes from a data set's `models_eval`, also where other folders hold finer or textured models.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from picopose.datasets.bop import MM
from picopose.datasets.bop.objects import ObjectInfo, listed_unit, read_objects
from picopose.rendering.mesh import Mesh, diameter, read_triangles
from picopose.utils.errors import InputError
from picopose.utils.mesh_file import is_gltf
from picopose.utils.symmetry import Symmetry, about

MAX_SYMMETRY_STEP = 0.01  # BOP's limit for sampling a continuous symmetry, as a share of the diameter
_TOLERANCE = 5.0  # factor: less than another unit makes, more than another version of the mesh


@dataclass(frozen=True, eq=False)
class EvalModel:
    """One object of `models_eval`."""

    obj_id: int
    vertices: np.ndarray  # (V, 3) float64, m
    faces: np.ndarray  # (F, 3) int32
    diameter: float  # m, as listed
    symmetries: np.ndarray  # (S, 3, 4) float64, m; the first is the identity
    name: str

    @cached_property
    def box_corners(self) -> np.ndarray:
        """(8, 3) corners of the axis-aligned box about the vertices, m."""
        low, high = self.vertices.min(axis=0), self.vertices.max(axis=0)
        picks = np.stack(np.meshgrid(*[[False, True]] * 3, indexing="ij"), axis=-1).reshape(8, 3)
        return np.where(picks, high, low)

    @cached_property
    def mesh(self) -> Mesh:
        """Its form, to be rendered."""
        vertices = np.float32(self.vertices)
        return Mesh(vertices, self.faces, normals=np.zeros_like(vertices))


def load_models(dataset_dir: Path | str, obj_ids: Iterable[int]) -> dict[int, EvalModel]:
    """The models of some objects of a BOP data set; `InputError` where a file is missing or damaged."""
    folder = Path(dataset_dir) / "models_eval"
    if not folder.is_dir():
        raise InputError(f"{folder} not found: download the data set's models (they hold models_eval)")
    infos = read_objects(folder)
    models = {}
    for obj_id in obj_ids:
        if obj_id not in infos:
            raise InputError(
                f"{folder / 'models_info.json'} lacks object {obj_id}: download the models again"
            )
        info = infos[obj_id]
        vertices, faces = _geometry(info.model_path or folder / f"obj_{obj_id:06d}.ply")
        _check_diameter(info, vertices, folder)
        transforms = symmetry_transforms(info.symmetry)
        models[obj_id] = EvalModel(obj_id, vertices, faces, info.diameter, transforms, info.name)
    return models


def _geometry(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) float64 in m and faces (F, 3)."""
    vertices, faces = read_triangles(path)
    return vertices * (listed_unit(path, diameter(vertices)) if is_gltf(path) else MM), faces


def _check_diameter(info: ObjectInfo, vertices: np.ndarray, folder: Path) -> None:
    """Refuses a diameter that cannot be the mesh's: that lies between its box's longest side and diagonal."""
    sides = np.ptp(vertices, axis=0)
    if not sides.max() / _TOLERANCE <= info.diameter <= np.linalg.norm(sides) * _TOLERANCE:
        raise InputError(
            f"{folder / 'models_info.json'}: object {info.obj_id} is {info.diameter / MM:g} mm across, and "
            f"its mesh is {np.linalg.norm(sides) / MM:g} mm from corner to corner: scale one of them"
        )


def symmetry_transforms(symmetry: Symmetry) -> np.ndarray:
    """All symmetry transforms (S, 3, 4) of an object: the identity first, then in BOP's order.

    Continuous ones are sampled in steps that move no point by more than 1 % of the diameter (315 rotations).
    They act after discrete ones; they are not combined with each other, nor discrete ones among themselves.
    """
    fixed = [np.eye(4), *symmetry.discrete]
    turns = [turn for axis in symmetry.axes for turn in _turns(*axis)]
    combined = [turn @ matrix for matrix in fixed for turn in turns] if turns else fixed
    return np.stack(combined)[:, :3]


def _turns(axis: np.ndarray, point: np.ndarray) -> list[np.ndarray]:
    """(4, 4) rotations about an axis (3,) through a point (3,)."""
    angles = np.linspace(0, 2 * np.pi, math.ceil(math.pi / MAX_SYMMETRY_STEP), endpoint=False)
    return [about(turn, point) for turn in Rotation.from_rotvec(angles[:, None] * axis).as_matrix()]
