"""The scores of categories as text."""

from collections.abc import Iterable

import numpy as np

from picopose.datasets.nocs.layout import CLASSES
from picopose.evaluation.categories.headline import ALONE
from picopose.evaluation.categories.scores import Scores

_FIRST, _WIDTH = 16, 10  # characters of the first column and of the others
NOTES = (
    "Papers compare in legacy alone, whose IoU is taken over the wrong axis of the corners; correct takes "
    "boxes along the camera's axes, oriented the boxes themselves.",
    "A stricter IoU can raise the precision of poses: only pairs with an IoU of 0.10 take part in it.",
)


def absent_note(scores: Scores) -> str:
    """What the means are of, where classes are absent; empty where none is."""
    absent = [name for name, there in zip(CLASSES, scores.present, strict=True) if not there]
    if not absent:
        return ""
    count = len(CLASSES) - len(absent)
    return (
        f"There is no {', no '.join(absent)}: the mean over the {count} classes present leaves them out. The "
        "original's over all six counts them as 0, and cannot be told (-) where something is taken for one."
    )


def tables(scores: Scores) -> str:
    """The means by all rules of IoU side by side, and by each the precision of every class."""
    notes = "\n".join(filter(None, [absent_note(scores), *NOTES]))
    classes = [_classes(scores, mode) for mode in scores.modes]
    return "\n\n".join(filter(None, [_means(scores), *classes, errors_line(scores), notes]))


def errors_line(scores: Scores) -> str:
    """The typical errors; empty where there are none."""
    if scores.errors is None:
        return ""
    median, mean = (
        f"{errors.degrees:.2f} degrees, {errors.centimetres:.2f} cm, oriented IoU {100 * errors.iou:.1f} %"
        for errors in (scores.errors.median, scores.errors.mean)
    )
    return f"Errors of {scores.errors.objects} objects with an estimate: median {median}; mean {mean}."


def percent(value: float) -> str:
    """With a dash for what cannot be said."""
    return f"{100 * value:.1f}" if np.isfinite(value) else "-"


def _means(scores: Scores) -> str:
    """A line a measure, a column a rule of IoU; twice where classes are absent."""
    complete, count = scores.present.all(), int(scores.present.sum())
    title = f"{scores.images} images, {scores.truths.sum()} objects, {scores.estimates.sum()} estimates"
    heads = list(scores.modes)
    lines = [f"{title}: mean average precision, %"]
    if not complete:
        over = f"{f'of the {count} present':>{_WIDTH * len(heads)}}{'of all six':>{_WIDTH * len(heads)}}"
        lines.append(" " * _FIRST + over)
        heads *= 2
    lines.append(_line("", heads))
    for places in zip(*(found.lines for found in scores.modes.values()), strict=True):
        values = [] if complete else [line.mean_of(scores.present) for line in places]
        lines.append(_line(places[0].name, map(percent, [*values, *(line.value for line in places)])))
    return "\n".join(lines)


def _classes(scores: Scores, mode: str) -> str:
    """A line a class, the last their mean, a column a measure of boxes or of poses."""
    found = scores.modes[mode].lines[:ALONE]
    lines = [f"{mode}: average precision, %", _line("", [*(line.name for line in found), "objects"])]
    for i, name in enumerate(CLASSES):
        values = [percent(line.of_class[i]) if scores.present[i] else "-" for line in found]
        lines.append(_line(name, [*values, str(scores.truths[i])]))
    over = "mean" if scores.present.all() else f"mean of {scores.present.sum()}"
    means = [percent(line.mean_of(scores.present)) for line in found]
    lines.append(_line(over, [*means, str(scores.truths.sum())]))
    return "\n".join(lines)


def _line(first: str, cells: Iterable[str]) -> str:
    return f"{first:<{_FIRST}}" + "".join(f"{cell:>{_WIDTH}}" for cell in cells)
