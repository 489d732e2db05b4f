"""Exact volume that two boxes, however turned, have in common.

The common part is bounded by what of each box's faces lies within the other box. Its volume is the sum of the
signed cones from one apex, here the first box's centre, over these polygons. Clipping and cones follow affine
maps, so that faces are clipped where the other box is the cube [-1, 1]^3 (Sutherland and Hodgman, 1974).
"""

import numpy as np

from picopose.evaluation.categories.boxes import Boxes

# Faces in one plane would count twice or not at all, so the second box is shrunk by more than rounding.
_SHRUNK = 1 - 1e-10
# The faces (6, 4, 3) of the cube, anticlockwise from outside.
_AROUND = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
_FACES = np.stack(
    [
        np.roll(np.column_stack([np.full(4, side), _AROUND[:: int(side)]]), axis, axis=1)
        for axis in range(3)
        for side in (-1.0, 1.0)
    ]
)


def common_volumes(first: Boxes, second: Boxes) -> np.ndarray:
    """Volume (N,) in m^3 that N pairs of boxes have in common; 0 where a box is flat or not finite."""
    volumes = np.zeros(len(first.centers))
    near = np.flatnonzero(_may_touch(first, second))
    first, second = first[near], second[near]
    second = Boxes(second.centers, second.half_axes * _SHRUNK)
    inner = _cones_within(second, first, np.zeros_like(first.centers))
    outer = _cones_within(first, second, _local(first.centers[:, None], second)[:, 0])
    volumes[near] = np.maximum(inner + outer, 0)
    return volumes


def _may_touch(first: Boxes, second: Boxes) -> np.ndarray:
    """Whether (N,) both have a volume and the spheres around the boxes meet."""
    radii = [
        np.linalg.norm(box.corners - box.centers[:, None], axis=2).max(axis=1) for box in (first, second)
    ]
    solid = (first.volumes > 0) & (second.volumes > 0)
    return solid & (np.linalg.norm(first.centers - second.centers, axis=1) < sum(radii))


def _local(points: np.ndarray, box: Boxes) -> np.ndarray:
    """Points (N, P, 3) in the coordinates where each box is the cube [-1, 1]^3."""
    return (points - box.centers[:, None]) @ np.linalg.inv(box.half_axes).swapaxes(1, 2)


def _cones_within(faced: Boxes, box: Boxes, apex: np.ndarray) -> np.ndarray:
    """Volume (N,) in m^3 of the cones over a box's faces within another, whose coordinates the apex has."""
    count = len(box.centers)
    points = faced.centers[:, None] + _FACES.reshape(24, 3) @ faced.half_axes.swapaxes(1, 2)
    polygons, owners = _within_cube(_local(points, box).reshape(6 * count, 4, 3), np.arange(count).repeat(6))
    cones = np.bincount(owners, _cones(polygons - apex[owners, None]), minlength=count)
    # A mirrored box has its faces clockwise.
    return cones * np.abs(np.linalg.det(box.half_axes)) * _handedness(faced) * _handedness(box)


def _handedness(box: Boxes) -> np.ndarray:
    return np.sign(np.linalg.det(box.half_axes))


def _cones(polygons: np.ndarray) -> np.ndarray:
    """Signed volume (M,) of the cones from the origin over polygons (M, V, 3)."""
    doubled = np.cross(polygons, np.roll(polygons, -1, axis=1)).sum(axis=1)
    return (polygons[:, 0] * doubled).sum(axis=1) / 6


def _within_cube(polygons: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What of polygons (M, V, 3) lies in the cube [-1, 1]^3, and its owners; those outside are left out."""
    for axis in range(3):
        for side in (-1.0, 1.0):
            depths = 1 - side * polygons[:, :, axis]
            met = (depths > 0).any(axis=1)
            polygons, owners = _clipped(polygons[met], depths[met]), owners[met]
    return polygons, owners


def _clipped(polygons: np.ndarray, depths: np.ndarray) -> np.ndarray:
    """Convex polygons (M, V, 3) where their depths (M, V) are positive: (M, V + 1, 3), corners may repeat."""
    count, corners, _ = polygons.shape
    inside, following = depths > 0, np.roll(depths, -1, axis=1)
    crossing = inside != (following > 0)
    share = np.divide(depths, depths - following, out=np.zeros_like(depths), where=crossing)
    crossings = polygons + share[..., None] * (np.roll(polygons, -1, axis=1) - polygons)
    candidates = np.stack([polygons, crossings], axis=2).reshape(count, 2 * corners, 3)
    kept = np.stack([inside, crossing], axis=2).reshape(count, 2 * corners)
    chosen = np.argsort(~kept, axis=1, kind="stable")[:, : corners + 1]
    chosen = np.where(np.take_along_axis(kept, chosen, axis=1), chosen, chosen[:, :1])
    return np.take_along_axis(candidates, chosen[..., None], axis=1)
