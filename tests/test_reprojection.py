"""Score, noise level and refinement against their definitions, written out with `utils.geometry`."""

import zlib

import numpy as np
import pytest
import torch

from picopose.model.solve.reprojection import Points, anneal, msac, noise, refine, residuals
from picopose.utils.geometry import project, transform

K = torch.tensor([[700.0, 40, 0], [0, 500, 0], [0, 0, 1]], dtype=torch.float64)


@pytest.fixture
def random(request) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


def make(random, count: int, noise: float = 0.0, depth: float = 6.0):
    """Points about the origin at `depth` with noisy pixels, random weights, and their pose (1, 1, 3, 4)."""
    xyz = torch.from_numpy(random.uniform(-1, 1, (count, 3)))
    q = torch.linalg.qr(torch.from_numpy(random.standard_normal((3, 3))))[0]
    pose = torch.cat([q * torch.linalg.det(q), torch.tensor([[0.3], [-0.2], [depth]]).double()], 1)
    xy = pixels(pose, xyz) + noise * torch.from_numpy(random.standard_normal((count, 2)))
    weight = torch.from_numpy(random.uniform(0, 1, count))
    return Points(xyz.T[None], xy.T[None], weight[None], K[None]), pose[None, None]


def pixels(pose: torch.Tensor, xyz: torch.Tensor) -> torch.Tensor:
    square = torch.cat([pose, torch.tensor([[0, 0, 0, 1]]).double()])
    return project(K, transform(square, xyz))


def nudged(random, pose: torch.Tensor, size: float, count: int = 1) -> torch.Tensor:
    """Poses (1, count, 3, 4) with small random numbers added, not quite rotations any more."""
    return pose + size * torch.from_numpy(random.standard_normal((1, count, 3, 4)))


def test_residuals_and_msac_are_what_they_say(random):
    points, pose = make(random, 200, noise=2.0)
    poses = nudged(random, pose, 0.01, count=700)
    squared = residuals(points, poses)
    expected = torch.stack([(pixels(p, points.xyz[0].T) - points.xy[0].T).square().sum(1) for p in poses[0]])
    torch.testing.assert_close(squared[0], expected)
    cost = msac(points, poses, torch.tensor([3.0]).double())
    torch.testing.assert_close(cost[0], (expected / 9).clamp(max=1) @ points.weight[0])
    assert cost.max() > 1.2 * cost.min()


def test_points_behind_the_camera_cost_all_they_can(random):
    points, pose = make(random, 200, noise=1e-6)
    behind = -pose  # the same pixels, for a camera that does not care
    assert residuals(points, pose).max() < 1e-9
    assert residuals(points, behind).min() > 1e6
    torch.testing.assert_close(msac(points, behind, torch.tensor([3.0]).double())[0, 0], points.weight.sum())


@pytest.mark.parametrize("sigma", [0.3, 0.8])
def test_noise_is_found_among_outliers(random, sigma):
    points, pose = make(random, 3000, noise=sigma)
    points.xy[:, :, :1500] += torch.from_numpy(random.uniform(-50, 50, (1, 2, 1500)))
    assert abs(float(noise(points, pose, torch.tensor([2.0]).double())) - sigma) < 0.05 * sigma


def test_noise_stays_within_its_bounds(random):
    points, pose = make(random, 1000)
    assert float(noise(points, pose, torch.tensor([2.0]).double())) == 0.25
    points, pose = make(random, 1000, noise=5.0)
    assert float(noise(points, pose, torch.tensor([2.0]).double())) == 1.0


def test_refinement_ends_where_the_likelihood_is_flat(random):
    """The gradient of the mixture's log-likelihood, by automatic differentiation of plain projections."""
    points, pose = make(random, 100, noise=1.0)
    points.xy[0, :, :40] += torch.from_numpy(random.uniform(-60, 60, (2, 40)))
    sigma = torch.tensor([[1.2]]).double()
    refined = refine(points, pose, sigma, steps=12)

    def likelihood(step: torch.Tensor) -> torch.Tensor:
        x, y, z = step[:3]
        zero = torch.zeros_like(x)
        turn = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).view(3, 3)
        moved = torch.linalg.matrix_exp(turn) @ refined[0, 0, :, :3]
        xy = pixels(torch.cat([moved, (refined[0, 0, :, 3] + step[3:])[:, None]], 1), points.xyz[0].T)
        squared = (xy - points.xy[0].T).square().sum(1)
        inlier = torch.exp(-squared / (2 * 1.2**2))
        return (points.weight[0] * torch.log(inlier + np.exp(-(3.5**2) / 2))).sum()

    zero = torch.zeros(6, dtype=torch.float64)
    gradient = torch.autograd.functional.jacobian(likelihood, zero)
    curvature = torch.autograd.functional.hessian(likelihood, zero)
    assert torch.linalg.eigvalsh(curvature).max() < 0  # a maximum
    assert torch.linalg.solve(curvature, gradient).abs().max() < 1e-6  # rad, and object units
    assert (refined - pose).abs().max() > 1e-4  # it had to move


def test_two_steps_are_enough_near_the_optimum(random):
    """A step solves for shift and turn together, skew and unequal focal lengths included."""
    points, pose = make(random, 200)
    start = pose.clone()
    start[..., 3] += torch.tensor([0.01, -0.01, 0.05])
    moved = refine(points, start, torch.tensor([[20.0]]).double(), steps=2)
    assert (moved - pose).abs().max() < 1e-4


def test_no_step_makes_a_pose_worse(random):
    points, pose = make(random, 50, noise=1.0)
    poses = torch.cat([pose, nudged(random, pose, 0.3, count=50)], 1)
    sigma = torch.ones(1, 51, dtype=torch.float64)

    def likelihood(poses: torch.Tensor) -> torch.Tensor:
        inlier = torch.exp(-residuals(points, poses) / 2)
        return (points.weight[:, None] * torch.log(inlier + np.exp(-(3.5**2) / 2))).sum(-1)

    refined = refine(points, poses, sigma, steps=3)
    assert refined.isfinite().all()
    assert (likelihood(refined) >= likelihood(poses) - 1e-9).all()


def test_annealing_draws_in_what_refinement_leaves(random):
    """A pose 10 px off, among 30 % outliers: few of its points lie within the final deviation."""
    points, pose = make(random, 300, noise=0.5)
    points.xy[0, :, :90] += torch.from_numpy(random.uniform(-60, 60, (2, 90)))
    start = pose.clone()
    start[..., 0, 3] += 0.1
    sigma = torch.tensor([[0.5]]).double()
    annealed = anneal(points, start, sigma[0], (20.0, 8.0, 3.0, 1.0))
    assert (annealed - pose).abs().max() < 0.02
    assert (refine(points, start, sigma, steps=4) - pose).abs().max() > 0.05
