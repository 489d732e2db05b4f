"""Intersection over union of boxes, in three ways.

`legacy` is what the published tables were made with: the smallest and the largest of x, y and z of each
corner give 8 intervals, as if they were the sides of a box of 8 dimensions. `correct` takes the boxes along
the camera's axes around both boxes, as NOCS describes it. `oriented` takes the boxes themselves, exactly.
"""

from typing import Literal

import numpy as np

from picopose.evaluation.categories.boxes import Boxes, turned
from picopose.evaluation.categories.instances import Estimates, Truths
from picopose.evaluation.categories.overlap import common_volumes

IouMode = Literal["legacy", "correct", "oriented"]
_TURNS = 20
_CHUNK = 4096  # pairs at once, for the memory


def ious(estimates: Estimates, truths: Truths, pairs: np.ndarray, mode: IouMode) -> np.ndarray:
    """IoU (M,) of pairs (M, 2) of rows of estimates and of truths.

    Where any turn about the y axis looks the same, it is the largest of 20 turns of the estimate.
    """
    parts = np.array_split(pairs, max(1, -(-len(pairs) // _CHUNK)))
    return np.concatenate([_largest(estimates, truths, part, mode) for part in parts])


def _largest(estimates: Estimates, truths: Truths, pairs: np.ndarray, mode: IouMode) -> np.ndarray:
    poses, sizes = estimates.poses[pairs[:, 0]], estimates.sizes[pairs[:, 0]]
    boxes = Boxes.of(truths.poses[pairs[:, 1]], truths.sizes[pairs[:, 1]])
    found = box_ious(Boxes.of(poses, sizes), boxes, mode)
    free = np.flatnonzero(truths.turns_freely[pairs[:, 1]])
    # Half a turn maps a box to itself; only the legacy rule, which numbers the corners, sees a difference.
    for turn in range(1, _TURNS if mode == "legacy" else _TURNS // 2):
        angle = 2 * np.pi * turn / _TURNS
        again = box_ious(Boxes.of(turned(poses[free], angle), sizes[free]), boxes[free], mode)
        found[free] = np.maximum(found[free], again)
    return found


def box_ious(first: Boxes, second: Boxes, mode: IouMode) -> np.ndarray:
    """IoU (M,) of M pairs of boxes; 0 where neither has a volume."""
    if mode == "oriented":
        common, volumes = common_volumes(first, second), first.volumes + second.volumes
    else:
        axis = {"legacy": 2, "correct": 1}[mode]
        common, volumes = _common_intervals(first.corners, second.corners, axis)
    union = volumes - common
    return np.divide(common, union, out=np.zeros_like(union), where=union > 0)


def _common_intervals(first: np.ndarray, second: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Products (M,) of what intervals along an axis of corners (M, 8, 3) share; those of both, added."""
    lows, highs = zip(*((corners.min(axis), corners.max(axis)) for corners in (first, second)), strict=True)
    common = np.maximum(np.minimum(*highs) - np.maximum(*lows), 0).prod(axis=1)
    volumes = [(high - low).prod(axis=1) for low, high in zip(lows, highs, strict=True)]
    return common, sum(volumes)
