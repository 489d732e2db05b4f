"""An independent renderer for tests: all rays against all triangles (Moeller and Trumbore, 1997), float64."""

import numpy as np


def cast(origin: np.ndarray, directions: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Distance along rays (N, 3) from one origin (3,) to the first hit, in units of the rays; inf if none."""
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    edge1, edge2, to_origin = b - a, c - a, origin - a
    # The triple products of the algorithm with the ray taken out, so that each is one matrix product.
    normal = np.cross(edge1, to_origin)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1 / (directions @ np.cross(edge2, edge1).T)
        u = directions @ np.cross(edge2, to_origin).T * inverse
        v = -(directions @ normal.T) * inverse
        t = -(edge2 * normal).sum(axis=1) * inverse
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)
    return np.where(hit, t, np.inf).min(axis=1)


def surface_points(
    xy: np.ndarray, K: np.ndarray, cam_from_obj: np.ndarray, vertices: np.ndarray, faces: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Object points (N, 3) seen at pixels (N, 2), and which of these pixels see the object (N,)."""
    rays = np.concatenate([xy, np.ones((len(xy), 1))], axis=1) @ np.linalg.inv(K).T
    rotation, translation = cam_from_obj[:3, :3], cam_from_obj[:3, 3]
    origin, directions = -rotation.T @ translation, rays @ rotation
    depth = cast(origin, directions, vertices, faces)
    hit = np.isfinite(depth)
    return origin + directions * np.where(hit, depth, 0)[:, None], hit


def cast_depth(
    vertices: np.ndarray, faces: np.ndarray, cam_from_obj: np.ndarray, K: np.ndarray, width: int, height: int
) -> np.ndarray:
    """Depth (H, W) of the nearest surface on the ray through each pixel's centre; 0 where none."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    xyz, hit = surface_points(np.stack([x, y], axis=-1).reshape(-1, 2), K, cam_from_obj, vertices, faces)
    depth = (xyz @ cam_from_obj[:3, :3].T + cam_from_obj[:3, 3])[:, 2]
    return np.where(hit, depth, 0).reshape(height, width)
