"""From a photo of known pose to the crop that a detector would lead to: masks and windows a little wrong.

Training on true masks alone would make the network trust an outline that no detector draws.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from picopose.datasets.training.colours import colours_of
from picopose.utils.crop import square_boxes, window_pixels
from picopose.utils.geometry import sample, sample_depth
from picopose.utils.records import View

Rng = np.random.Generator

PERFECT_SHARE, BOX_SHARE = 0.25, 0.1
MIN_CROP_PIXELS = 32  # of the mask


def detected_view(
    rng: Rng,
    rgb: np.ndarray,
    depth: np.ndarray,
    visible: np.ndarray,
    K: np.ndarray,
    cam_from_obj: np.ndarray,
    *,
    size: int,
    rest: np.ndarray | None = None,
) -> View | None:
    """The crop of a photo about an object as it is detected, or None if hardly any of its mask is left.

    The view's mask is imperfect; its depth is that of the object's visible pixels alone.

    Args:
        rgb: (H, W, 3) uint8; depth: (H, W) m; visible: (H, W) bool, the object's true visible pixels.
        K: (3, 3) of the photo; size: side of the crop, px; rest: see `imperfect_mask`.
    """
    near = _surroundings(visible)
    mask = np.zeros_like(visible)
    mask[near] = imperfect_mask(rng, visible[near], rest=None if rest is None else rest[near])
    window = jittered_window(rng, _window(mask), *mask.shape)
    view = view_of(rgb, depth * visible, mask, K, cam_from_obj, size, window=window)
    return view if view.mask.sum() >= MIN_CROP_PIXELS else None


def view_of(
    rgb: np.ndarray,
    depth: np.ndarray,
    mask: np.ndarray,
    K: np.ndarray,
    cam_from_obj: np.ndarray,
    size: int,
    *,
    window: np.ndarray,
) -> View:
    """`utils.crop.crop_views` for a window (4,) px of one image in numpy's layout: rgb (H, W, 3) uint8.

    OpenCV resizes colours to the same values, rounded to bytes, in a fraction of the time.
    """
    left, top, right, bottom = window.tolist()
    inside, scale = np.s_[top:bottom, left:right], size / (right - left)
    crop_from_window = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1]])
    K = np.array(K, dtype=np.float64)
    K[:2, 2] -= left, top
    resized = cv2.resize(rgb[inside], (size, size), interpolation=cv2.INTER_LINEAR)
    pixels = window_pixels(torch.tensor([[0, 0, right - left, bottom - top]]), size)
    shown, surface = (torch.from_numpy(np.ascontiguousarray(x[inside], np.float32)) for x in (mask, depth))
    return View(
        rgb=colours_of(resized),
        mask=(sample(shown[None, None], pixels, mode="nearest")[0, 0] > 0.5).unflatten(0, (size, size)),
        K=torch.from_numpy(crop_from_window @ K).float(),
        depth=sample_depth(surface[None], pixels)[0].unflatten(0, (size, size)),
        cam_from_obj=torch.from_numpy(np.asarray(cam_from_obj, dtype=np.float32)),
    )


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _window(mask: np.ndarray) -> np.ndarray:
    return square_boxes(torch.tensor([_box(mask)]), *mask.shape)[0].numpy()


def _surroundings(mask: np.ndarray) -> tuple[slice, slice]:
    """The part of an image that holds a mask and as much beside it as a mistake may reach."""
    left, top, right, bottom = _box(mask)
    reach = max(right - left, bottom - top) // 4 + 2
    return np.s_[max(top - reach, 0) : bottom + reach, max(left - reach, 0) : right + reach]


def imperfect_mask(rng: Rng, mask: np.ndarray, *, rest: np.ndarray | None = None) -> np.ndarray:
    """A mask (H, W) bool as a detector may draw it; a quarter of them stay as they are.

    A tenth become their whole box, which is all that some detectors give.

    rest: (H, W) bool, pixels of things that a detector may take for part of the object; all if not given.
    """
    kind = rng.random()
    if kind < PERFECT_SHARE:
        return mask
    if kind > 1 - BOX_SHARE:
        left, top, right, bottom = _box(mask)
        changed = np.zeros_like(mask)
        changed[top:bottom, left:right] = True
        return changed
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


def jittered_window(rng: Rng, window: np.ndarray, height: int, width: int) -> np.ndarray:
    """A square window (4,) px as boxes of detectors are: half of them moved and scaled a little.

    It stays inside the image of height x width px, as all windows of photos do.
    """
    if rng.random() < 0.5:
        return window
    corner, end = window[:2], window[2:]
    side = (end[0] - corner[0]) * rng.uniform(0.9, 1.25)
    centre = (corner + end) / 2 + rng.uniform(-0.06, 0.06, 2) * side
    side = int(np.clip(round(side), 1, min(height, width)))
    moved = np.clip(np.round(centre - side / 2), 0, [width - side, height - side]).astype(int)
    return np.concatenate([moved, moved + side])


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
