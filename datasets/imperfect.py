"""Masks and windows as a detector gives them: a little wrong in the ways that segmentations are wrong.

Training on true masks alone would make the network trust an outline that no detector draws.
"""

from __future__ import annotations

import cv2
import numpy as np

Rng = np.random.Generator

PERFECT_SHARE = 0.25


def imperfect_mask(rng: Rng, mask: np.ndarray, *, rest: np.ndarray | None = None) -> np.ndarray:
    """A mask (H, W) bool as a detector may draw it; a quarter of them stay as they are.

    rest: (H, W) bool, pixels of things that a detector may take for part of the object; none if not given.
    """
    if rng.random() < PERFECT_SHARE:
        return mask
    area = int(mask.sum())
    scale = np.sqrt(area)  # px, the object's size
    changed = _wobbled(rng, mask, scale)
    if rng.random() < 0.25:
        changed = changed & ~_blobs(rng, mask, scale, 0.05, 0.2)
    if rng.random() < 0.15:
        changed = changed & _half_plane(rng, mask)
    if rng.random() < 0.2:
        rim = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        leak = _blobs(rng, rim & ~mask, scale, 0.05, 0.25)
        changed = changed | (leak if rest is None else leak & rest)
    overlap = int((changed & mask).sum())
    return changed if overlap >= 0.5 * area and int(changed.sum()) <= 2 * area else mask


def jittered_window(rng: Rng, window: np.ndarray, size: int) -> np.ndarray:
    """A square window (4,) px as boxes of detectors are: half of them moved and scaled a little.

    It stays inside the image of `size` px, as the windows of photos do.
    """
    if rng.random() < 0.5:
        return window
    left, top, right, _ = window
    side = (right - left) * rng.uniform(0.9, 1.25)
    centre = np.array([left + right, top + top + right - left]) / 2 + rng.uniform(-0.06, 0.06, 2) * side
    side = int(np.clip(round(side), 8, size))
    corner = np.clip(np.round(centre - side / 2), 0, size - side).astype(int)
    return np.concatenate([corner, corner + side])


def _wobbled(rng: Rng, mask: np.ndarray, scale: float) -> np.ndarray:
    """The outline moved in and out by a smooth random distance, in all by up to some 6 % of the size."""
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
    cells = int(rng.integers(3, 16))
    noise = rng.normal(size=(cells, cells)).astype(np.float32)
    noise = cv2.resize(noise, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
    shift = scale * (rng.normal(0, 0.015) + noise * rng.uniform(0, 0.02))
    return inside - outside + shift > 0.5


def _blobs(rng: Rng, where: np.ndarray, scale: float, least: float, most: float) -> np.ndarray:
    """One to three filled ellipses centred on random pixels of `where`."""
    image = np.zeros(where.shape, np.uint8)
    pixels = np.flatnonzero(where)
    for _ in range(int(rng.integers(1, 4)) if len(pixels) else 0):
        y, x = divmod(int(pixels[rng.integers(len(pixels))]), where.shape[1])
        axes = np.maximum(1, np.round(scale * rng.uniform(least, most, 2))).astype(int)
        cv2.ellipse(image, (x, y), tuple(map(int, axes)), float(rng.uniform(0, 180)), 0, 360, 1, -1)
    return image > 0


def _half_plane(rng: Rng, mask: np.ndarray) -> np.ndarray:
    """All but a random side with up to a quarter of the mask's pixels: a part the detector has missed."""
    y, x = np.nonzero(mask)
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)])
    limit = np.quantile(x * direction[0] + y * direction[1], rng.uniform(0.75, 1))
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    return columns * direction[0] + rows * direction[1] <= limit
