"""Where the templates of an object are seen from: the vertices of an icosphere about it.

The numbers of views, the distance of one diameter and the aim at the model's origin are those of the paper.
"""

import numpy as np
import trimesh

from rendering.mesh import bounding_sphere, diameter

SUBDIVISIONS = {42: 1, 162: 2, 642: 3}  # of the icosphere, by its number of vertices
ORIGIN_SHARE = 0.5  # of the bounding sphere's radius: an origin farther off its centre is not aimed at


def view_directions(n_views: int) -> np.ndarray:
    """Unit vectors (V, 3) from the object towards the cameras: 42, 162 or 642, evenly spread."""
    if n_views not in SUBDIVISIONS:
        raise ValueError(f"{n_views} views: choose one of {sorted(SUBDIVISIONS)}")
    directions = np.asarray(trimesh.creation.icosphere(SUBDIVISIONS[n_views]).vertices)
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


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


def object_poses(vertices: np.ndarray, n_views: int) -> np.ndarray:
    """cam_from_obj (V, 4, 4) of the templates of a model with vertices (V, 3) in m.

    The cameras stand one diameter away from the model's origin, or from the centre of its bounding sphere
    where the origin lies more than half the sphere's radius from that centre.
    """
    centre, radius = bounding_sphere(vertices)
    if np.linalg.norm(centre) <= ORIGIN_SHARE * radius:
        centre = np.zeros(3)
    return view_poses(n_views, diameter(vertices), centre)
