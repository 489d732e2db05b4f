"""Where the contour of an object is in a photo, by the colours on both sides of it.

After Stoiber et al., "A sparse Gaussian approach to region-based 6DoF object tracking", ACCV 2020: along
lines across the contour of a drawing, the colours give a distribution of where the object ends.
"""

from dataclasses import dataclass

import cv2
import numpy as np

POINTS = 120  # lines at most
BINS = 16  # per colour channel
INSIDE, OUTSIDE = 3, (5, 36)  # px from the contour to the pixels whose colours are counted
SLOPE, AMPLITUDE = 1.2, 0.42  # of the smooth step from object to background; amplitude < 1/2 for noise
RIM = 3.0  # px along the photo's border, where a silhouette ends without a contour


@dataclass(frozen=True, eq=False)
class Contour:
    """N points of an object's contour in a crop."""

    xy: np.ndarray  # (N, 2) px
    normal: np.ndarray  # (N, 2) unit, away from the object
    depth: np.ndarray  # (N,) m


def contour_of(mask: np.ndarray, depth: np.ndarray, inside: np.ndarray) -> Contour:
    """Points along the silhouette (S, S) bool of a drawing; `inside` (S, S) bool: within the photo."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return Contour(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0))
    xy = np.concatenate([outline[:, 0] for outline in outlines])
    xy = xy[inside[xy[:, 1], xy[:, 0]] & (depth[xy[:, 1], xy[:, 0]] > 0)]
    xy = xy[:: max(1, -(-len(xy) // POINTS))]
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2.0)
    slope = np.stack([cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)], axis=-1)
    normal = -slope[xy[:, 1], xy[:, 0]]
    length = np.linalg.norm(normal, axis=1)
    xy, normal = xy[length > 1e-6], normal[length > 1e-6] / length[length > 1e-6, None]
    # The outermost pixels of the object end half a pixel further out.
    return Contour(xy + 0.5 * normal, normal, depth[xy[:, 1], xy[:, 0]])


def foreground(rgb: np.ndarray, mask: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The probability (S, S) that a pixel belongs to the object, by its colour.

    rgb (S, S, 3) in [0, 1]; mask (S, S) bool, roughly the object; inside (S, S) bool, as in `contour_of`.
    """
    index = (rgb * (BINS - 1e-3)).astype(np.int64) @ np.array([BINS * BINS, BINS, 1])
    distance_in = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    distance_out = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
    core = inside & (distance_in > min(INSIDE, distance_in.max() / 2))
    ring = inside & (distance_out > OUTSIDE[0]) & (distance_out < OUTSIDE[1])
    counts = [np.bincount(index[part], minlength=BINS**3) + 1e-9 for part in (core, ring)]
    front, behind = (_smooth(count) for count in counts)
    return (front / (front + behind))[index].astype(np.float32)


def _smooth(count: np.ndarray) -> np.ndarray:
    """A distribution of colours from counts (BINS^3,), blurred over neighbouring colours."""
    cube = count.reshape(BINS, BINS, BINS).astype(np.float64)
    for axis in range(3):
        padded = np.pad(cube, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        parts = [np.take(padded, range(k, k + BINS), axis=axis) for k in range(3)]
        cube = 0.25 * parts[0] + 0.5 * parts[1] + 0.25 * parts[2]
    share = cube.ravel() / cube.sum()
    return share + 1e-4 / len(share)


def locate(
    probability: np.ndarray, xy: np.ndarray, normal: np.ndarray, reach: int, step: float
) -> tuple[np.ndarray, np.ndarray]:
    """How far outwards from points (N, 2) along normals the contour is: mean (N,) px and variance (N,) px^2.

    probability: see `foreground`; the contour is looked for up to `reach` steps of `step` px on either side.
    """
    if len(xy) == 0:  # OpenCV refuses to look at nothing
        return np.zeros(0), np.zeros(0)
    shift = np.arange(-reach, reach + 1)
    along = np.arange(-2 * reach, 2 * reach + 1)
    at = xy[:, None] + (step * along)[None, :, None] * normal[:, None]
    seen = cv2.remap(
        probability,
        at[..., 0].astype(np.float32),
        at[..., 1].astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0.5,
    ).astype(np.float64)
    object_there = 0.5 - AMPLITUDE * np.tanh(step * (along - shift[:, None]) / (2 * SLOPE))  # (D, L)
    odds = 2 * seen - 1
    # Of a pixel: object_there * seen + (1 - object_there) * (1 - seen)
    likelihood = np.log(0.5 + np.einsum("dl,nl->ndl", object_there - 0.5, odds)).sum(2)
    weight = np.exp(likelihood - likelihood.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    mean = weight @ shift
    variance = weight @ shift**2 - mean**2
    return step * mean, step**2 * np.maximum(variance, 0)
