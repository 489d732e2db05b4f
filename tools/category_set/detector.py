"""Detections that are as wrong as a detector's: the visible masks, disturbed.

Every border wavers by some pixels. Of 30 % of the masks a bite is missing, 25 % bleed on to what is beside
the object, 15 % have a stray patch.
"""

from __future__ import annotations

import cv2
import numpy as np

SHIFT, WAVER = 1.0, 1.5  # px, sigma: of a whole border, and of a stretch of it
BITTEN, BLEEDING, STRAY = 0.3, 0.25, 0.15  # shares of the masks
BITE, BLOT, PATCH = (0.08, 0.22), (0.05, 0.15), (0.03, 0.08)  # half axes, in square roots of the mask's area
FAR = 1.5  # of a stray patch from a pixel of the mask, in the same unit
SCORE = 0.08  # sigma of a score about the overlap with the visible mask

Rng = np.random.Generator


def detected(rng: Rng, visible: np.ndarray) -> tuple[np.ndarray, float]:
    """A mask (H, W) bool and a score for an object's visible pixels (H, W) bool; the mask is not empty."""
    size = float(np.sqrt(np.count_nonzero(visible)))
    mask = _wavering(rng, visible)
    if rng.random() < BITTEN:
        mask &= ~_ellipse(rng, _rim(visible), size, BITE)
    if rng.random() < BLEEDING:
        mask |= _ellipse(rng, _rim(visible), size, BLOT)
    if rng.random() < STRAY:
        mask |= _ellipse(rng, visible, size, PATCH, rng.normal(0, FAR * size, 2))
    if not mask.any():
        mask = visible
    overlap = np.count_nonzero(mask & visible) / np.count_nonzero(mask | visible)
    return mask, float(np.clip(overlap + rng.normal(0, SCORE), 0.05, 0.999))


def box_of(mask: np.ndarray) -> np.ndarray:
    """(4,) px: top, left, bottom, right, the last two beyond the mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])


def _wavering(rng: Rng, mask: np.ndarray) -> np.ndarray:
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
    grid = rng.standard_normal((24, 32), dtype=np.float32)
    waver = cv2.resize(grid, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return inside - outside + rng.normal(0, SHIFT) + WAVER * waver > 0


def _rim(mask: np.ndarray) -> np.ndarray:
    return mask & (cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0)


def _ellipse(
    rng: Rng, where: np.ndarray, size: float, reach: tuple[float, float], shift: np.ndarray | float = 0.0
) -> np.ndarray:
    """(H, W) bool: an ellipse about a random pixel of `where`, moved by `shift` px."""
    rows, columns = np.nonzero(where)
    chosen = rng.integers(len(rows))
    centre = np.round(np.array([columns[chosen], rows[chosen]]) + shift).astype(int)
    axes = np.maximum(1, np.round(size * rng.uniform(*reach, 2))).astype(int)
    image = np.zeros(where.shape, np.uint8)
    cv2.ellipse(image, centre.tolist(), axes.tolist(), rng.uniform(0, 180), 0, 360, 1, -1)
    return image > 0
