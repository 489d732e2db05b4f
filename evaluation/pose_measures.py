"""Measures from before the BOP challenge, by LINEMOD's and YCB-Video's protocols: ADD(-S), 2D projection, ...

Every target instance counts; one without an estimate has infinite errors.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import numpy as np

from picopose.datasets.bop.results import Results
from picopose.evaluation.errors import (
    add,
    adds,
    plain_angle,
    projection_error,
    rotation_error,
    translation_error,
)
from picopose.evaluation.eval_models import EvalModel
from picopose.evaluation.groups import Group, places_by_key
from picopose.evaluation.recall import match_nearest

LINEMOD_SHARE = 0.1  # of the diameter, for ADD(-S)
LINEMOD_PX = 5.0  # for the 2D projection
NEAR, TURNED = 0.05, 5.0  # m and degrees, "within 5 cm 5 degrees"
YCB_MAX = 0.1  # m


@dataclass(frozen=True)
class PoseMeasures:
    """Shares and areas in [0, 1] over the target instances of one or all objects."""

    targets: int
    add_s_10: float  # share with ADD, for symmetric objects ADD-S, below 10 % of the diameter
    add_s_05: float  # below 5 %
    add_s_02: float  # below 2 %
    projection_5px: float  # share with a mean projection error below 5 px, symmetries aside
    cm5_deg5: float  # share within 5 cm and 5 degrees, symmetries aside
    translation_5cm: float  # share of translations within 5 cm
    auc_add: float  # area under ADD's accuracy curve up to 10 cm
    auc_adds: float  # NaN where ADD-S was not asked for
    auc_add_s: float  # ADD, for symmetric objects ADD-S
    median_rotation_deg: float  # the smallest angle of all symmetries
    median_translation_mm: float


def auc(errors: np.ndarray, limit: float = YCB_MAX) -> float:
    """Area under the accuracy curve of errors (N,) up to `limit`, as a share of the largest possible.

    As in YCB-Video's toolbox (Xiang et al., 2018): between two errors the curve has the value at the larger.
    """
    reached = np.sort(errors[errors <= limit])
    if len(reached) == 0:
        return 0.0
    accuracy = np.arange(1, len(reached) + 1) / len(errors)
    steps = np.diff(np.concatenate([[0.0], reached, [limit]]))
    return float(steps @ np.append(accuracy, accuracy[-1]) / limit)


def add_s_share(estimate: np.ndarray, truth: np.ndarray, model: EvalModel) -> np.ndarray:
    """ADD, for symmetric objects ADD-S, (P,) of poses (P, 3, 4) m as a share of the diameter."""
    error = adds if len(model.symmetries) > 1 else add
    return error(estimate, truth, model.vertices) / model.diameter


@dataclass(frozen=True, eq=False)
class _Errors:
    """Errors (T,) of the T target instances of one object."""

    add: np.ndarray  # m
    adds: np.ndarray  # m; NaN where it was not asked for
    add_s: np.ndarray  # m
    add_s_share: np.ndarray  # of the diameter
    projection: np.ndarray  # px
    rotation: np.ndarray  # deg, the smallest of all symmetries
    angle: np.ndarray  # deg, symmetries aside
    translation: np.ndarray  # m

    @property
    def measures(self) -> PoseMeasures:
        return PoseMeasures(
            targets=len(self.add),
            add_s_10=float(np.mean(self.add_s_share < LINEMOD_SHARE)),
            add_s_05=float(np.mean(self.add_s_share < LINEMOD_SHARE / 2)),
            add_s_02=float(np.mean(self.add_s_share < LINEMOD_SHARE / 5)),
            projection_5px=float(np.mean(self.projection < LINEMOD_PX)),
            cm5_deg5=float(np.mean((self.translation < NEAR) & (self.angle < TURNED))),
            translation_5cm=float(np.mean(self.translation < NEAR)),
            auc_add=auc(self.add),
            auc_adds=float("nan") if np.isnan(self.adds).any() else auc(self.adds),
            auc_add_s=auc(self.add_s),
            median_rotation_deg=float(np.median(self.rotation)),
            median_translation_mm=float(1000 * np.median(self.translation)),
        )


def pose_measures(
    groups: list[Group], results: Results, models: Mapping[int, EvalModel], *, all_adds: bool = True
) -> tuple[PoseMeasures, dict[int, PoseMeasures]]:
    """The measures of all target instances and of each object's.

    Where an image has several instances, estimates take the nearest free one, best score first. all_adds:
    ADD-S of objects without symmetries too, which takes long for fine models.
    """
    errors = {}
    for obj_id, members in places_by_key(group.obj_id for group in groups).items():
        own = [groups[i] for i in members]
        if any(group.n_valid for group in own):
            errors[obj_id] = _object_errors(own, results, models[obj_id], all_adds)
    pooled = [np.concatenate([getattr(e, name) for e in errors.values()]) for name in _Errors.__annotations__]
    return _Errors(*pooled).measures, {obj_id: e.measures for obj_id, e in errors.items()}


def mean_of_objects(objects: Iterable[PoseMeasures]) -> PoseMeasures:
    """LINEMOD's score of a data set, in which every object counts alike; the targets are summed."""
    objects = list(objects)
    means = {f.name: float(np.mean([getattr(m, f.name) for m in objects])) for f in fields(PoseMeasures)}
    return PoseMeasures(**means | {"targets": sum(m.targets for m in objects)})


def _object_errors(groups: list[Group], results: Results, model: EvalModel, all_adds: bool) -> _Errors:
    matches = match_nearest(groups, results)
    rows = np.concatenate([g.rows[m >= 0] for g, m in zip(groups, matches, strict=True)])
    truths, cameras = [], []
    for group, found in zip(groups, matches, strict=True):
        taken = group.gt_ids[found[found >= 0]]
        truths.append(group.image.cam_from_obj[taken])
        cameras.append(np.repeat(group.image.K[None], len(taken), axis=0))
    estimate, truth, K = results.cam_from_obj[rows], np.concatenate(truths), np.concatenate(cameras)
    missed = np.full(sum(g.n_valid for g in groups) - len(rows), np.inf)

    def padded(values: np.ndarray) -> np.ndarray:
        return np.concatenate([np.nan_to_num(values, nan=np.inf), missed])

    symmetric = len(model.symmetries) > 1
    mean = padded(add(estimate, truth, model.vertices))
    nearest = np.full(len(mean), np.nan)
    if symmetric or all_adds:
        nearest = padded(adds(estimate, truth, model.vertices))
    add_s = nearest if symmetric else mean
    return _Errors(
        *(mean, nearest, add_s, add_s / model.diameter),
        projection=padded(projection_error(estimate, truth, model.vertices, K)),
        rotation=padded(rotation_error(estimate, truth, model.symmetries)),
        angle=padded(plain_angle(estimate, truth)),
        translation=padded(translation_error(estimate, truth)),
    )
