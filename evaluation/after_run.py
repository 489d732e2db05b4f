"""What follows a test run on annotated images: scores on the screen and in scores.json, and report.html.

`run_test.py` ends here; the report is of poses.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from picopose.datasets.bop.scenes import open_scenes
from picopose.evaluation.bop_scores import write_scores
from picopose.evaluation.linemod_table import linemod_table
from picopose.evaluation.regions import RegionScores, score_detections
from picopose.evaluation.regions import table as region_table
from picopose.evaluation.report import write_report
from picopose.evaluation.scoring import ERRORS, Scores, score_csv
from picopose.pipeline.tested_set import SCORE_FILES, TestedSet
from picopose.utils.errors import InputError

_LOG = logging.getLogger(__name__)
_ANNOTATIONS = ("gt", "gt_info", "camera")


def check_truth(tested: TestedSet) -> None:
    """Raises an `InputError` that names the first file which scoring would need and which is not there."""
    scene_ids = sorted({scene_id for scene_id, _ in tested.listed().images})
    scenes = open_scenes(tested.split_dir, scene_ids, tested.camera)
    needed = [scenes[scene_id].table(name) for scene_id in scene_ids for name in _ANNOTATIONS]
    needed += [tested.dataset_dir / "models_eval" / "models_info.json"] if tested.estimates_poses else []
    for path in needed:
        if not path.exists():
            raise InputError(f"{path} not found: to score {tested.name}, download it with the annotations")


def score_run(
    sets: Sequence[TestedSet], run_dir: Path, *, config: str, template_size: int, required: bool = False
) -> dict[str, Scores]:
    """Scores the result files of a run, prints the tables, writes scores.json and of poses a report.

    Args:
        sets: the run's data sets; those without annotations are left out, and said so.
        run_dir: where the files go.
        config: the run's configuration, to be shown.
        template_size: px of the crops that the matches of the side files refer to.
        required: raise an `InputError` where a data set cannot be scored.
    """
    scores: dict[str, Scores] = {}
    regions: dict[str, RegionScores] = {}
    for name in SCORE_FILES:  # of another truth, if they are not made anew
        (run_dir / name).unlink(missing_ok=True)
    for tested in sets:
        try:
            check_truth(tested)
            if tested.detects:
                where = {"targets": tested.targets, "camera": tested.camera}
                regions[tested.name] = score_detections(tested.detections, tested.dataset_dir, **where)
            if tested.estimates_poses:
                scores[tested.name] = score_set(tested, measures=True)
        except InputError as error:
            if required:
                raise
            _LOG.warning("%s is not scored: %s", tested.name, error)
    if regions:
        print(region_table(regions), end="\n\n" if scores else "\n")
    if scores:
        if measured := {name: found for name, found in scores.items() if found.measures}:
            print(linemod_table(measured), end="\n\n")
        print(table(scores))
    if scores or regions:
        content: dict[str, dict] = {name: found.as_json() for name, found in scores.items()}
        for name, found in regions.items():
            content.setdefault(name, {})["detections"] = found.as_json()
        write_scores(content, run_dir / "scores.json")
        _LOG.info("scores: %s", run_dir / "scores.json")
    if scores:
        scored = [(tested, scores[tested.name]) for tested in sets if tested.name in scores]
        write_report(run_dir / "report.html", scored, config=config, template_size=template_size)
        _LOG.info("report: %s", run_dir / "report.html")
    return scores


def score_set(tested: TestedSet, *, measures: bool = False) -> Scores:
    """The scores of a run by the task that its targets are of; see `score_csv`."""
    task = tested.listed().task
    measures = measures and task == "localization"
    where = {"targets": tested.targets, "camera": tested.camera}
    return score_csv(tested.csv, tested.dataset_dir, **where, task=task, measures=measures, all_adds=False)


def table(scores: dict[str, Scores]) -> str:
    """All data sets' average recalls, or precisions in detection, one a line."""
    width = max(map(len, (*scores, "data set")))
    heads = ("AR", "AR_VSD", "AR_MSSD", "AR_MSPD", "s/image")
    lines = [f"{'data set':<{width}}" + "".join(f"{head:>9}" for head in heads)]
    for name, found in scores.items():
        values = [found.average(error) if error in found.errors else None for error in ERRORS]
        cells = [found.mean, *values, found.time_per_image if found.time_per_image >= 0 else None]
        line = "".join(f"{'-' if value is None else format(value, '.4f'):>9}" for value in cells)
        lines.append(f"{name:<{width}}{line}" + _note(found))
    if len(scores) > 1 and all("vsd" in found.errors for found in scores.values()):
        mean = sum(found.mean for found in scores.values()) / len(scores)
        lines.append(f"{'mean':<{width}}{mean:9.4f}")
    return "\n".join(lines)


def _note(scores: Scores) -> str:
    """What the numbers of a line are, where they are not the challenge's AR."""
    if scores.task == "detection":
        return "  mAP of detection"
    return "" if "vsd" in scores.errors else "  AR without VSD"
