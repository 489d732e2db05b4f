"""Average precision of boxes and of poses, each by itself: the tables of NOCS.

An estimate is right about the box if its IoU exceeds a threshold. Of poses only those count whose estimate
and truth are matched at a low IoU: what is not matched is neither wrong nor missed. A stricter rule of IoU
can therefore raise the precision of poses.
"""

from dataclasses import dataclass

import numpy as np

from picopose.evaluation.categories.average_precision import average_precision
from picopose.evaluation.categories.instances import CLASSES
from picopose.evaluation.categories.pairs import Group
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
    of_class = [[group for group in groups if group.class_id == 1 + row] for row in range(len(CLASSES))]
    boxes = np.stack([_box_precision(some) for some in of_class])
    poses = np.stack([_pose_precision(some) for some in of_class])
    return IndependentPrecision(boxes, poses.reshape(-1, len(DEGREES), len(CENTIMETRES)))


def _box_precision(groups: list[Group]) -> np.ndarray:
    """Average precision (4,) of the boxes of one class."""
    hits = [_box_matches(group, np.array(IOUS)) >= 0 for group in groups]
    scores = [group.scores for group in groups]
    return pooled_precision(hits, scores, sum(group.ious.shape[1] for group in groups), len(IOUS))


def _box_matches(group: Group, thresholds: np.ndarray) -> np.ndarray:
    """The truth (E, T) of each estimate: the free one of the highest IoU; -1 if no threshold is exceeded."""
    errors = np.repeat(-group.ious[:, :, None], len(thresholds), axis=2)
    return match(errors, -thresholds, np.ones(errors.shape[1], bool))


def _pose_precision(groups: list[Group]) -> np.ndarray:
    """Average precision (9,) of the poses of one class, limits of cm changing quickest."""
    hits, scores = [], []
    for group in groups:
        matched = _box_matches(group, np.array([_POSED]))[:, 0]
        rows, columns = np.flatnonzero(matched >= 0), np.sort(matched[matched >= 0])
        hits.append(_pose_hits(group.degrees[rows][:, columns], group.centimetres[rows][:, columns]))
        scores.append(group.scores[rows])
    # As many truths as estimates take part.
    return pooled_precision(hits, scores, sum(map(len, scores)), len(DEGREES) * len(CENTIMETRES))


def _pose_hits(degrees: np.ndarray, centimetres: np.ndarray) -> np.ndarray:
    """Whether (E, 9) each estimate finds a free truth within the limits: that of least degrees + cm."""
    turn, shift = (limits.ravel() for limits in np.meshgrid(DEGREES, CENTIMETRES, indexing="ij"))
    within = (degrees[:, :, None] <= turn) & (centimetres[:, :, None] <= shift)
    errors = np.where(within, (degrees + centimetres)[:, :, None], np.inf)
    return match(errors, np.full(len(turn), np.inf), np.ones(degrees.shape[1], bool)) >= 0


def pooled_precision(
    hits: list[np.ndarray], scores: list[np.ndarray], n_truths: int, n_thresholds: int
) -> np.ndarray:
    """Average precision (T,) of the hits (E, T) and scores (E,) of all images together."""
    hits = np.concatenate([np.zeros((0, n_thresholds), bool), *hits])
    return average_precision(hits, np.concatenate([np.empty(0), *scores]), n_truths)
