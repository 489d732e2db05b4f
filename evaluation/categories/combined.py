"""Average precision of box, rotation and translation together (DualPoseNet, Lin et al., ICCV 2021)."""

from dataclasses import dataclass

import numpy as np

from picopose.evaluation.categories.average_precision import pooled_precision
from picopose.evaluation.categories.pairs import Group, by_class

IOUS = (0.25, 0.50, 0.75)
DEGREES = (5.0, 10.0, 20.0, 360.0)
SHIFTS = (0.05, 0.10, 0.20, 100.0)  # shares of the true box's diagonal
_SHAPE = len(DEGREES), len(SHIFTS), len(IOUS)


@dataclass(frozen=True, eq=False)
class CombinedPrecision:
    """Average precision (C, 4, 4, 3) of each of the C `CLASSES` within `DEGREES`, `SHIFTS` and at `IOUS`.

    NaN for a class with estimates but without truths.
    """

    poses: np.ndarray


def combined_precision(groups: list[Group]) -> CombinedPrecision:
    """That of the groups of a set of images."""
    return CombinedPrecision(np.stack([_precision(some).reshape(_SHAPE) for some in by_class(groups)]))


def _precision(groups: list[Group]) -> np.ndarray:
    """Average precision (T,) of one class for all limits, in the order of the record."""
    n_truths = sum(group.ious.shape[1] for group in groups)
    hits, scores = [_hits(group) for group in groups], [group.scores for group in groups]
    return pooled_precision(hits, scores, n_truths, int(np.prod(_SHAPE)))


def _hits(group: Group) -> np.ndarray:
    """Whether (E, T) each estimate meets all limits for the free truth of the highest IoU, and takes it."""
    turn, shift, iou = (limits.ravel() for limits in np.meshgrid(DEGREES, SHIFTS, IOUS, indexing="ij"))
    hits = np.zeros((len(group.scores), len(turn)), bool)
    if group.ious.shape[1] == 0:
        return hits
    free = np.ones((group.ious.shape[1], len(turn)), bool)
    thresholds = np.arange(len(turn))
    for row in range(len(hits)):
        best = np.where(free, group.ious[row][:, None], -1).argmax(axis=0)
        within = (group.degrees[row, best] <= turn) & (group.relative_shifts[row, best] <= shift)
        hits[row] = within & (group.ious[row, best] >= iou) & free[best, thresholds]
        free[best[hits[row]], thresholds[hits[row]]] = False
    return hits
