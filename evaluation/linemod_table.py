"""LINEMOD's table: the share of poses that are right by each of its measures, by object and in the mean.

Every object counts alike in the mean, as in the papers that report it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from picopose.evaluation.pose_measures import PoseMeasures, mean_of_objects
from picopose.evaluation.scoring import Scores

COLUMNS = {
    "ADD(-S) .1d": "add_s_10",
    ".05d": "add_s_05",
    ".02d": "add_s_02",
    "2D 5px": "projection_5px",
    "5cm 5deg": "cm5_deg5",
}


@dataclass(frozen=True)
class Row:
    """One object, or the mean of several."""

    name: str
    targets: int
    shares: tuple[float, ...]  # in the order of `COLUMNS`

    @classmethod
    def of(cls, name: str, measures: PoseMeasures) -> "Row":
        return cls(name, measures.targets, tuple(getattr(measures, field) for field in COLUMNS.values()))


def linemod_rows(scores: Scores) -> list[Row]:
    """The objects of a scored data set, and their mean at the end; none where nothing was measured."""
    if scores.measures is None:
        return []
    _, objects = scores.measures
    rows = [Row.of(scores.models[obj_id].name, measures) for obj_id, measures in objects.items()]
    return [*rows, Row.of("mean", mean_of_objects(objects.values()))]


def linemod_table(scores: Mapping[str, Scores]) -> str:
    """As text, in percent: the objects of one data set and their mean, or the means of several data sets."""
    by_set = {name: rows for name, found in scores.items() if (rows := linemod_rows(found))}
    head, rows = "mean of", [replace(rows[-1], name=name) for name, rows in by_set.items()]
    if len(by_set) == 1:
        head, (rows,) = "object", by_set.values()
    width = max(len(name) for name in (head, *(row.name for row in rows))) + 2
    lines = [f"{head:<{width}}" + "".join(f"{name:>13}" for name in COLUMNS)]
    lines += [f"{row.name:<{width}}" + "".join(f"{100 * s:13.2f}" for s in row.shares) for row in rows]
    return "\n".join(lines)
