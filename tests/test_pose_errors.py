"""ADD and its like against slow references, and their shares and areas on a small set."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from picopose.datasets.bop.results import read_results
from picopose.evaluation.errors import (
    add,
    adds,
    end_point_error,
    plain_angle,
    projection_error,
    rotation_error,
    translation_error,
)
from picopose.evaluation.eval_models import load_models, symmetry_transforms
from picopose.evaluation.linemod_table import linemod_rows, linemod_table
from picopose.evaluation.pose_measures import auc, mean_of_objects
from picopose.evaluation.scoring import score_csv
from picopose.utils.symmetry import Symmetry
from tests import scored_set, slow_scores

K = np.array([[500.0, 2.0, 320], [0, 510, 240], [0, 0, 1]])
AXIS = np.array([0.0, 0, 1]), np.zeros(3)


@pytest.fixture
def poses() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimates and truths (9, 3, 4) in m, and vertices (700, 3)."""
    rng = np.random.default_rng(5)
    truth = np.concatenate(
        [Rotation.random(9, rng=rng).as_matrix(), rng.normal([0, 0, 0.7], 0.04, (9, 3))[..., None]], axis=2
    )
    turn = Rotation.from_rotvec(rng.normal(0, 0.3, (9, 3))).as_matrix()
    shift = rng.normal(0, 0.01, (9, 3, 1))
    estimate = np.concatenate([turn @ truth[..., :3], truth[..., 3:] + shift], axis=2)
    return estimate, truth, rng.normal(0, 0.04, (700, 3))


def test_add_and_its_symmetric_form(poses):
    estimate, truth, vertices = poses
    means, nearest = add(*poses), adds(*poses)
    for i in range(len(estimate)):
        placed, true = slow_scores.apply(estimate[i], vertices), slow_scores.apply(truth[i], vertices)
        assert means[i] == pytest.approx(np.linalg.norm(placed - true, axis=1).mean(), rel=1e-9)
        assert nearest[i] == pytest.approx(cdist(true, placed).min(axis=1).mean(), rel=1e-9)
    assert (nearest < means).all()
    assert adds(truth, truth, vertices).max() < 1e-12


def test_add_s_of_a_lost_estimate_is_infinite(poses):
    estimate, truth, vertices = poses
    estimate[2, 0, 3] = np.nan
    assert np.flatnonzero(np.isinf(adds(estimate, truth, vertices))).tolist() == [2]


def test_projection_error(poses):
    estimate, truth, vertices = poses
    errors = projection_error(*poses, np.repeat(K[None], len(estimate), axis=0))
    for i in range(len(estimate)):
        placed, true = (
            slow_scores.project(K, slow_scores.apply(pose[i], vertices)) for pose in (estimate, truth)
        )
        assert errors[i] == pytest.approx(np.linalg.norm(placed - true, axis=1).mean(), rel=1e-9)


def test_rotation_error_is_the_smallest_of_all_symmetries():
    turn = Rotation.from_euler("z", 40, degrees=True)
    tilt = Rotation.from_euler("x", 7, degrees=True)
    poses = [np.column_stack([r.as_matrix(), [0, 0, 0]])[None] for r in (tilt * turn, Rotation.identity())]
    none, can = (symmetry_transforms(Symmetry(np.empty((0, 4, 4)), axes)) for axes in ((), (AXIS,)))
    cosine = (np.trace((tilt * turn).as_matrix()) - 1) / 2
    assert rotation_error(*poses, none) == pytest.approx([np.degrees(np.arccos(cosine))], abs=1e-9)
    assert rotation_error(*poses, can) == pytest.approx([7], abs=0.05)  # the turns are 1.14 degrees apart
    tiny = np.column_stack([Rotation.from_rotvec([1e-7, 0, 0]).as_matrix(), [0, 0, 0]])[None]
    assert rotation_error(tiny, poses[1], none) == pytest.approx([np.degrees(1e-7)], rel=1e-6)


def test_the_plain_angle_is_of_rotations_even_where_matrices_are_none(poses):
    estimate, truth, _ = poses
    exact = Rotation.from_matrix(estimate[..., :3] @ truth[..., :3].mT).magnitude()
    skewed = truth.copy()
    skewed[..., :3] = (1 + 2e-4) * truth[..., :3]  # as in BOP's LM-O
    assert plain_angle(estimate, skewed) == pytest.approx(np.degrees(exact), abs=1e-9)
    trace = np.trace(estimate[..., :3].mT @ skewed[..., :3], axis1=1, axis2=2)
    by_trace = np.degrees(np.arccos((trace - 1) / 2))
    assert np.abs(by_trace - np.degrees(exact)).max() > 0.05
    estimate[2, 0, 0] = np.nan
    assert np.flatnonzero(np.isnan(plain_angle(estimate, truth))).tolist() == [2]


def test_translation_error():
    truth = np.zeros((1, 3, 4))
    estimate = truth + np.array([0, 0, 0, 1]) * np.array([[3], [4], [12]])
    assert translation_error(estimate, truth) == pytest.approx([13])


def test_end_point_error_of_correspondences():
    rng = np.random.default_rng(0)
    xyz = rng.normal(0, 0.05, (2, 50, 3))
    truth = np.tile(np.eye(4), (2, 1, 1))
    truth[:, :3, :3] = Rotation.random(2, rng=rng).as_matrix()
    truth[:, 2, 3] = 0.6
    xy = np.stack(
        [slow_scores.project(K, slow_scores.apply(t[:3], p)) for t, p in zip(truth, xyz, strict=True)]
    )
    weight = np.ones((2, 50))
    weight[:, 30:] = 0
    moved = xy + np.where(weight[..., None] > 0, [3.0, 4.0], [1000.0, np.nan])
    cameras = np.stack([K, K])
    assert end_point_error(xy, xyz, weight, cameras, truth) == pytest.approx([0, 0], abs=1e-9)
    assert end_point_error(moved, xyz, weight, cameras, truth) == pytest.approx([5, 5])
    weight[1] = 0
    assert np.isnan(end_point_error(moved, xyz, weight, cameras, truth)).tolist() == [False, True]


def test_auc_by_hand():
    assert auc(np.array([0.0, 0.0])) == 1
    assert auc(np.array([np.inf, 0.101])) == 0
    # From 0 to 20 mm the curve has its value at 20 mm, 1/4; from 20 to 60 mm 2/4; from there on 2/4.
    assert auc(np.array([0.02, 0.06, 0.15, np.inf])) == pytest.approx(0.2 * 0.25 + 0.4 * 0.5 + 0.4 * 0.5)
    assert auc(np.array([0.003]), limit=0.005) == 1


def test_auc_approaches_the_integral():
    errors = np.random.default_rng(1).uniform(0, 0.15, 20000)
    assert auc(errors) == pytest.approx(np.maximum(0, 1 - errors / 0.1).mean(), abs=1e-4)


def test_measures_of_a_result_file(tmp_path):
    toy = scored_set.write(tmp_path, depth=False)
    overall, objects = score_csv(toy.csv, toy.folder, measures=True).measures
    assert overall.targets == sum(measures.targets for measures in objects.values()) == 8
    # Object 6 is symmetric and has one target in each of two images, with one estimate or two.
    results, model = read_results(toy.csv), load_models(toy.folder, [6])[6]
    errors, plain = [], []
    for image in ((1, 2), (3, 2)):
        rows = np.flatnonzero(
            (results.scene_id == image[0]) & (results.im_id == image[1]) & (results.obj_id == 6)
        )
        best = rows[np.argmax(results.score[rows])]
        truth = next(pose for obj_id, pose in toy.truths[image] if obj_id == 6)
        pair = results.cam_from_obj[best][None], truth[None]
        turned = [slow_scores.under_symmetry(truth, s) for s in model.symmetries]
        angles = [Rotation.from_matrix(pair[0][0, :, :3] @ t[:, :3].T).magnitude() for t in turned]
        plain.append(np.degrees(Rotation.from_matrix(pair[0][0, :, :3] @ truth[:, :3].T).magnitude()))
        camera = scored_set.K[None]
        pixels = projection_error(*pair, model.vertices, camera)[0]
        means = add(*pair, model.vertices)[0], adds(*pair, model.vertices)[0]
        errors.append((*means, pixels, np.degrees(min(angles)), translation_error(*pair)[0]))
    mean, add_s, pixels, degrees, metres = np.transpose(errors)
    found = objects[6]
    assert found.add_s_10 == np.mean(add_s < 0.1 * model.diameter)
    assert found.auc_add_s == found.auc_adds == pytest.approx(auc(add_s))
    assert found.auc_add == pytest.approx(auc(mean))
    assert found.add_s_05 == np.mean(add_s < 0.05 * model.diameter)
    assert found.add_s_02 == np.mean(add_s < 0.02 * model.diameter)
    assert found.projection_5px == np.mean(pixels < 5)
    assert found.cm5_deg5 == np.mean((np.array(plain) < 5) & (metres < 0.05))
    assert found.translation_5cm == np.mean(metres < 0.05)
    assert found.median_rotation_deg == pytest.approx(np.median(degrees), abs=1e-6)
    assert found.median_translation_mm == pytest.approx(1000 * np.median(metres))
    assert objects[1].auc_add_s == objects[1].auc_add  # not symmetric
    assert objects[1].translation_5cm <= 1 - 1 / objects[1].targets  # one target has no estimate


def test_in_linemods_table_every_object_counts_alike(tmp_path):
    toy = scored_set.write(tmp_path, depth=False)
    scores = score_csv(toy.csv, toy.folder, measures=True)
    overall, objects = scores.measures
    mean = mean_of_objects(objects.values())
    assert mean.targets == overall.targets
    assert mean.add_s_10 == np.mean([measures.add_s_10 for measures in objects.values()]) != overall.add_s_10
    assert scores.as_json()["measures"]["mean of objects"]["add_s_10"] == mean.add_s_10
    *rows, last = linemod_rows(scores)
    assert [row.targets for row in rows] == [measures.targets for measures in objects.values()]
    assert last.shares[0] == mean.add_s_10 and last.shares[-1] == mean.cm5_deg5
    lines = linemod_table({"toy": scores}).splitlines()
    assert len(lines) == 1 + len(rows) + 1
    assert lines[-1].split() == ["mean", *(f"{100 * share:.2f}" for share in last.shares)]
    both = linemod_table({"toy": scores, "again": scores}).splitlines()
    assert [line.split()[0] for line in both] == ["mean", "toy", "again"]
    assert both[1].split()[1:] == lines[-1].split()[1:]


def test_adds_of_objects_without_symmetries_may_be_left_out(tmp_path):
    toy = scored_set.write(tmp_path, depth=False)
    (overall, objects), (some, of_some) = (
        score_csv(toy.csv, toy.folder, measures=True, all_adds=all_adds).measures
        for all_adds in (True, False)
    )
    assert of_some[6] == objects[6]  # symmetric
    for full, part in ((overall, some), (objects[1], of_some[1])):
        assert np.isnan(part.auc_adds) and replace(part, auc_adds=full.auc_adds) == full


def test_without_a_single_pose_every_share_is_none(tmp_path):
    toy = scored_set.write(tmp_path, depth=False)
    toy.csv.write_text("")
    *_, mean = linemod_rows(score_csv(toy.csv, toy.folder, measures=True))
    assert mean.targets == 8 and mean.shares == (0.0,) * 5
