"""The numbers that papers give: means over the six classes."""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Line:
    """A mean average precision, a share. Absent classes count 0; NaN if one has estimates but no truths."""

    name: str
    value: float


def headline(alone: IndependentPrecision, together: CombinedPrecision) -> list[Line]:
    """Boxes, then poses, then both together."""
    boxes, poses, combination = (values.mean(axis=0) for values in (alone.boxes, alone.poses, together.poses))
    lines = [Line(f"IoU{100 * iou:.0f}", float(boxes[independent.IOUS.index(iou)])) for iou in _BOXES]
    for degrees, centimetres in _POSES:
        place = independent.DEGREES.index(degrees), independent.CENTIMETRES.index(centimetres)
        lines.append(Line(f"{degrees:.0f}° {centimetres:.0f} cm", float(poses[place])))
    for iou, degrees, shift in _COMBINED:
        place = (
            combined.DEGREES.index(degrees),
            combined.SHIFTS.index(shift),
            combined.IOUS.index(iou),
        )
        lines.append(Line(f"IoU{100 * iou:.0f} {degrees:.0f}° {shift:.0%}", float(combination[place])))
    return lines
