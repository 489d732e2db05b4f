"""Poses fitted by texture and contour: parts against geometry that is known, and photos of the mini set."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from picopose.datasets.masks.regions import box_mask
from picopose.model.follow.contour import contour_of, foreground, locate
from picopose.model.follow.fit import Measurements, agreement, fit
from picopose.model.follow.stage import Follow, hidden, make_stage
from picopose.model.stage import Setup
from picopose.pipeline.starts import box_about
from picopose.utils.config_files import load_config
from picopose.utils.motion import moved, step
from picopose.utils.records import Estimates
from picopose.utils.stopwatch import Stopwatch
from tests import mini_photos
from tests.shared import ROOT

S = 256
INSIDE = np.ones((S, S), bool)
K = np.array([[500.0, 0, 128], [0, 500, 128], [0, 0, 1]])
RED, BLUE = (0.8, 0.2, 0.1), (0.1, 0.3, 0.7)


def disc(x: float, y: float, radius: float) -> np.ndarray:
    """(S, S) bool"""
    v, u = np.mgrid[:S, :S]
    return (u - x) ** 2 + (v - y) ** 2 < radius**2


def picture(mask: np.ndarray) -> np.ndarray:
    """Red where the mask is, blue elsewhere, with noise."""
    noise = np.random.default_rng(0).normal(0, 0.03, (S, S, 3))
    return (np.where(mask[..., None], RED, BLUE) + noise).clip(0, 1)


def test_the_contour_of_a_disc():
    mask = disc(120, 130, 60)
    contour = contour_of(mask, np.where(mask, 0.7, 0.0), INSIDE)
    offset = contour.xy - [120, 130]
    assert 60 <= len(contour.xy) <= 120 and np.all(contour.depth == 0.7)
    assert np.abs(np.linalg.norm(offset, axis=1) - 60).max() < 1.2
    assert (contour.normal * offset).sum(1).min() > 0.98 * 58  # straight outwards
    half = INSIDE.copy()
    half[:, 128:] = False  # what lies beyond the photo's rim has no contour
    assert contour_of(mask, np.where(mask, 0.7, 0.0), half).xy[:, 0].max() < 130
    assert len(contour_of(np.zeros((S, S), bool), np.zeros((S, S)), INSIDE).xy) == 0


@pytest.mark.parametrize("shift", [(-6, 3), (0, 0), (9, -8)])
def test_colours_tell_where_the_contour_is(shift):
    drawn, seen = disc(120, 130, 60), disc(120 + shift[0], 130 + shift[1], 60)
    contour = contour_of(drawn, np.where(drawn, 0.7, 0.0), INSIDE)
    probability = foreground(picture(seen), drawn, INSIDE)
    assert probability[seen].mean() > 0.95 and probability[~seen].mean() < 0.1
    offset, variance = locate(probability, contour.xy, contour.normal, 8, 2.0)
    # |xy + t normal - centre| = 60, solved for t.
    to_centre = contour.xy - [120 + shift[0], 130 + shift[1]]
    along = (to_centre * contour.normal).sum(1)
    true = np.sqrt(along**2 - (to_centre**2).sum(1) + 60**2) - along
    assert np.abs(offset - true).max() < 1.0 and variance.max() < 6


def test_where_colours_are_alike_no_contour_is_sure():
    drawn = disc(120, 130, 60)
    contour = contour_of(drawn, np.where(drawn, 0.7, 0.0), INSIDE)
    probability = foreground(picture(np.zeros((S, S), bool)), drawn, INSIDE)
    _, variance = locate(probability, contour.xy, contour.normal, 8, 2.0)
    assert np.median(variance) > 25


def measurements_of(true: np.ndarray, *, outliers: float) -> Measurements:
    """Matches of points on a ball, a share of them off by up to 80 px; no contour."""
    rng = np.random.default_rng(0)
    xyz = rng.normal(size=(200, 3))
    xyz *= 0.1 / np.linalg.norm(xyz, axis=1, keepdims=True)
    xyw = (xyz @ true[:3, :3].T + true[:3, 3]) @ K.T
    xy = xyw[:, :2] / xyw[:, 2:] + rng.normal(0, 0.3, (200, 2))
    wrong = rng.random(200) < outliers
    xy[wrong] += rng.uniform(-80, 80, (wrong.sum(), 2))
    weight = np.repeat(np.eye(2)[None], 200, axis=0)
    none = np.zeros((0, 3)), np.zeros((0, 2)), np.zeros((S, S), np.float32)
    return Measurements(K, xy, xyz, weight, *none)


@pytest.mark.parametrize("outliers", [0.0, 0.4])
def test_the_fit_finds_a_pose_among_outliers(outliers):
    true = np.eye(4)
    true[:3, :3], true[:3, 3] = Rotation.from_rotvec([0.3, -0.5, 1.0]).as_matrix(), (0.02, -0.01, 0.7)
    expected = moved(true, np.array([0.02, -0.03, 0.015, 0.004, -0.003, 0.01]))
    off = step(fit(measurements_of(true, outliers=outliers), expected), true)
    assert np.degrees(np.linalg.norm(off[:3])) < 0.25 and np.linalg.norm(off[3:]) < 0.0015


def test_without_evidence_the_expectation_stays():
    expected = np.eye(4)
    expected[2, 3] = 0.7
    nothing = replace(measurements_of(expected, outliers=0), xy=np.zeros((0, 2)), xyz=np.zeros((0, 3)))
    nothing = replace(nothing, weight=np.zeros((0, 2, 2)))
    assert np.allclose(fit(nothing, expected), expected) and agreement(nothing, expected) == 0


def test_a_contour_of_few_points_says_little():
    pose = np.eye(4)
    pose[2, 3] = 1.0
    turn = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    normal = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    rim = np.column_stack([normal * 60 / K[0, 0], np.zeros(120)])  # of a disc about the principal point
    bare = measurements_of(pose, outliers=0)
    inside = disc(K[0, 2], K[1, 2], 60).astype(np.float32)
    whole = replace(bare, rim=rim, normal=normal, probability=inside)
    assert agreement(whole, pose) > 0.95
    few = replace(whole, rim=rim[::30], normal=normal[::30])
    assert 0 < agreement(few, pose) <= 4 / 30


def test_what_is_in_front_hides_what_is_behind():
    """In crops of different places and scales of one photo."""
    far, near = np.zeros((S, S), np.float32), np.zeros((S, S), np.float32)
    cv2.circle(far, (128, 128), 60, 1.0, -1)
    cv2.circle(near, (128, 128), 60, 0.5, -1)
    crops = np.stack([K, np.array([[1000.0, 0, 100], [0, 1000, 128], [0, 0, 1]])])  # twice as large
    # A circle about 128 px of the second crop, in the first: (128 - 100) / 1000 * 500 + 128 = 142, of 30 px.
    covered = hidden(np.stack([far, near]), crops, 0, [1])
    v, u = np.nonzero(covered)
    assert np.hypot(u - 142, v - 128).max() < 30 + 5 * 1.5 + 1 and disc(142, 128, 29)[covered].sum() > 2000
    assert not hidden(np.stack([far, near]), crops, 1, [0]).any()


@pytest.fixture(scope="module")
def stage() -> Follow:
    setup = Setup(load_config(ROOT / "config/default.yaml"), torch.device("cpu"), Stopwatch(running=False))
    made = make_stage(setup)
    made.prepare(mini_photos.things())
    return made


def disturbed(found: Estimates, frame, motion: np.ndarray) -> Estimates:
    """Poses that are off by a motion, of which the shift is in shares of the distance; boxes about them."""
    poses, masks = [], []
    for obj_id, pose in zip(found.obj_id.tolist(), found.cam_from_obj.double().numpy(), strict=True):
        distance = np.linalg.norm(pose[:3, 3])
        poses.append(moved(pose, motion * np.array([1, 1, 1, distance, distance, distance])))
        hull = mini_photos.views().hull(obj_id)
        box = box_about(hull, torch.from_numpy(poses[-1]), frame.K)
        masks.append(box_mask(box, *frame.rgb.shape[1:]))
    start = Estimates.of(found.obj_id.tolist(), masks)
    return replace(start, cam_from_obj=torch.from_numpy(np.stack(poses)).float())


def test_poses_in_a_photo_become_better(stage):
    """Those of all objects that can be seen well; each is off by 3 degrees and 1.5 % of the distance."""
    frame, true = mini_photos.annotated(1, 2, visible=0.6)
    motion = np.array([0.03, -0.03, 0.03, 0.004, 0.004, 0.014])
    start = disturbed(true, frame, motion)
    found = stage(frame, start)
    better = []
    for row in range(len(true)):
        errors = [
            mini_photos.error(int(true.obj_id[row]), poses.cam_from_obj[row], true.cam_from_obj[row][None])
            for poses in (start, found)
        ]
        better.append(errors[1] < 0.6 * errors[0])
    assert len(better) >= 3 and np.mean(better) >= 0.7
    assert found.confidence.median() > 0.6 and ((found.support >= 0) & (found.support <= 1)).all()


def test_where_the_object_is_not_it_is_not_believed_in(stage):
    frame, true = mini_photos.annotated(1, 2, visible=0.6)
    found = stage(frame, disturbed(true, frame, np.array([0.5, 0.8, 0.2, -0.12, -0.1, 0.0])))
    assert found.confidence.median() < 0.1


def test_two_guesses_at_one_object_do_not_hide_it(stage):
    frame, true = mini_photos.annotated(1, 2, visible=0.6)
    one = disturbed(true[[0]], frame, np.array([0.02, 0, 0, 0, 0, 0.004]))
    both = replace(one[[0, 0]], group=torch.tensor([0, 1]), track=torch.tensor([7, 7]))
    alone, found = stage(frame, one), stage(frame, both)
    assert torch.allclose(found.cam_from_obj, alone.cam_from_obj.expand(2, -1, -1), atol=1e-5)


def test_no_pose_no_work(stage):
    frame, _ = mini_photos.annotated(1, 2)
    assert len(stage(frame, Estimates.of([], []))) == 0
