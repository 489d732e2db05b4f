"""Viewpoints of templates: the vertices of an icosphere about the object.

Numbers of views, order, distance and aim are those of the released templates.
"""

import functools
from pathlib import Path

import numpy as np

VIEWS = (42, 162, 642)  # vertices of an icosphere after one, two and three subdivisions
DIAGONALS = 2.0  # distance of the cameras in diagonals of the model's bounding box
ORIGIN_SHARE = 0.25  # of that diagonal: an origin farther from the box's centre is not aimed at


@functools.cache
def view_directions(n_views: int) -> np.ndarray:
    """Unit vectors (V, 3) from the object towards the cameras: 42, 162 or 642, evenly spread, upwards.

    They are read from a table, as the original order follows no simple rule.
    """
    if n_views not in VIEWS:
        raise ValueError(f"{n_views} views: choose one of {', '.join(map(str, VIEWS))}")
    with np.load(Path(__file__).with_name("viewpoints.npz"), allow_pickle=False) as table:
        return table[f"views{n_views}"]


def view_poses(n_views: int, distance: float, centre: np.ndarray) -> np.ndarray:
    """cam_from_obj (V, 4, 4) float64 of cameras at `distance` (m) from `centre` (3,), which they look at.

    The object's z axis points up in the images; seen along z, its y axis does.
    """
    backward = view_directions(n_views)
    up = np.where(np.abs(backward[:, 2:]) > 1 - 1e-6, [[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]])
    right = np.cross(-backward, up)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    down = np.cross(-backward, right)
    poses = np.tile(np.eye(4), (n_views, 1, 1))
    poses[:, :3, :3] = np.stack([right, down, -backward], axis=1)
    poses[:, :3, 3] = [0.0, 0.0, distance] - poses[:, :3, :3] @ np.asarray(centre, dtype=np.float64)
    return poses


def object_poses(vertices: np.ndarray, n_views: int, *, aim: str = "origin") -> np.ndarray:
    """cam_from_obj (V, 4, 4) of the templates of a model with vertices (V, 3) in m.

    The cameras stand two diagonals of the model's bounding box away from where they look.

    Args:
        aim: "origin" of the model, or the "centre" of its bounding box; the centre is also used if the
            origin is a quarter of the diagonal or more away from it.
    """
    return view_poses(n_views, DIAGONALS * _box(vertices)[1], aim_point(vertices, aim))


def aim_point(vertices: np.ndarray, aim: str = "origin") -> np.ndarray:
    """(3,) m: where the cameras look, see `object_poses`."""
    centre, diagonal = _box(vertices)
    near = np.linalg.norm(centre) < ORIGIN_SHARE * diagonal
    return np.zeros(3) if near and aim == "origin" else centre


def _box(vertices: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre (3,) and diagonal of the bounding box along the axes."""
    low, high = (np.asarray(end(vertices, axis=0), dtype=np.float64) for end in (np.min, np.max))
    return (low + high) / 2, float(np.linalg.norm(high - low))
