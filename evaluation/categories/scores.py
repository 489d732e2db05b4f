"""The scores of a set of images: both precisions, their curves and headlines, by each rule of IoU."""

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any, get_args

import numpy as np

from picopose.datasets.nocs.layout import CLASSES
from picopose.evaluation.categories.box_iou import IouMode
from picopose.evaluation.categories.cases import Errors, find_cases
from picopose.evaluation.categories.combined import combined_precision
from picopose.evaluation.categories.curves import Curves, curves
from picopose.evaluation.categories.headline import Line, headline
from picopose.evaluation.categories.independent import independent_precision
from picopose.evaluation.categories.pairs import measured_groups
from picopose.evaluation.categories.results import Results

MODES: tuple[IouMode, ...] = get_args(IouMode)


@dataclass(frozen=True, eq=False)
class ModeScores:
    """The scores by one rule of IoU."""

    lines: list[Line]
    curves: Curves


@dataclass(frozen=True)
class TypicalErrors:
    """Of the annotated objects that an estimate stands for, see `cases.find_cases`."""

    objects: int
    median: Errors
    mean: Errors


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of a set of images.

    Attributes:
        images: their number. truths (C,), estimates (C,): numbers of each of the C `CLASSES`.
        modes: by rule of IoU. errors: None without estimates of annotated objects.
    """

    images: int
    truths: np.ndarray
    estimates: np.ndarray
    modes: dict[IouMode, ModeScores]
    errors: TypicalErrors | None

    @property
    def present(self) -> np.ndarray:
        """Which classes (C,) have truths; of the others nothing can be said."""
        return self.truths > 0

    def as_json(self) -> dict[str, Any]:
        """For scores.json: shares."""
        of_classes = range(len(CLASSES))
        return {
            "images": self.images,
            "truths": {CLASSES[i]: int(self.truths[i]) for i in of_classes},
            "estimates": {CLASSES[i]: int(self.estimates[i]) for i in of_classes},
            "errors": None if self.errors is None else asdict(self.errors),
            "mean_of_all_classes": self._means(lambda line: line.value),
            "mean_of_present_classes": self._means(lambda line: line.mean_of(self.present)),
            "classes": {
                CLASSES[i]: self._means(lambda line, i=i: float(line.of_class[i]))
                for i in np.flatnonzero(self.present).tolist()
            },
        }

    def _means(self, value) -> dict[str, dict[str, float]]:
        return {mode: {line.name: value(line) for line in found.lines} for mode, found in self.modes.items()}


def score(results: Results, modes: Sequence[IouMode] = MODES) -> Scores:
    """The scores by some rules of IoU."""
    return Scores(
        len(results.images),
        _counts(results.truths.classes),
        _counts(results.estimates.classes),
        {mode: _mode_scores(results, mode) for mode in modes},
        typical_errors(results),
    )


def typical_errors(results: Results) -> TypicalErrors | None:
    found = [astuple(case.errors) for case in find_cases(results) if case.errors is not None]
    table = np.array(found).reshape(-1, len(fields(Errors)))
    table = table[np.isfinite(table).all(axis=1)]  # poses without scale have no rotation
    if len(table) == 0:
        return None
    median, mean = (Errors(*map(float, row)) for row in (np.median(table, axis=0), table.mean(axis=0)))
    return TypicalErrors(len(table), median, mean)


def _mode_scores(results: Results, mode: IouMode) -> ModeScores:
    groups = measured_groups(results.estimates, results.truths, mode)
    return ModeScores(headline(independent_precision(groups), combined_precision(groups)), curves(groups))


def _counts(classes: np.ndarray) -> np.ndarray:
    return np.bincount(classes, minlength=1 + len(CLASSES))[1:]
