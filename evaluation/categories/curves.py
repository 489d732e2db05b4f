"""Average precision over its thresholds: the curves of NOCS (Wang et al., CVPR 2019, figure 8)."""

from dataclasses import dataclass

import numpy as np

from picopose.evaluation.categories.independent import box_precision, pose_precision
from picopose.evaluation.categories.pairs import Group

IOUS = np.linspace(0, 1, 101)
DEGREES = np.linspace(0, 60, 61)
CENTIMETRES = np.linspace(0, 10, 51)
_ANY_DEGREES, _ANY_CENTIMETRES = 360.0, 100.0  # as the tables of NOCS leave one of both open


@dataclass(frozen=True, eq=False)
class Curves:
    """Average precision of each of the C `CLASSES`.

    Attributes:
        boxes (C, 101): over `IOUS`. rotations (C, 61): over `DEGREES`, within 100 cm.
        translations (C, 51): over `CENTIMETRES`, whatever the rotation.
    """

    boxes: np.ndarray
    rotations: np.ndarray
    translations: np.ndarray


def curves(groups: list[Group]) -> Curves:
    """Those of the groups of a set of images."""
    return Curves(
        box_precision(groups, IOUS),
        pose_precision(groups, DEGREES, [_ANY_CENTIMETRES])[:, :, 0],
        pose_precision(groups, [_ANY_DEGREES], CENTIMETRES)[:, 0],
    )
