"""Imitates a segmenter's detections: imperfect masks, some missing, some false.

They have the format of BOP's CNOS detections.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco

from tools.mini_set.bop_files import segmentation

MIN_VISIBLE = 0.1  # share of an instance that must be visible for it to be found


def imperfect(rng: np.random.Generator, mask: np.ndarray, others: np.ndarray) -> np.ndarray:
    """A mask (H, W) bool that deviates from the true one like a segmenter's.

    Its outline is shifted and uneven; some masks have holes, lack a piece or include bits of `others`, the
    mask of neighbouring things.
    """
    height, width = mask.shape
    size = np.sqrt(mask.sum())
    signed = _distance(mask) - _distance(~mask)  # px, positive inside
    waves = cv2.resize(
        rng.normal(size=(height // 10, width // 10)), (width, height), interpolation=cv2.INTER_CUBIC
    )
    result = signed + rng.uniform(0.01, 0.03) * size * waves > rng.normal(0, 0.012) * size
    kind = rng.random()
    if kind < 0.2:
        result &= ~_disc(rng, mask, 0.12 * size) & ~_disc(rng, mask, 0.08 * size)
    elif kind < 0.4:
        result &= _half(rng, mask, rng.uniform(0.1, 0.3))
    elif kind < 0.65:
        result |= others & (_distance(~mask) < 0.15 * size) & _disc(rng, mask, 0.5 * size)
    return result if result.any() else mask


def _distance(mask: np.ndarray) -> np.ndarray:
    """Distance (px) of a mask's pixels to its outside."""
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)


def _disc(rng: np.random.Generator, mask: np.ndarray, radius: float) -> np.ndarray:
    """A disc about a random pixel of the mask."""
    rows, columns = np.nonzero(mask)
    pick = rng.integers(len(rows))
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    return (x - columns[pick]) ** 2 + (y - rows[pick]) ** 2 < radius**2


def _half(rng: np.random.Generator, mask: np.ndarray, share: float) -> np.ndarray:
    """A half plane that excludes a share of the mask's pixels."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    along = x * np.cos(angle) + y * np.sin(angle)
    return along > np.quantile(along[mask], share)


def detect(
    rng: np.random.Generator,
    ids: np.ndarray,
    annotated: Sequence[tuple[int, int]],
    visible: Sequence[float],
    distractors: Sequence[int],
    *,
    mistake: bool,
) -> list[dict[str, Any]]:
    """Detections of one image, without its ids: category_id, score, bbox, segmentation, time.

    ids (H, W): index of the thing at each pixel; annotated: (index, obj_id) of each instance, visible: its
    visible share; distractors: indices of things that are no object. `mistake`: one of them, if large enough,
    is taken for an object.
    """
    things = np.isin(ids, [*(index for index, _ in annotated), *distractors])
    seconds = round(float(rng.uniform(0.2, 0.45)), 4)
    found = []
    for (index, obj_id), share in zip(annotated, visible, strict=True):
        mask = ids == index
        if share < MIN_VISIBLE or not mask.any():
            continue
        estimate = imperfect(rng, mask, things & ~mask)
        overlap = (estimate & mask).sum() / (estimate | mask).sum()
        score = np.clip(0.15 + 0.75 * overlap + rng.normal(0, 0.06), 0.3, 1)
        found.append(_entry(estimate, obj_id, score, seconds))
    large = [index for index in distractors if (ids == index).sum() > 400]
    if mistake and large:
        mask = ids == large[rng.integers(len(large))]
        obj_id = annotated[rng.integers(len(annotated))][1]
        estimate = imperfect(rng, mask, things & ~mask)
        found.append(_entry(estimate, obj_id, rng.uniform(0.3, 0.5), seconds))
    return found


def _entry(mask: np.ndarray, obj_id: int, score: float, seconds: float) -> dict[str, Any]:
    code = segmentation(mask)
    return {
        "category_id": obj_id,
        "score": round(float(score), 4),
        "bbox": [int(side) for side in coco.toBbox(code)],
        "segmentation": code,
        "time": seconds,
    }
