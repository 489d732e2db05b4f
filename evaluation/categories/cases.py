"""Annotated objects, each with the estimate that stands for it, for the report's pictures."""

from dataclasses import dataclass

import numpy as np

from picopose.datasets.nocs.layout import CLASSES
from picopose.evaluation.categories.box_iou import ious
from picopose.evaluation.categories.instances import Estimates, Truths
from picopose.evaluation.categories.pairs import rows_by_class_and_image
from picopose.evaluation.categories.pose_errors import centimetres, degrees
from picopose.evaluation.categories.results import Results
from picopose.evaluation.recall import match


@dataclass(frozen=True)
class Errors:
    """How far an estimate is from the truth."""

    iou: float  # oriented
    degrees: float  # NaN of a pose without scale
    centimetres: float


@dataclass(frozen=True)
class Case:
    """An annotated object; its rows and that of its estimate are those of the results."""

    image: int
    class_id: int
    truth: int
    estimate: int | None
    errors: Errors | None  # None without an estimate

    @property
    def name(self) -> str:
        return CLASSES[self.class_id - 1]

    @property
    def badness(self) -> tuple[float, float]:
        """By which cases are ranked: IoU, and cm where that is equal; a missing estimate is worst."""
        return (np.inf, np.inf) if self.errors is None else (-self.errors.iou, self.errors.centimetres)


def find_cases(results: Results) -> list[Case]:
    """All annotated objects, by image.

    Of the estimates of its class each takes the nearest free object, best score first.
    """
    estimates, truths = results.estimates, results.truths
    taken = dict(pair for rows in _rows(results) for pair in _nearest(estimates, truths, *rows))
    pairs = np.array([(estimate, truth) for truth, estimate in taken.items()], int).reshape(-1, 2)
    with np.errstate(invalid="ignore"):
        measures = (
            ious(estimates, truths, pairs, "oriented"),
            degrees(estimates, truths, pairs),
            centimetres(estimates, truths, pairs),
        )
    errors = {
        truth: Errors(*map(float, row)) for truth, row in zip(taken, zip(*measures, strict=True), strict=True)
    }
    images, classes = truths.image.tolist(), truths.classes.tolist()
    return [
        Case(images[row], classes[row], row, taken.get(row), errors.get(row)) for row in range(len(images))
    ]


def _rows(results: Results) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of the estimates and of the truths of a class in an image, of which there are some."""
    groups = rows_by_class_and_image(results.estimates, results.truths)
    return [(estimated, true) for _, estimated, true in groups if len(estimated) and len(true)]


def _nearest(
    estimates: Estimates, truths: Truths, estimated: np.ndarray, true: np.ndarray
) -> list[tuple[int, int]]:
    """Rows of truths with those of their estimates."""
    shift = estimates.poses[estimated][:, None, :3, 3] - truths.poses[true][None, :, :3, 3]
    found = match(np.linalg.norm(shift, axis=2)[:, :, None], np.array([np.inf]), np.ones(len(true), bool))
    return [
        (int(true[place]), int(row)) for place, row in zip(found[:, 0], estimated, strict=True) if place >= 0
    ]
