"""A scored run target by target: which estimate stands for which annotated instance, and how wrong it is.

From here the report takes what it shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from picopose.datasets.bop.image_result import Details
from picopose.evaluation.detection import MIN_VISIBILITY
from picopose.evaluation.eval_models import EvalModel
from picopose.evaluation.ground_truth import ImageTruth
from picopose.evaluation.pose_measures import LINEMOD_SHARE, add_s_share
from picopose.evaluation.recall import match_nearest
from picopose.evaluation.scoring import Scores

D = TypeVar("D", bound=Details)


@dataclass(frozen=True, eq=False)
class ScoredPose:
    """An estimated pose and its errors."""

    cam_from_obj: np.ndarray  # (3, 4) m
    score: float
    mssd: float  # share of the diameter; infinite where the origins are a diameter or more apart
    mspd: float  # px of the photo
    vsd: float | None  # mean over the tolerances; None without depth images
    right: bool  # by what a confidence is the probability of, see `is_right`
    details: Details | None


@dataclass(frozen=True, eq=False)
class Case:
    """One target: an annotated instance, and the estimate that stands for it if there is one."""

    dataset: str
    image: ImageTruth
    obj_id: int
    gt_id: int
    estimate: ScoredPose | None

    @property
    def truth(self) -> np.ndarray:
        """(3, 4) camera from object, m."""
        return self.image.cam_from_obj[self.gt_id]

    @property
    def confidence(self) -> float | None:
        """Of the estimate; None where there is none or it was not judged."""
        details = self.estimate.details if self.estimate else None
        return details.confidence if details else None

    @property
    def badness(self) -> tuple[float, float]:
        """By which cases are ranked: MSSD, and MSPD where that is equal; a missing estimate is worst."""
        missing = (np.inf, np.inf)
        return (self.estimate.mssd, self.estimate.mspd) if self.estimate else missing


def find_cases(dataset: str, scores: Scores, details: Sequence[Details] | None) -> list[Case]:
    """All targets of a data set that was scored, in the order of the target list.

    details: of each line of the result file, if there is a side file.
    Where an image has several instances of an object, estimates take the nearest free one, best score first.
    In detection all instances that are visible enough to count are targets.
    """
    per_object = scores.task == "localization"
    pairs = zip(scores.pairs.row.tolist(), scores.pairs.gt_id.tolist(), strict=True)
    index = {pair: i for i, pair in enumerate(pairs)}
    cases = []
    for group, found in zip(scores.groups, match_nearest(scores.groups, scores.results), strict=True):
        matched = found >= 0
        taken = dict(zip(group.gt_ids[found[matched]].tolist(), group.rows[matched].tolist(), strict=True))
        counted = group.valid & (per_object | (group.image.visibility[group.gt_ids] >= MIN_VISIBILITY))
        for gt_id in group.gt_ids[counted].tolist():
            truth, estimate = group.image.cam_from_obj[gt_id], None
            if gt_id in taken:
                estimate = _scored(scores, index[taken[gt_id], gt_id], truth, details)
            cases.append(Case(dataset, group.image, group.obj_id, gt_id, estimate))
    return cases


def false_estimates(scores: Scores, details: Sequence[D] | None) -> list[D]:
    """In detection, what speaks for the estimates that stand for no instance; they are of no case.

    Those of objects that are not in the image are among them, although the challenge does not count them.
    """
    if scores.task != "detection" or details is None:
        return []
    matches = zip(scores.groups, match_nearest(scores.groups, scores.results), strict=True)
    taken = {row for group, found in matches for row in group.rows[found >= 0].tolist()}
    return [one for row, one in enumerate(details) if row not in taken]


def judgements(cases: Sequence[Case], false: Sequence[Details] = ()) -> tuple[np.ndarray, np.ndarray]:
    """The confidence (N,) of estimates that were judged, and whether each is right (N,) bool.

    false: what speaks for those that are wrong, see `false_estimates`.
    """
    found = [(case.confidence, case.estimate.right) for case in cases if case.confidence is not None]
    found += [(one.confidence, False) for one in false if one.confidence is not None]
    confidence, right = zip(*found, strict=True) if found else ((), ())
    return np.array(confidence, float), np.array(right, bool)


def _scored(scores: Scores, pair: int, truth: np.ndarray, details: Sequence[Details] | None) -> ScoredPose:
    row, model = int(scores.pairs.row[pair]), scores.models[int(scores.pairs.obj_id[pair])]
    pose, vsd, mssd = scores.results.cam_from_obj[row], scores.pairs.vsd, _number(scores.pairs.mssd[pair])
    return ScoredPose(
        cam_from_obj=pose,
        score=float(scores.results.score[row]),
        mssd=mssd / model.diameter,
        mspd=_number(scores.pairs.mspd[pair]),
        vsd=None if vsd is None else float(vsd[pair].mean()),
        # No vertex is farther off than MSSD says, so that it settles most poses at once.
        right=mssd < LINEMOD_SHARE * model.diameter or is_right(pose, truth, model),
        details=details[row] if details else None,
    )


def is_right(pose: np.ndarray, truth: np.ndarray, model: EvalModel) -> bool:
    """Whether a pose (3, 4) m has an ADD, or ADD-S of a symmetric object, below a tenth of the diameter."""
    return bool(add_s_share(pose[None], truth[None], model)[0] < LINEMOD_SHARE)


def _number(error: float) -> float:
    return np.inf if np.isnan(error) else float(error)


class Ranked(Protocol):
    """A case that can be compared with others."""

    @property
    def badness(self) -> tuple[float, ...]: ...


R = TypeVar("R", bound=Ranked)


def select(cases: Sequence[R], *, worst: int, best: int, sample: int) -> list[R]:
    """So many of the worst and the best cases, and a random sample of the others; in order."""
    order = sorted(range(len(cases)), key=lambda i: cases[i].badness, reverse=True)
    if len(order) <= worst + best + sample:
        return list(cases)
    middle = order[worst : len(order) - best]
    drawn = np.random.default_rng(0).choice(len(middle), min(sample, len(middle)), replace=False)
    chosen = {*order[:worst], *order[len(order) - best :], *(middle[i] for i in drawn)}
    return [cases[i] for i in sorted(chosen)]
