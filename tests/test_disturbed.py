"""Training pairs of the refiner: one camera for photo and drawing, and how far the drawn poses are off."""

from functools import cache

import numpy as np
import torch

from picopose.datasets.training.disturbed import MOST_DEG, PER_SCENE, WIDTHS, DisturbedPairs, disturbed
from picopose.datasets.training.object_pool import ObjectPool
from picopose.model.picopose.supervision import true_positions
from picopose.rendering.studio import Studio
from picopose.utils.crop import mask_boxes
from picopose.utils.geometry import rotation_angle
from picopose.utils.records import Pair

SIZE, SEED = 64, 5


def source(seed: int = SEED) -> DisturbedPairs:
    studio = Studio(views=42)
    pool = ObjectPool(studio, [], shapes=1.0, seed=seed, slots=5, period=1000)
    return DisturbedPairs(studio, pool, size=SIZE, seed=seed)


@cache
def pairs() -> Pair:
    made = source()
    return Pair.stack([made.sample(index) for index in range(6 * PER_SCENE)])


def test_photo_and_drawing_have_one_camera_about_the_drawn_object():
    assert torch.equal(pairs().real.K, pairs().template.K)
    left, top, right, bottom = mask_boxes(pairs().template.mask).double().unbind(1)
    longest = torch.maximum(right - left, bottom - top)
    widths = SIZE / longest
    assert widths.min() > WIDTHS[0] - 0.1 and widths.median() < WIDTHS[1] + 0.1
    for first, last in ((left, right), (top, bottom)):
        assert ((first + last - SIZE).abs() / 2).median() < 1.5


def test_poses_are_off_by_little_or_much_but_never_by_more_than_the_bound():
    rng, pose = np.random.default_rng(0), np.eye(4)
    pose[:3, 3] = 0.1, 0.0, 1.0
    centre = np.array([0.02, 0.01, -0.03])
    turns, shifts = [], []
    for _ in range(2000):
        off = disturbed(rng, pose, centre, 0.2)
        turns.append(np.degrees(np.arccos(np.clip((np.trace(off[:3, :3]) - 1) / 2, -1, 1))))
        before, after = (p[:3, :3] @ centre + p[:3, 3] for p in (pose, off))
        shifts.append(np.linalg.norm(after - before) / 0.2)
    assert max(turns) < MOST_DEG + 0.01
    assert np.quantile(turns, 0.25) < 3 and np.quantile(turns, 0.9) > 15
    assert np.quantile(shifts, 0.25) < 0.06 and np.quantile(shifts, 0.9) > 0.15


def test_turning_leaves_the_objects_centre_where_it_is():
    rng, centre = np.random.default_rng(1), np.array([0.5, 0.0, 0.0])
    pose = np.eye(4)
    pose[2, 3] = 2.0
    off = disturbed(rng, pose, centre, 1e-9)
    ray = off[:3, :3] @ centre + off[:3, 3]
    assert np.allclose(ray[:2] / ray[2], [0.25, 0], atol=1e-6)


def test_most_of_what_is_drawn_is_seen_where_the_pose_is_nearly_right():
    turn = rotation_angle(pairs().real.cam_from_obj[:, :3, :3] @ pairs().template.cam_from_obj[:, :3, :3].mT)
    near = turn.rad2deg() < 5
    truth = true_positions(pairs()[near], sides=[16])[0]
    share = truth.visible.sum(1) / (truth.known & (truth.xy != 0).any(-1)).sum(1).clamp(min=1)
    assert near.sum() >= 4 and share.median() > 0.6


def test_pairs_depend_on_seed_and_index_alone():
    again = source()
    for index in (9, 2):
        assert torch.equal(again.sample(index).real.rgb, pairs().real.rgb[index])
        assert torch.equal(again.sample(index).template.depth, pairs().template.depth[index])
    assert not torch.equal(source(SEED + 1).sample(0).real.rgb, pairs().real.rgb[0])
