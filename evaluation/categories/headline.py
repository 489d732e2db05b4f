"""The numbers that papers give, by class and as means over classes."""

from dataclasses import dataclass

import numpy as np

from picopose.evaluation.categories import combined, independent
from picopose.evaluation.categories.combined import CombinedPrecision
from picopose.evaluation.categories.independent import IndependentPrecision

_BOXES = (0.25, 0.50, 0.75)
_POSES = ((5.0, 2.0), (5.0, 5.0), (10.0, 2.0), (10.0, 5.0))
_COMBINED = (
    (0.75, 5.0, 0.05),
    (0.75, 10.0, 0.05),
    (0.75, 5.0, 0.10),
    (0.50, 5.0, 0.20),
    (0.50, 10.0, 0.10),
    (0.50, 10.0, 0.20),
)
ALONE = len(_BOXES) + len(_POSES)  # lines of boxes and of poses; those of both together follow


@dataclass(frozen=True, eq=False)
class Line:
    """An average precision, a share: of_class (C,) of each of the C `CLASSES`.

    As in the original that of a class that is absent is 0, or NaN if there are estimates of it.
    """

    name: str
    of_class: np.ndarray

    @property
    def value(self) -> float:
        """The mean over all classes, which is the original's."""
        return float(self.of_class.mean())

    def mean_of(self, present: np.ndarray) -> float:
        """The mean over some classes (C,) bool; NaN over none."""
        return float(self.of_class[present].mean()) if present.any() else np.nan


def headline(alone: IndependentPrecision, together: CombinedPrecision) -> list[Line]:
    """Boxes, then poses, then both together."""
    lines = [Line(f"IoU{100 * iou:.0f}", alone.boxes[:, independent.IOUS.index(iou)]) for iou in _BOXES]
    for degrees, centimetres in _POSES:
        place = independent.DEGREES.index(degrees), independent.CENTIMETRES.index(centimetres)
        lines.append(Line(f"{degrees:.0f}° {centimetres:.0f} cm", alone.poses[:, *place]))
    for iou, degrees, shift in _COMBINED:
        place = (
            combined.DEGREES.index(degrees),
            combined.SHIFTS.index(shift),
            combined.IOUS.index(iou),
        )
        lines.append(Line(f"IoU{100 * iou:.0f} {degrees:.0f}° {shift:.0%}", together.poses[:, *place]))
    return lines
