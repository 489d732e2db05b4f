"""Turns a scored run into report.html: one file that opens without a server and loads nothing from elsewhere.

Here the numbers are gathered; `report_page/page.html` lays them out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from picopose.datasets.bop.image_result import Details
from picopose.datasets.bop.results import Results
from picopose.datasets.bop.side_file import LineDetails
from picopose.evaluation.case_pictures import CasePainter, CasePictures
from picopose.evaluation.cases import Case, false_estimates, find_cases, judgements, select
from picopose.evaluation.eval_models import EvalModel
from picopose.evaluation.linemod_table import COLUMNS, Row, linemod_rows
from picopose.evaluation.recall import THRESHOLDS
from picopose.evaluation.report_parts import Chart, Timing, timing_of, write_page
from picopose.evaluation.scoring import ERRORS, Scores
from picopose.pipeline.tested_set import TestedSet
from picopose.pipeline.verdict import verdict

# Cases that are shown of a whole run, so that the file stays at a few MB.
WORST, BEST, SAMPLE = 100, 20, 40
BINS = 5  # of confidences
_UNITS = {"vsd": "threshold", "mssd": "share of the diameter", "mspd": "px of an image 640 px wide"}


@dataclass(frozen=True)
class Bin:
    """The poses with a confidence in some range."""

    low: float
    high: float
    poses: int
    confidence: float  # mean
    right: float  # share of them


@dataclass(frozen=True)
class SetPage:
    """What the page says of one data set."""

    name: str
    scores: Scores
    timing: Timing | None  # None where the result file gives no times
    reliability: list[Bin]  # empty where poses have no confidence
    linemod: list[Row]  # empty where nothing was measured


@dataclass(frozen=True)
class CasePage:
    """One case with its pictures."""

    case: Case
    pictures: CasePictures
    symmetries: int
    verdict: str | None  # None where the pose has no confidence
    drawn: bool  # the object at its pose is beside the photo, and no template


def write_report(
    path: Path | str,
    scored: Sequence[tuple[TestedSet, Scores]],
    *,
    config: str,
    template_size: int,
) -> None:
    """Writes the report on scored data sets.

    config: the run's configuration, to be shown. template_size: px of the crops that the matches of the side
    files refer to, where it had templates.
    """
    sets, cases, total = [], [], 0
    for tested, scores in scored:
        details = tested.details(len(scores.results))
        found = find_cases(tested.name, scores, details)
        timing, rows = _timing(scores.results, details), linemod_rows(scores)
        bins = reliability(found, false_estimates(scores, details))
        sets.append(SetPage(tested.name, scores, timing, bins, rows))
        cases += _draw_cases(tested, found, scores.models, template_size, share=len(scored))
        total += len(found)
    write_page(
        path,
        "page.html",
        sets=sets,
        charts=_charts(scored),
        colours={tested.name: f"s{index % 8}" for index, (tested, _) in enumerate(scored)},
        infinity=np.inf,
        linemod_columns=list(COLUMNS),
        cases=cases,
        total=total,
        limits={"worst": WORST, "best": BEST, "sample": SAMPLE},
        config=config,
    )


def _draw_cases(
    tested: TestedSet, cases: Sequence[Case], models: dict[int, EvalModel], template_size: int, *, share: int
) -> list[CasePage]:
    """The cases shown of one of `share` data sets."""
    chosen = select(cases, worst=WORST // share, best=BEST // share, sample=SAMPLE // share)
    with CasePainter(tested, models, template_size=template_size) as painter:
        return [
            CasePage(
                case=case,
                pictures=painter.draw(case),
                symmetries=len(models[case.obj_id].symmetries),
                verdict=None if case.confidence is None else verdict(case.confidence),
                drawn=tested.templates is None,
            )
            for case in chosen
        ]


def reliability(cases: Sequence[Case], false: Sequence[Details] = ()) -> list[Bin]:
    """How many of the poses are right that have a confidence in each of equal ranges; empty ones left out.

    false: of the poses of no case, see `evaluation.cases.false_estimates`.
    """
    confidence, right = judgements(cases, false)
    index = np.minimum((BINS * confidence).astype(int), BINS - 1)
    return [
        Bin(
            low=number / BINS,
            high=(number + 1) / BINS,
            poses=int((index == number).sum()),
            confidence=float(confidence[index == number].mean()),
            right=float(right[index == number].mean()),
        )
        for number in np.unique(index).tolist()
    ]


def _timing(results: Results, details: Sequence[LineDetails] | None) -> Timing | None:
    images = np.stack([results.scene_id, results.im_id], axis=1)
    _, first = np.unique(images, axis=0, return_index=True)
    return timing_of(results.time[first], [details[row].phases for row in first.tolist()] if details else [])


def _charts(scored: Sequence[tuple[TestedSet, Scores]]) -> list[Chart]:
    charts = []
    for error in ERRORS:
        curves = {t.name: s.recalls[error] for t, s in scored if error in s.recalls}
        if curves:
            # VSD has a curve for each of its tolerances: their mean is shown.
            means = {name: np.atleast_2d(values).mean(axis=0).tolist() for name, values in curves.items()}
            name, thresholds = error.upper(), THRESHOLDS[error].tolist()
            caption = f"recall over {_UNITS[error]}" + (", all tolerances" if error == "vsd" else "")
            label = f"Recall over the thresholds of {name}"
            charts.append(Chart(name, caption, label, thresholds, thresholds[::3], means))
    return charts
