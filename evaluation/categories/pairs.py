"""Estimates and truths of one class in one image, and what every pair of them measures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from picopose.datasets.nocs.layout import CLASSES
from picopose.evaluation.categories.average_precision import best_first
from picopose.evaluation.categories.box_iou import IouMode, ious
from picopose.evaluation.categories.instances import Estimates, Truths
from picopose.evaluation.categories.pose_errors import centimetres, degrees, relative_shifts


@dataclass(frozen=True, eq=False)
class Group:
    """The E estimates, best score first, and the G truths of one class in one image.

    Attributes:
        class_id: from 1. scores (E,). ious, degrees, centimetres (E, G).
        relative_shifts (E, G): shares of the true box's diagonal.
    """

    class_id: int
    scores: np.ndarray
    ious: np.ndarray
    degrees: np.ndarray
    centimetres: np.ndarray
    relative_shifts: np.ndarray


def measured_groups(estimates: Estimates, truths: Truths, mode: IouMode) -> list[Group]:
    """The groups by class and image; each measure is taken once, of the pairs of all groups together."""
    rows = list(rows_by_class_and_image(estimates, truths))
    pairs = np.concatenate([np.empty((0, 2), int), *(_pairs(*both) for _, *both in rows)])
    with np.errstate(invalid="ignore"):  # estimates of a network that has diverged are NaN
        measures = [
            ious(estimates, truths, pairs, mode),
            *(measure(estimates, truths, pairs) for measure in (degrees, centimetres, relative_shifts)),
        ]
    groups, start = [], 0
    for class_id, estimated, true in rows:
        shape = len(estimated), len(true)
        end = start + shape[0] * shape[1]
        tables = (values[start:end].reshape(shape) for values in measures)
        groups.append(Group(class_id, estimates.scores[estimated], *tables))
        start = end
    return groups


def by_class(groups: list[Group]) -> list[list[Group]]:
    """The groups of each of the C `CLASSES`."""
    return [[group for group in groups if group.class_id == 1 + row] for row in range(len(CLASSES))]


def rows_by_class_and_image(
    estimates: Estimates, truths: Truths
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Class, rows of estimates (best score first) and rows of truths of each class in each image."""
    order = best_first(estimates.scores)
    estimated = _by_class_and_image(estimates.classes, estimates.image, order)
    true = _by_class_and_image(truths.classes, truths.image, np.arange(len(truths.classes)))
    nothing = np.empty(0, int)
    for key in sorted(estimated.keys() | true.keys()):
        yield key[0], estimated.get(key, nothing), true.get(key, nothing)


def _by_class_and_image(
    classes: np.ndarray, images: np.ndarray, order: np.ndarray
) -> dict[tuple[int, int], np.ndarray]:
    """The rows of each class in each image, in a given order."""
    found = {}
    for row in order.tolist():
        found.setdefault((int(classes[row]), int(images[row])), []).append(row)
    return {key: np.array(rows) for key, rows in found.items()}


def _pairs(estimated: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Every row of one with every row of the other (E G, 2), the latter changing quicker."""
    return np.column_stack([estimated.repeat(len(true)), np.tile(true, len(estimated))])
