"""Turns a scored run on categories into report.html; `report_page/categories.html` lays it out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from picopose.datasets.bop.image_result import ImageResult
from picopose.datasets.nocs.layout import CLASSES, find_frame
from picopose.datasets.nocs.test_set import NocsTestSet
from picopose.evaluation.cases import select
from picopose.evaluation.categories import curves
from picopose.evaluation.categories.cases import Case, find_cases
from picopose.evaluation.categories.pictures import BoxPictures, draw_case
from picopose.evaluation.categories.results import Results
from picopose.evaluation.categories.scores import Scores
from picopose.evaluation.categories.tables import NOTES, absent_note
from picopose.evaluation.report_parts import Chart, timing_of, write_page

WORST, BEST, SAMPLE = 12, 6, 6  # cases that are shown
_MEAN = "mean"
# Name, what is drawn over and what is labelled of the curves.
_CURVES = {
    "boxes": ("Boxes", "IoU", curves.IOUS, curves.IOUS[::25]),
    "rotations": ("Rotation", "degrees", curves.DEGREES, curves.DEGREES[::10]),
    "translations": (
        "Translation",
        "cm",
        curves.CENTIMETRES,
        curves.CENTIMETRES[::10],
    ),
}


@dataclass(frozen=True)
class CasePage:
    """One case with its pictures."""

    case: Case
    image: str
    score: float | None  # None without an estimate
    pictures: BoxPictures


def write_report(
    path: Path,
    dataset: NocsTestSet,
    results: Results,
    scores: Scores,
    done: Sequence[ImageResult],
    *,
    config: str,
) -> None:
    """Writes the report.

    Args:
        done: what the journal says of the images.
        config: the run's configuration, to be shown.
    """
    cases = find_cases(results)
    names = [name for name, there in zip(CLASSES, scores.present, strict=True) if there]
    write_page(
        path,
        "categories.html",
        name=dataset.name,
        scores=scores,
        classes=CLASSES,
        charts={mode: _charts(scores, found.curves) for mode, found in scores.modes.items()},
        colours={name: f"s{CLASSES.index(name)}" for name in names} | {_MEAN: _MEAN},
        notes=list(filter(None, [absent_note(scores), *NOTES])),
        timing=timing_of(np.array([each.seconds for each in done]), [each.phases for each in done]),
        cases=[
            _case_page(case, results, dataset)
            for case in select(cases, worst=WORST, best=BEST, sample=SAMPLE)
        ],
        total=len(cases),
        config=config,
    )


def _charts(scores: Scores, found: curves.Curves) -> list[Chart]:
    """One for boxes, rotations and translations, with a curve for each class that is present."""
    charts = []
    for kind, (name, unit, thresholds, ticks) in _CURVES.items():
        of_class = getattr(found, kind)
        shown = {CLASSES[i]: of_class[i].tolist() for i in np.flatnonzero(scores.present).tolist()}
        if shown:
            shown[_MEAN] = of_class[scores.present].mean(axis=0).tolist()
        caption, label = f"average precision over {unit}", f"Average precision over the thresholds of {name}"
        charts.append(Chart(name, caption, label, thresholds.tolist(), ticks.tolist(), shown))
    return charts


def _case_page(case: Case, results: Results, dataset: NocsTestSet) -> CasePage:
    image = results.images[case.image]
    score = None if case.estimate is None else float(results.estimates.scores[case.estimate])
    return CasePage(case, image, score, draw_case(case, results, find_frame(dataset.folder, image)))
