"""Pose errors on model points, for many estimates at once; VSD, which needs images, is in `evaluation.vsd`.

Poses and symmetries are (..., 3, 4) float64 [R | t] in m; R is used as it is, also where it is no rotation.
MSSD and MSPD are the minimum over the object's symmetries of a maximum over all vertices (Hodan et al., BOP
Challenge 2020). Of hundreds of symmetries all but a few are ruled out, exactly, by the maximum over a few
dozen extreme vertices, which can only be smaller.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial import KDTree

from picopose.utils.geometry import nearest_rotation

# Squared distances (n, V) between the two placements of vertices (V, 3) under n (pair, symmetry) choices.
_Distances = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
_CHUNK = 1 << 14  # distances at a time: temporaries stay in the cache, and BLAS in one thread


def homogeneous(pose: np.ndarray) -> np.ndarray:
    """A pose (3, 4) as (4, 4)."""
    return np.vstack([pose, [0, 0, 0, 1]])


def compose(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The product (..., 3, 4) of two transforms: first b, then a."""
    product = a[..., :3] @ b
    product[..., 3] += a[..., 3]
    return product


def mssd(
    estimate: np.ndarray, truth: np.ndarray, vertices: np.ndarray, symmetries: np.ndarray, diameter: float
) -> np.ndarray:
    """Maximum symmetry-aware surface distance (P,) in m of estimates (P, 3, 4) against truths (P, 3, 4).

    vertices (V, 3) m; symmetries (S, 3, 4); diameter m. Infinite where the origins are a diameter or more
    apart, as in the challenge; NaN where the estimate is.
    """

    def distances(pair, symmetry, points):
        difference = estimate[pair] - compose(truth[pair], symmetries[symmetry])
        return np.square(_apply(difference, points)).sum(axis=1)

    near = np.linalg.norm(estimate[..., 3] - truth[..., 3], axis=-1) < diameter
    errors = np.full(len(estimate), np.inf)
    errors[near] = _min_max(distances, np.flatnonzero(near), vertices, len(symmetries))
    return errors


def mspd(
    estimate: np.ndarray, truth: np.ndarray, vertices: np.ndarray, symmetries: np.ndarray, K: np.ndarray
) -> np.ndarray:
    """Maximum symmetry-aware projection distance (P,) in px of the image, not scaled to 640 px.

    As `mssd`, with the cameras K (P, 3, 3). Vertices behind the camera are projected like the others.
    """

    def distances(pair, symmetry, points):
        estimated = _apply(K[pair] @ estimate[pair], points)
        true = _apply(K[pair] @ compose(truth[pair], symmetries[symmetry]), points)
        return np.square(estimated[:, :2] / estimated[:, 2:] - true[:, :2] / true[:, 2:]).sum(axis=1)

    return _min_max(distances, np.arange(len(estimate)), vertices, len(symmetries))


def _apply(transforms: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (V, 3) under transforms (n, 3, 4), coordinates first: (n, 3, V)."""
    moved = (transforms[:, :, :3].reshape(-1, 3) @ points.T).reshape(len(transforms), 3, len(points))
    return moved + transforms[:, :, 3:]


def _min_max(distances: _Distances, pairs: np.ndarray, vertices: np.ndarray, n_symmetries: int) -> np.ndarray:
    """min over symmetries of max over vertices of the distance, (P,) for the given pairs."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if n_symmetries == 1:
            return np.sqrt(_maximum(distances, pairs, np.zeros_like(pairs), vertices))
        return np.sqrt(_pruned(distances, pairs, vertices, n_symmetries))


def _pruned(distances: _Distances, pairs: np.ndarray, vertices: np.ndarray, n_symmetries: int) -> np.ndarray:
    """Visits each pair's symmetries from the smallest lower bound on, until no bound is below the best."""
    choice = np.repeat(pairs, n_symmetries), np.tile(np.arange(n_symmetries), len(pairs))
    bounds = _maximum(distances, *choice, _extremes(vertices)).reshape(len(pairs), n_symmetries)
    order = np.argsort(bounds, axis=1)  # NaN last
    sorted_bounds = np.take_along_axis(bounds, order, axis=1)
    best = np.full(len(pairs), np.inf)
    for rank in range(n_symmetries):
        active = np.flatnonzero(sorted_bounds[:, rank] < best)
        if len(active) == 0:
            break
        found = _maximum(distances, pairs[active], order[active, rank], vertices)
        best[active] = np.fmin(best[active], found)
    # Python's min, by which the challenge takes it, keeps a leading NaN.
    best[np.isnan(bounds[:, 0])] = np.nan
    return best


def _maximum(distances: _Distances, pair: np.ndarray, symmetry: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Largest squared distance (n,) over the points of every choice, a chunk of choices at a time."""
    step = max(1, _CHUNK // len(points))
    starts = range(0, len(pair), step)
    chunks = [distances(pair[i : i + step], symmetry[i : i + step], points).max(axis=1) for i in starts]
    return np.concatenate([np.empty(0), *chunks])


def _extremes(vertices: np.ndarray, count: int = 48) -> np.ndarray:
    """The vertices (at most `count`, 3) farthest out in directions spread evenly (Fibonacci's sphere)."""
    z = 1 - (2 * np.arange(count) + 1) / count
    angle = np.arange(count) * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - z**2)
    directions = np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)
    return vertices[np.unique((vertices @ directions.T).argmax(axis=0))]


def add(estimate: np.ndarray, truth: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """ADD (P,) in m: mean distance of corresponding vertices (Hinterstoisser et al., 2012)."""
    return _mean_distances(
        lambda pair: _apply(estimate[pair] - truth[pair], vertices), len(estimate), vertices
    )


def adds(estimate: np.ndarray, truth: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """ADD-S (P,) in m: mean distance from true vertices to the nearest estimated ones; infinite for NaN."""
    errors = np.full(len(estimate), np.inf)
    for p in np.flatnonzero(np.isfinite(estimate).all(axis=(1, 2))):
        placed, true = (_apply(pose[p : p + 1], vertices)[0].T for pose in (estimate, truth))
        errors[p] = KDTree(placed).query(true)[0].mean()
    return errors


def projection_error(
    estimate: np.ndarray, truth: np.ndarray, vertices: np.ndarray, K: np.ndarray
) -> np.ndarray:
    """Mean distance (P,) of the vertices' projections in px, with the cameras K (P, 3, 3)."""

    def difference(pair):
        estimated, true = (_apply(K[pair] @ pose[pair], vertices) for pose in (estimate, truth))
        return estimated[:, :2] / estimated[:, 2:] - true[:, :2] / true[:, 2:]

    with np.errstate(divide="ignore", invalid="ignore"):
        return _mean_distances(difference, len(estimate), vertices)


def rotation_error(estimate: np.ndarray, truth: np.ndarray, symmetries: np.ndarray) -> np.ndarray:
    """Angle (P,) in degrees between estimated and true rotation, the smallest of all symmetries (S, 3, 4)."""
    true = truth[:, None, :, :3] @ symmetries[:, :, :3]
    chord = np.linalg.norm(estimate[:, None, :, :3] - true, axis=(2, 3)).min(axis=1)
    return np.degrees(2 * np.arcsin(np.minimum(chord / np.sqrt(8), 1)))  # |A - B| = sqrt(8) sin(angle / 2)


def plain_angle(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Angle (P,) in degrees between estimated and true rotation, symmetries aside; NaN where they are NaN.

    Both are made orthonormal first: in BOP's LM-O the true ones are off by 2e-4, which would make 0.3 degrees
    of the angle by the trace.
    """
    angles = np.full(len(estimate), np.nan)
    finite = np.isfinite(estimate[..., :3]).all(axis=(1, 2)) & np.isfinite(truth[..., :3]).all(axis=(1, 2))
    pair = (nearest_rotation(torch.from_numpy(pose[finite, :, :3])).numpy() for pose in (estimate, truth))
    angles[finite] = rotation_error(*pair, np.eye(3, 4)[None])
    return angles


def translation_error(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Distance (P,) of the origins in m."""
    return np.linalg.norm(estimate[..., 3] - truth[..., 3], axis=-1)


def end_point_error(
    xy: np.ndarray, xyz: np.ndarray, weight: np.ndarray, K: np.ndarray, cam_from_obj: np.ndarray
) -> np.ndarray:
    """Mean distance (B,) in px between correspondences and the true places of their points (the paper's EPE).

    xy (B, N, 2) px of the camera K (B, 3, 3); xyz (B, N, 3) m in the object's frame; weight (B, N), 0 = none;
    cam_from_obj (B, 3, 4) or (B, 4, 4), the truth. NaN without correspondences.
    """
    cam = np.einsum("bij,bnj->bni", cam_from_obj[:, :3, :3], xyz) + cam_from_obj[:, None, :3, 3]
    projected = np.einsum("bij,bnj->bni", K, cam)
    counted = weight > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.linalg.norm(projected[..., :2] / projected[..., 2:] - xy, axis=-1)
        return np.where(counted, distance, 0).sum(axis=1) / counted.sum(axis=1)


def _mean_distances(
    difference: Callable[[slice], np.ndarray], n_pairs: int, vertices: np.ndarray
) -> np.ndarray:
    """Mean length (P,) of the differences (n, 2 or 3, V) of a slice of pairs."""
    step = max(1, _CHUNK // len(vertices))
    slices = [slice(i, i + step) for i in range(0, n_pairs, step)]
    means = [np.sqrt(np.square(difference(pair)).sum(axis=1)).mean(axis=1) for pair in slices]
    return np.concatenate([np.empty(0), *means])
