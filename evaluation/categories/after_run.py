"""What follows a run on categories: its scores on the screen and in scores.json, and report.html."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from picopose.datasets.bop.image_result import ImageResult
from picopose.datasets.nocs.test_set import NocsTestSet
from picopose.evaluation.bop_scores import write_scores
from picopose.evaluation.categories.report import write_report
from picopose.evaluation.categories.results import read_results
from picopose.evaluation.categories.scores import Scores, score
from picopose.evaluation.categories.tables import tables

_LOG = logging.getLogger(__name__)


def score_run(
    dataset: NocsTestSet, folder: Path, done: Sequence[ImageResult], run_dir: Path, *, config: str
) -> Scores:
    """Scores a run's result files.

    Args:
        folder: of the result files.
        done: what the journal says of the images.
        config: the run's configuration, to be shown.
    """
    results = read_results(folder)
    scores = score(results)
    print(tables(scores))
    seconds = float(np.mean([result.seconds for result in done]))
    write_scores({"seconds_per_image": seconds, **scores.as_json()}, run_dir / "scores.json")
    write_report(run_dir / "report.html", dataset, results, scores, done, config=config)
    _LOG.info("scores: %s\nreport: %s", run_dir / "scores.json", run_dir / "report.html")
    return scores
