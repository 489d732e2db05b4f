"""Which estimates compete for which annotated instances, in both tasks of the BOP challenge.

A group is one object in one image; matching never crosses its border.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from picopose.datasets.bop.results import Results
from picopose.datasets.bop.targets import max_detections
from picopose.evaluation.ground_truth import GroundTruth, ImageTruth


@dataclass(frozen=True, eq=False)
class Group:
    """E estimates of one object in one image, best score first, and the G annotated instances of it."""

    image: ImageTruth
    obj_id: int
    rows: np.ndarray  # (E,) int, lines of the result file, header and all before not counted
    est_ids: np.ndarray  # (E,) int, the challenge's number of each estimate
    gt_ids: np.ndarray  # (G,) int, ascending
    valid: np.ndarray  # (G,) bool: an instance that an estimate may be matched to

    @property
    def n_valid(self) -> int:
        return int(self.valid.sum())


def groups_of(task: str, results: Results, truth: GroundTruth, dataset: str) -> list[Group]:
    """The groups of a task, "localization" or "detection"."""
    if task == "localization":
        return localization_groups(results, truth)
    return detection_groups(results, truth, limit=max_detections(dataset))


def localization_groups(results: Results, truth: GroundTruth) -> list[Group]:
    """Groups of the localization task: for each target the `inst_count` best estimates.

    est_ids count an object's estimates in an image in file order. Valid instances are the `inst_count` most
    visible ones; estimates of anything that is no target play no part.
    """
    rows = defaultdict(list)
    for row, key in enumerate(np.stack([results.scene_id, results.im_id, results.obj_id], axis=1).tolist()):
        rows[tuple(key)].append(row)
    groups = []
    for image, counts in zip(truth.images, truth.targets, strict=True):
        for obj_id, count in counts.items():
            candidates = rows[image.scene_id, image.im_id, obj_id]
            chosen = _best(range(len(candidates)), [results.score[row] for row in candidates])[:count]
            gt_ids = np.flatnonzero(image.obj_id == obj_id)
            valid = np.isin(gt_ids, image.most_visible(obj_id, count))
            lines = np.array([candidates[i] for i in chosen], np.int64)
            groups.append(Group(image, obj_id, lines, np.array(chosen, np.int64), gt_ids, valid))
    return groups


def detection_groups(results: Results, truth: GroundTruth, *, limit: int) -> list[Group]:
    """Groups of the detection task: every annotated object, with those of an image's `limit` best estimates.

    est_ids count an image's estimates from the best score on. All instances are valid. Estimates of objects
    that are not in the image are dropped, as in the challenge, not counted as false.
    """
    rows = defaultdict(list)
    for row, key in enumerate(np.stack([results.scene_id, results.im_id], axis=1).tolist()):
        rows[tuple(key)].append(row)
    groups = []
    for image in truth.images:
        candidates = rows[image.scene_id, image.im_id]
        best = np.array(_best(candidates, results.score[candidates])[:limit], np.int64)
        for obj_id in dict.fromkeys(image.obj_id.tolist()):
            est_ids = np.flatnonzero(results.obj_id[best] == obj_id)
            gt_ids = np.flatnonzero(image.obj_id == obj_id)
            groups.append(Group(image, obj_id, best[est_ids], est_ids, gt_ids, np.ones(len(gt_ids), bool)))
    return groups


def places_by_key(keys: Iterable[int]) -> dict[int, list[int]]:
    """The indices of each key among `keys`; keys sorted."""
    places = defaultdict(list)
    for index, key in enumerate(keys):
        places[key].append(index)
    return dict(sorted(places.items()))


def _best(items: Iterable[int], scores: Iterable[float]) -> list[int]:
    """Items by falling score, equal ones in order."""
    return [
        item for item, _ in sorted(zip(items, scores, strict=True), key=lambda pair: pair[1], reverse=True)
    ]
