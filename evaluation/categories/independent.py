"""Average precision of boxes and of poses, each by itself: the tables of NOCS.

An estimate is right about the box if its IoU exceeds a threshold. Of poses only those count whose estimate
and truth are matched at a low IoU: what is not matched is neither wrong nor missed. A stricter rule of IoU
can therefore raise the precision of poses.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from picopose.evaluation.categories.average_precision import pooled_precision
from picopose.evaluation.categories.pairs import Group, by_class
from picopose.evaluation.recall import match

IOUS = (0.10, 0.25, 0.50, 0.75)
DEGREES = (5.0, 10.0, 360.0)
CENTIMETRES = (2.0, 5.0, 100.0)
_POSED = 0.10  # IoU of what takes part in the precision of poses


@dataclass(frozen=True, eq=False)
class IndependentPrecision:
    """Average precision of each of the C `CLASSES`; NaN for one with estimates but without truths.

    Attributes:
        boxes (C, 4): at `IOUS`. poses (C, 3, 3): within `DEGREES` and `CENTIMETRES`.
    """

    boxes: np.ndarray
    poses: np.ndarray


def independent_precision(groups: list[Group]) -> IndependentPrecision:
    """That of the groups of a set of images."""
    return IndependentPrecision(box_precision(groups, IOUS), pose_precision(groups, DEGREES, CENTIMETRES))


def box_precision(groups: list[Group], ious: Sequence[float]) -> np.ndarray:
    """Average precision (C, T) of the boxes of each class at some IoUs."""
    return np.stack([_box_precision(some, np.asarray(ious)) for some in by_class(groups)])


def pose_precision(groups: list[Group], degrees: Sequence[float], centimetres: Sequence[float]) -> np.ndarray:
    """Average precision (C, D, S) of the poses of each class within every pair of limits."""
    turn, shift = (limits.ravel() for limits in np.meshgrid(degrees, centimetres, indexing="ij"))
    of_classes = np.stack([_pose_precision(some, turn, shift) for some in by_class(groups)])
    return of_classes.reshape(-1, len(degrees), len(centimetres))


def _box_precision(groups: list[Group], thresholds: np.ndarray) -> np.ndarray:
    """Average precision (T,) of the boxes of one class."""
    hits = [_box_matches(group, thresholds) >= 0 for group in groups]
    scores = [group.scores for group in groups]
    return pooled_precision(hits, scores, sum(group.ious.shape[1] for group in groups), len(thresholds))


def _box_matches(group: Group, thresholds: np.ndarray) -> np.ndarray:
    """The truth (E, T) of each estimate: the free one of the highest IoU; -1 if no threshold is exceeded."""
    errors = np.repeat(-group.ious[:, :, None], len(thresholds), axis=2)
    return match(errors, -thresholds, np.ones(errors.shape[1], bool))


def _pose_precision(groups: list[Group], turn: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Average precision (T,) of the poses of one class within T limits of degrees and of cm."""
    hits, scores = [], []
    for group in groups:
        matched = _box_matches(group, np.array([_POSED]))[:, 0]
        rows, columns = np.flatnonzero(matched >= 0), np.sort(matched[matched >= 0])
        degrees, centimetres = group.degrees[rows][:, columns], group.centimetres[rows][:, columns]
        hits.append(_pose_hits(degrees, centimetres, turn, shift))
        scores.append(group.scores[rows])
    # As many truths as estimates take part.
    return pooled_precision(hits, scores, sum(map(len, scores)), len(turn))


def _pose_hits(
    degrees: np.ndarray, centimetres: np.ndarray, turn: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """Whether (E, T) each estimate finds a free truth within the limits: that of least degrees + cm."""
    within = (degrees[:, :, None] <= turn) & (centimetres[:, :, None] <= shift)
    errors = np.where(within, (degrees + centimetres)[:, :, None], np.inf)
    return match(errors, np.full(len(turn), np.inf), np.ones(degrees.shape[1], bool)) >= 0
