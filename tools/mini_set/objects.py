"""The named objects of the project's own data sets, designed by hand.

`MINI` and `UNSEEN` have no kind or print in common with each other or with training's random shapes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from picopose.rendering.mesh import Mesh
from tools.mini_set import objects_mini, objects_unseen
from tools.mini_set.object_parts import Model

MINI: tuple[Callable[[], Model], ...] = objects_mini.ALL
UNSEEN: tuple[Callable[[], Model], ...] = objects_unseen.ALL


@dataclass(frozen=True)
class NamedObject:
    """An object with its name and symmetries; its origin is the centre of its bounding box.

    The mesh has vertex colours or one texture (H, W, 3) with uv (V, 2), as in PLY files.
    """

    name: str
    mesh: Mesh
    discrete: tuple[np.ndarray, ...]  # (4, 4) m each, object from object, without the identity
    continuous: tuple[tuple[float, float, float], ...]  # axes through the origin


def named_objects(makers: tuple[Callable[[], Model], ...]) -> list[NamedObject]:
    """The objects of one set, in the order of their ids (from 1)."""
    return [_centred(make.__name__, make()) for make in makers]


def _centred(name: str, model: Model) -> NamedObject:
    vertices = model.mesh.vertices.astype(np.float64)
    centre = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    discrete = []
    for turn in model.turns:
        transform = np.eye(4)
        transform[:3, :3] = Rotation.from_rotvec(turn, degrees=True).as_matrix().round(12)
        discrete.append(transform)
    mesh = replace(model.mesh, vertices=(vertices - centre).astype(np.float32))
    return NamedObject(name, mesh, tuple(discrete), model.axes)
