"""The errors of every estimate against every annotated instance of its object in its image."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from picopose.datasets.bop.results import Results
from picopose.evaluation.errors import mspd, mssd
from picopose.evaluation.eval_models import EvalModel
from picopose.evaluation.groups import Group
from picopose.evaluation.vsd import VsdScorer
from picopose.rendering.renderer import Renderer


@dataclass(frozen=True, eq=False)
class PairErrors:
    """P pairs of an estimate and an instance; errors that were not asked for are None."""

    scene_id: np.ndarray  # (P,) int
    im_id: np.ndarray  # (P,) int
    obj_id: np.ndarray  # (P,) int
    gt_id: np.ndarray  # (P,) int, index in scene_gt.json
    est_id: np.ndarray  # (P,) int, the challenge's number of the estimate
    row: np.ndarray  # (P,) int, the estimate's line in the result file, from 0, without the header
    valid: np.ndarray  # (P,) bool: the instance may be matched
    vsd: np.ndarray | None  # (P, 10), one for each tau
    mssd: np.ndarray | None  # (P,) m
    mspd: np.ndarray | None  # (P,) px of the image

    def of(self, error: str) -> np.ndarray:
        """The column `vsd`, `mssd` or `mspd`."""
        return getattr(self, error)


def pair_errors(
    groups: list[Group],
    results: Results,
    models: Mapping[int, EvalModel],
    errors: Collection[str],
    *,
    vsd_delta: float,
) -> PairErrors:
    """Errors of all pairs of one or more groups: group by group, and in each estimate by estimate.

    errors: some of "vsd", "mssd", "mspd"; vsd_delta: tolerance of VSD's visibility test, m.
    """
    ids = np.concatenate([_ids(group) for group in groups])
    scene_id, im_id, obj_id, gt_id, est_id, row, valid = ids.T
    estimates = results.cam_from_obj[row]
    # A group's truths (G, 3, 4) are repeated as a block for each of its estimates.
    blocks = [np.tile(group.image.cam_from_obj[group.gt_ids], (len(group.rows), 1, 1)) for group in groups]
    truths, sizes = np.concatenate(blocks), [len(block) for block in blocks]
    cameras = np.repeat(np.stack([group.image.K for group in groups]), sizes, axis=0)
    points = {name: np.full(len(row), np.nan) for name in ("mssd", "mspd") if name in errors}
    for key in np.unique(obj_id).tolist():
        pick, model = obj_id == key, models[key]
        pair = estimates[pick], truths[pick], model.vertices, model.symmetries
        if "mssd" in points:
            points["mssd"][pick] = mssd(*pair, model.diameter)
        if "mspd" in points:
            points["mspd"][pick] = mspd(*pair, cameras[pick])
    vsd = _vsd(groups, results, models, vsd_delta) if "vsd" in errors else None
    return PairErrors(
        *(scene_id, im_id, obj_id, gt_id, est_id, row, valid.astype(bool)),
        vsd=vsd,
        mssd=points.get("mssd"),
        mspd=points.get("mspd"),
    )


def split_by_group(values: np.ndarray, groups: list[Group]) -> list[np.ndarray]:
    """Values (P, ...) of all pairs as one array (E, G, ...) per group."""
    ends = np.cumsum([len(group.rows) * len(group.gt_ids) for group in groups])[:-1]
    parts = np.split(values, ends)
    return [
        part.reshape(len(group.rows), len(group.gt_ids), *values.shape[1:])
        for part, group in zip(parts, groups, strict=True)
    ]


def _ids(group: Group) -> np.ndarray:
    """(E * G, 7): scene, image, object, instance, estimate, line, valid."""
    n_estimates, n_truths = len(group.rows), len(group.gt_ids)
    ids = np.empty((n_estimates, n_truths, 7), np.int64)
    ids[..., :3] = group.image.scene_id, group.image.im_id, group.obj_id
    ids[..., 3], ids[..., 6] = group.gt_ids, group.valid
    ids[..., 4], ids[..., 5] = group.est_ids[:, None], group.rows[:, None]
    return ids.reshape(-1, 7)


def _vsd(groups: list[Group], results: Results, models: Mapping[int, EvalModel], delta: float) -> np.ndarray:
    parts, shown, depth = [np.empty((0, 10))], None, None
    with Renderer() as renderer:
        scorer = VsdScorer(renderer, delta)
        for group in groups:
            if len(group.rows) == 0 or len(group.gt_ids) == 0:
                continue
            if group.image is not shown:
                shown, depth = group.image, group.image.depth()
            estimates, truths = results.cam_from_obj[group.rows], shown.cam_from_obj[group.gt_ids]
            errors = scorer.errors(estimates, truths, models[group.obj_id], shown, depth)
            parts.append(errors.reshape(-1, 10))
    return np.concatenate(parts)
