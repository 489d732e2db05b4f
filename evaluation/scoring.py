"""Scores a BOP result file: recalls of VSD, MSSD and MSPD (BOP-Classic) or average precision (BOP 2024).

`evaluation.bop_scores` is the command around it.
"""

import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from picopose.datasets.bop import MM
from picopose.datasets.bop.results import Results, doubts, read_results
from picopose.datasets.bop.targets import find_targets
from picopose.datasets.layouts import bop_test_split
from picopose.evaluation.detection import object_average_precisions
from picopose.evaluation.eval_models import EvalModel, load_models
from picopose.evaluation.ground_truth import GroundTruth, load_ground_truth
from picopose.evaluation.groups import Group, groups_of, places_by_key
from picopose.evaluation.pair_errors import PairErrors, pair_errors, split_by_group
from picopose.evaluation.pose_measures import PoseMeasures, mean_of_objects, pose_measures
from picopose.evaluation.recall import THRESHOLDS, match_groups, recalls
from picopose.utils.errors import InputError

_LOG = logging.getLogger(__name__)
ERRORS = ("vsd", "mssd", "mspd")
PROTOCOLS = {"localization": "bop19", "detection": "bop24"}  # by task
_AVERAGES = {"localization": "bop19_average_recall", "detection": "bop24_mAP"}
_VSD_DELTA_MM = {"itodd": 5.0}  # the others: 15
_FOLDERS = {"hbs": "hb"}  # data sets that lie in another's folder
_MM_THRESHOLDS = np.arange(2.0, 21.0, 2.0)  # of the detection task's MSSD


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of one result file, the errors behind them, and what was compared."""

    dataset: str
    task: str  # "localization" or "detection"
    errors: tuple[str, ...]  # of `ERRORS`
    summary: dict[str, float]  # by the official toolkit's names; NaN = not defined
    recalls: dict[str, np.ndarray]  # localization: vsd (10 taus, 10 thetas), mssd (10,), mspd (10,)
    objects: dict[int, dict[str, float]]  # "targets", each error's AR (AP in detection) and their "mean"
    scenes: dict[int, dict[str, float]]  # localization: the same per scene
    results: Results
    groups: list[Group]
    models: dict[int, EvalModel]
    pairs: PairErrors
    # Of all targets and of each object's, if they were asked for and there are any.
    measures: tuple[PoseMeasures, dict[int, PoseMeasures]] | None

    def average(self, error: str) -> float:
        """Average recall or, in detection, mean average precision of one error."""
        return self.summary[f"{_AVERAGES[self.task]}_{error}"]

    @property
    def mean(self) -> float:
        """The challenge's AR or mAP; of localization without depth images the mean of MSSD's and MSPD's."""
        return float(np.mean([self.average(error) for error in self.errors]))

    @property
    def time_per_image(self) -> float:
        """s; -1 or NaN where it is not known."""
        return self.summary[f"{PROTOCOLS[self.task]}_average_time_per_image"]

    def as_json(self) -> dict[str, Any]:
        """The content of scores.json."""
        content = {"dataset": self.dataset, "task": self.task, "errors": list(self.errors), **self.summary}
        content |= {"recalls": {name: values.tolist() for name, values in self.recalls.items()}}
        content |= {"objects": self.objects, "scenes": self.scenes}
        if self.measures is not None:
            overall, objects = self.measures
            told = {"all": overall, "mean of objects": mean_of_objects(objects.values()), **objects}
            content["measures"] = {key: asdict(measures) for key, measures in told.items()}
        return content


def score_csv(
    csv: Path | str,
    dataset_dir: Path | str,
    *,
    targets: Path | str | None = None,
    camera: str | None = None,
    errors: Sequence[str] | None = None,
    task: str = "localization",
    vsd_delta: float | None = None,
    measures: bool = False,
    all_adds: bool = True,
) -> Scores:
    """Scores a BOP result file; warns of what is doubtful in it.

    dataset_dir: folder with models_eval, the target list and the test images' annotations. targets: another
    target list. camera: of a data set with several, see `datasets.bop.scenes.open_scenes`. errors: some of
    `ERRORS`; by default all that the task has and the data allow (VSD needs depth images). vsd_delta:
    tolerance of VSD's visibility test in mm; by default the data set's. measures: also ADD and its like;
    all_adds: see `pose_measures`.
    Raises `InputError` for files that are missing, damaged or against the rules.
    """
    csv, dataset_dir = Path(csv), Path(dataset_dir)
    dataset = dataset_dir.resolve().name
    delta = MM * (_VSD_DELTA_MM.get(dataset, 15.0) if vsd_delta is None else vsd_delta)
    if not 0 < delta < math.inf:
        raise InputError(f"vsd_delta {vsd_delta:g}: give a positive number of mm")
    results = read_results(csv)
    targets = Path(targets) if targets else find_targets(dataset_dir, task)
    split_dir, per_object = dataset_dir / _split(csv, dataset_dir), task == "localization"
    truth = load_ground_truth(split_dir, targets, per_object=per_object, camera=camera)
    errors = _chosen_errors(errors, task, truth)
    for doubt in (*doubts(results), *_foreign(results, truth, task)):
        _LOG.warning("%s: %s", csv, doubt)
    groups = groups_of(task, results, truth, dataset)
    if not groups:
        raise InputError(f"{targets}: nothing is annotated in its images: pass another list")
    models = load_models(dataset_dir, sorted({group.obj_id for group in groups}))
    pairs = pair_errors(groups, results, models, errors, vsd_delta=delta)
    by_group = {name: _normalized(pairs, name, groups, models, truth.image_width) for name in errors}
    scored = _localization(groups, by_group) if per_object else _detection(groups, by_group, results, pairs)
    scored["summary"][f"{PROTOCOLS[task]}_average_time_per_image"] = results.time_per_image
    measured = None
    if measures and any(group.n_valid for group in groups):
        measured = pose_measures(groups, results, models, all_adds=all_adds)
    return Scores(
        dataset,
        task,
        errors,
        **scored,
        results=results,
        groups=groups,
        models=models,
        pairs=pairs,
        measures=measured,
    )


def _foreign(results: Results, truth: GroundTruth, task: str) -> Iterator[str]:
    """Tells lines that no target asks for."""
    if task == "localization":
        pairs = zip(truth.images, truth.targets, strict=True)
        asked = {(image.scene_id, image.im_id, obj_id) for image, counts in pairs for obj_id in counts}
        found = zip(results.scene_id.tolist(), results.im_id.tolist(), results.obj_id.tolist(), strict=True)
    else:
        asked = {(image.scene_id, image.im_id) for image in truth.images}
        found = zip(results.scene_id.tolist(), results.im_id.tolist(), strict=True)
    if foreign := sum(key not in asked for key in found):
        yield f"{foreign} of {len(results)} lines are of nothing that the targets ask for, and do not count"


def _split(csv: Path, dataset_dir: Path) -> str:
    """Name of the images' folder: from the result file's name where it keeps the challenge's pattern.

    The pattern: METHOD_DATASET-SPLIT[-TYPE][_ID].csv.
    """
    words = csv.name.split(".")[0].split("_")
    dataset, *split = words[1].split("-") if len(words) > 1 else [""]
    folder = dataset_dir.resolve()
    # The pattern has no room for other signs, so in names of result files they are left out.
    if split and _FOLDERS.get(dataset, dataset) not in (folder.name, re.sub("[^A-Za-z0-9]", "", folder.name)):
        raise InputError(
            f"{csv} is named as a result of '{dataset}', but scored on {dataset_dir}: "
            f"give that data set's folder or rename the file"
        )
    if split and (folder / "_".join(split)).is_dir():
        return "_".join(split)
    return bop_test_split(folder.parent, folder.name)


def _chosen_errors(errors: Sequence[str] | None, task: str, truth: GroundTruth) -> tuple[str, ...]:
    possible = ERRORS if task == "localization" else ERRORS[1:]
    if errors is None:
        return possible if truth.has_depth else ERRORS[1:]
    if not errors or set(errors) - set(possible):
        raise InputError(f"errors {','.join(errors)}: choose from {','.join(possible)} for {task}")
    return tuple(name for name in possible if name in errors)


def _normalized(
    pairs: PairErrors, name: str, groups: list[Group], models: Mapping[int, EvalModel], image_width: int
) -> list[np.ndarray]:
    """An error per group, in the unit of its thresholds."""
    values = pairs.of(name)
    if name == "mssd":
        values = values / np.array([models[key].diameter for key in pairs.obj_id.tolist()])
    if name == "mspd":
        values = values * (640 / image_width)
    return split_by_group(values, groups)


def _localization(groups: list[Group], errors: Mapping[str, list[np.ndarray]]) -> dict[str, dict]:
    """The fields of `Scores` that differ between the tasks."""
    matches = {name: match_groups(groups, values, THRESHOLDS[name]) for name, values in errors.items()}

    def average_recalls(members: list[int]) -> dict[str, float]:
        chosen = [groups[i] for i in members]
        curves = {name: recalls(chosen, [found[i] for i in members]) for name, found in matches.items()}
        averages = {name: float(curve.mean()) for name, curve in curves.items()}
        return {"targets": sum(g.n_valid for g in chosen), **averages, "mean": _mean(averages.values())}

    overall = average_recalls(list(range(len(groups))))
    summary = {f"bop19_average_recall_{name}": overall[name] for name in errors}
    # The mean of fewer errors is not the challenge's AR and does not bear its name.
    combined = "bop19_average_recall" if len(errors) == 3 else f"average_recall_{'_'.join(errors)}"
    found = {name: recalls(groups, matches[name]) for name in errors}
    objects = places_by_key(group.obj_id for group in groups)
    scenes = places_by_key(group.image.scene_id for group in groups)
    return {
        "summary": {**summary, combined: overall["mean"]},
        "recalls": {name: r.reshape(10, 10) if name == "vsd" else r for name, r in found.items()},
        "objects": {key: average_recalls(members) for key, members in objects.items()},
        "scenes": {key: average_recalls(members) for key, members in scenes.items()},
    }


def _detection(
    groups: list[Group], errors: Mapping[str, list[np.ndarray]], results: Results, pairs: PairErrors
) -> dict[str, dict]:
    """The fields of `Scores` that differ between the tasks."""

    def precisions(values: list[np.ndarray], thresholds: np.ndarray) -> dict[int, float]:
        found = object_average_precisions(groups, match_groups(groups, values, thresholds), results.score)
        return {obj_id: float(values.mean()) for obj_id, values in found.items()}

    by_error = {name: precisions(values, THRESHOLDS[name]) for name, values in errors.items()}
    summary = {f"bop24_mAP_{name}": _mean(found.values()) for name, found in by_error.items()}
    if len(errors) == 2:
        summary["bop24_mAP"] = _mean(summary.values())
    if "mssd" in errors:
        in_mm = _mean(precisions(split_by_group(pairs.mssd, groups), MM * _MM_THRESHOLDS).values())
        summary |= {"bop24_mAP_mssd_mm": in_mm, "bop25_mAP_mm": in_mm, "bop25_mAP": summary["bop24_mAP_mssd"]}
    members, objects = places_by_key(group.obj_id for group in groups), {}
    for obj_id in next(iter(by_error.values())):
        values = {name: found[obj_id] for name, found in by_error.items()}
        targets = sum(groups[i].n_valid for i in members[obj_id])
        objects[obj_id] = {"targets": targets, **values, "mean": _mean(values.values())}
    return {"summary": summary, "recalls": {}, "objects": objects, "scenes": {}}


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return float(np.mean(values)) if values else 0.0
