"""A scored run target by target: which estimate stands for which annotated instance, and how wrong it is.

From here the report takes what it shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from picopose.datasets.bop.image_result import Details
from picopose.datasets.bop.results import Results, read_results
from picopose.evaluation.detection import MIN_VISIBILITY
from picopose.evaluation.errors import translation_error
from picopose.evaluation.eval_models import EvalModel
from picopose.evaluation.ground_truth import ImageTruth, load_ground_truth
from picopose.evaluation.groups import Group, groups_of
from picopose.evaluation.pose_measures import LINEMOD_SHARE, add_s_share
from picopose.evaluation.recall import match_groups
from picopose.evaluation.scoring import Scores
from picopose.pipeline.tested_set import TestedSet


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


def find_cases(tested: TestedSet, scores: Scores, models: dict[int, EvalModel]) -> list[Case]:
    """All targets of a data set that was scored, in the order of the target list.

    Where an image has several instances of an object, estimates take the nearest free one, best score first.
    In detection all instances that are visible enough to count are targets.
    """
    results = read_results(tested.csv)
    per_object = scores.task == "localization"
    truth = load_ground_truth(tested.split_dir, tested.targets, per_object=per_object, camera=tested.camera)
    groups = groups_of(scores.task, results, truth, scores.dataset)
    details = tested.details(len(results))
    pairs = zip(scores.pairs.row.tolist(), scores.pairs.gt_id.tolist(), strict=True)
    index = {pair: i for i, pair in enumerate(pairs)}
    cases = []
    for group, taken in zip(groups, _match(groups, results), strict=True):
        counted = group.valid & (per_object | (group.image.visibility[group.gt_ids] >= MIN_VISIBILITY))
        for gt_id in group.gt_ids[counted].tolist():
            row = taken.get(gt_id)
            estimate = None
            if row is not None:
                pose, model = group.image.cam_from_obj[gt_id], models[group.obj_id]
                shown = details[row] if details else None
                estimate = _estimate(results, row, scores, index[row, gt_id], pose, model, shown)
            cases.append(Case(tested.name, group.image, group.obj_id, gt_id, estimate))
    return cases


def _match(groups: list[Group], results: Results) -> list[dict[int, int]]:
    """For each group the line of the result file that stands for an instance."""
    distances = [
        translation_error(results.cam_from_obj[g.rows][:, None], g.image.cam_from_obj[g.gt_ids])
        for g in groups
    ]
    matches = match_groups(groups, distances, np.array([np.inf]))
    return [
        {int(g.gt_ids[m]): int(row) for row, m in zip(g.rows, found[:, 0], strict=True) if m >= 0}
        for g, found in zip(groups, matches, strict=True)
    ]


def _estimate(
    results: Results,
    row: int,
    scores: Scores,
    pair: int,
    truth: np.ndarray,
    model: EvalModel,
    details: Details | None,
) -> ScoredPose:
    pose, vsd, mssd = results.cam_from_obj[row], scores.pairs.vsd, _number(scores.pairs.mssd[pair])
    return ScoredPose(
        cam_from_obj=pose,
        score=float(results.score[row]),
        mssd=mssd / model.diameter,
        mspd=_number(scores.pairs.mspd[pair]),
        vsd=None if vsd is None else float(vsd[pair].mean()),
        # No vertex is farther off than MSSD says, so that it settles most poses at once.
        right=mssd < LINEMOD_SHARE * model.diameter or is_right(pose, truth, model),
        details=details,
    )


def is_right(pose: np.ndarray, truth: np.ndarray, model: EvalModel) -> bool:
    """Whether a pose (3, 4) m has an ADD, or ADD-S of a symmetric object, below a tenth of the diameter."""
    return bool(add_s_share(pose[None], truth[None], model)[0] < LINEMOD_SHARE)


def _number(error: float) -> float:
    return np.inf if np.isnan(error) else float(error)


def select(cases: Sequence[Case], *, worst: int, best: int, sample: int) -> list[Case]:
    """So many of the worst and the best cases, and a random sample of the others; in order."""
    order = sorted(range(len(cases)), key=lambda i: cases[i].badness, reverse=True)
    if len(order) <= worst + best + sample:
        return list(cases)
    middle = order[worst : len(order) - best]
    drawn = np.random.default_rng(0).choice(len(middle), min(sample, len(middle)), replace=False)
    chosen = {*order[:worst], *order[len(order) - best :], *(middle[i] for i in drawn)}
    return [cases[i] for i in sorted(chosen)]
