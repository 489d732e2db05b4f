"""A pose pulled to its matches without a random search, against constructed scenes and RANSAC's answer."""

import numpy as np
import pytest
import torch

from picopose.model.solve.pnp import LEAST_INLIERS, improve_pose, solve_pnp
from picopose.model.solve.reprojection import turned
from picopose.utils.geometry import rigid
from picopose.utils.records import Correspondences
from tests.test_pnp import errors, rotations, scene


@pytest.fixture
def random(request) -> np.random.Generator:
    return np.random.default_rng(len(request.node.name))


def rough(random: np.random.Generator, pose: torch.Tensor, degrees: float, shift: float) -> torch.Tensor:
    """Poses turned about the object's origin by an angle about any axis, and shifted (m) along any."""
    axis, aside = torch.from_numpy(random.standard_normal((2, len(pose), 3)))
    axis = axis / axis.norm(dim=1, keepdim=True) * np.radians(degrees)
    return rigid(
        turned(pose[:, :3, :3], axis), pose[:, :3, 3] + shift * aside / aside.norm(dim=1, keepdim=True)
    )


@pytest.mark.parametrize("outliers", [0.0, 0.3])
def test_a_rough_pose_becomes_true(random, outliers):
    matches, K, pose = scene(random, 400, outliers, batch=12)
    found = improve_pose(matches, K, rough(random, pose, 15, 0.02), threshold_px=3.0)
    angle, shift = errors(found, pose)
    assert angle.max() < 0.01 and shift.max() < 0.01


def test_noise_is_averaged_as_by_ransac(random):
    matches, K, pose = scene(random, 400, 0.2, noise=1.0, batch=24)
    found = improve_pose(matches, K, rough(random, pose, 10, 0.02), threshold_px=3.0)
    searched = solve_pnp(matches, K, threshold_px=3.0).cam_from_obj
    for own, other in zip(errors(found, pose), errors(searched, pose), strict=True):
        assert own.mean() < 1.1 * other.mean()


def test_few_matches_leave_a_pose_as_it_is(random):
    matches, K, pose = scene(random, 50, batch=2)
    matches.weight[0, LEAST_INLIERS - 1 :] = 0
    start = rough(random, pose, 5, 0.01)
    found = improve_pose(matches, K, start, threshold_px=3.0)
    assert torch.equal(found[0], start[0]) and errors(found, pose)[0][1] < 0.01


def test_what_cannot_be_solved_leaves_a_pose_as_it_is(random):
    pose = rigid(rotations(random, 1), torch.tensor([[0.0, 0, 1]]).double())
    _, K, _ = scene(random, 5)
    nothing = torch.zeros(1, 20, 3, dtype=torch.float64)
    nowhere = torch.full((1, 20, 2), torch.nan, dtype=torch.float64)
    for xy in (nothing[..., :2], nowhere):
        found = improve_pose(Correspondences(xy, nothing, torch.ones(1, 20)), K, pose, threshold_px=3.0)
        assert torch.equal(found, pose)
