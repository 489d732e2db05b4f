"""How bodies lie on a table: the faces they can stand on, and how likely each is."""

import numpy as np
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

TIPSY = 0.01  # of the largest weight of a pose: what stands less safely is left lying
UPRIGHT_SHARE = 0.55  # of objects stand as they were modelled; the others lie as they may fall


def stable_poses(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (N, 3, 3) in which a body rests on a plane under it, and their weights (N,), summing to 1.

    A face of the convex hull carries the body if the centre of mass lies above it; wide faces below a low
    centre weigh more.
    """
    vertices = np.asarray(vertices, np.float64)
    hull = ConvexHull(vertices)
    corners = vertices[hull.simplices]
    inside = vertices[hull.vertices].mean(axis=0)
    volumes = np.abs(np.linalg.det(corners - inside))
    centre = (volumes[:, None] * (corners.sum(axis=1) + inside) / 4).sum(axis=0) / volumes.sum()
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    planes, group = np.unique(hull.equations.round(5), axis=0, return_inverse=True)
    area = np.bincount(group.ravel(), weights=areas)
    height = -(planes[:, :3] @ centre + planes[:, 3])
    feet = centre + height[:, None] * planes[:, :3]
    carried = (feet @ hull.equations[:, :3].T + hull.equations[:, 3]).max(axis=1) < 1e-5
    rotations = [Rotation.align_vectors([[0, 0, -1]], [normal])[0] for normal in planes[carried, :3]]
    weights = (area / height.clip(min=1e-6 * np.ptp(vertices)) ** 2)[carried]
    return np.stack([rotation.as_matrix() for rotation in rotations]), weights / weights.sum()


def resting_rotation(rng: np.random.Generator, stable: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """One of the rotations (3, 3) of `stable_poses`, with a random turn about the vertical."""
    rotations, weights = stable
    upright = np.flatnonzero((rotations[:, 2, 2] > 0.9999) & (weights > TIPSY * weights.max()))
    if len(upright) and rng.random() < UPRIGHT_SHARE:
        rotation = rotations[upright[0]]
    else:
        rotation = rotations[rng.choice(len(rotations), p=weights)]
    return Rotation.from_rotvec([0, 0, rng.uniform(0, 2 * np.pi)]).as_matrix() @ rotation
