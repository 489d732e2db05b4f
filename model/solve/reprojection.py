"""Reprojection errors of many poses at once: the score of a hypothesis, its optimisation and the noise level.

Problems of unequal sizes are padded with points of weight 0. These functions serve the solver in `pnp`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from picopose.utils.records import Record

# Nearest depth at which a point counts as in front of the camera, in the length unit of the points.
NEAR = 1e-6
# Where the refinement takes a point for an outlier as likely as for an inlier, in standard deviations.
CUT = 3.5
# Points times poses that are differentiated at once on a CPU, within its cache.
BLOCK = 2**15


@dataclass(frozen=True)
class Points(Record):
    """Points of B objects, and where they are seen."""

    xyz: Tensor  # (B, 3, M) object frame
    xy: Tensor  # (B, 2, M) px, measured from the principal point
    weight: Tensor  # (B, M) 0 = padding
    camera: Tensor  # (B, 3, 3) without a principal point

    def split(self, size: int) -> list["Points"]:
        parts = (value.split(size, dim=-1) for value in (self.xyz, self.xy, self.weight))
        return [Points(*part, self.camera) for part in zip(*parts, strict=True)]

    def first(self, count: int) -> "Points":
        return Points(self.xyz[..., :count], self.xy[..., :count], self.weight[..., :count], self.camera)


def project(points: Points, pose: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels (B, H, 2, M), as `xy`, and inverse depths (B, H, 1, M) under the poses (B, H, 3, 4)."""
    batch, hypotheses = pose.shape[:2]
    rows = (points.camera[:, None] @ pose.to(points.xyz.dtype)).view(batch, 3 * hypotheses, 4)
    xyz = torch.baddbmm(rows[..., 3:], rows[..., :3], points.xyz).unflatten(1, (hypotheses, 3))
    inverse = 1 / xyz[:, :, 2:].clamp(min=NEAR)
    return xyz[:, :, :2] * inverse, inverse


def residuals(points: Points, pose: Tensor) -> Tensor:
    """Squared distances (B, H, M) in px of points and their projections; huge behind the camera."""
    pixels, _ = project(points, pose)
    return (pixels - points.xy[:, None]).square().sum(2)


def msac(points: Points, pose: Tensor, threshold: Tensor) -> Tensor:
    """MSAC cost (B, H) of the poses (B, H, 3, 4): the weighted sum of min(1, (error / threshold)^2).

    Torr and Zisserman, "MLESAC", CVIU 2000. The error times the depth is linear in the pose, so that matrix
    products do most of the work.
    """
    limit = threshold[:, None, None]
    in_thresholds = torch.cat([points.camera[:, :2] / limit, points.camera[:, 2:]], dim=1)
    rows = in_thresholds[:, None] @ pose.to(points.xyz.dtype)
    across, down, depth = rows[:, :, 0::2].flatten(2), rows[:, :, 1:].flatten(2), rows[:, :, 2]
    xyz1 = F.pad(points.xyz, (0, 0, 0, 1), value=1.0)
    seen = -(points.xy / limit)[:, :, None] * xyz1[:, None]
    across_points, down_points = torch.cat([xyz1[:, None].expand_as(seen), seen], dim=2).unbind(1)
    # In blocks whose products stay within a processor's cache, or a GPU's memory.
    block = max(1, (2**18 if pose.device.type == "cpu" else 2**26) // points.weight.numel())
    costs = []
    for a, d, z in zip(across.split(block, 1), down.split(block, 1), depth.split(block, 1), strict=True):
        error, other = torch.bmm(a, across_points).square_(), torch.bmm(d, down_points)
        scale = torch.bmm(z, xyz1).clamp_(min=1e-18).square_()  # behind the camera any error becomes huge
        truncated = error.addcmul_(other, other).div_(scale).clamp_(max=1)
        costs.append((truncated @ points.weight[..., None])[..., 0])
    return torch.cat(costs, dim=1)


def noise(points: Points, pose: Tensor, threshold: Tensor) -> Tensor:
    """Standard deviation (B, H) in px of the inliers' image coordinates: 1/8 to 1/2 of the threshold.

    Expectation maximisation of a Gaussian among uniform outliers, at the given poses (B, H, 3, 4).
    """
    squared, most = residuals(points, pose), (threshold[:, None] / 2) ** 2
    variance = most.expand(pose.shape[:2])
    for _ in range(3):
        inlier = points.weight[:, None] * _inlier_logit(squared, variance).sigmoid()
        variance = (inlier * squared).sum(-1) / (2 * inlier.sum(-1)).clamp(min=1e-12)
        variance = variance.clamp(most / 16, most)
    return variance.sqrt()


def anneal(points: Points, pose: Tensor, sigmas: Iterable[Tensor]) -> Tensor:
    """The poses (B, H, 3, 4) after a Gauss-Newton step for each of the deviations (B, 1), largest first.

    Graduated non-convexity: the wide ones draw in a rough pose, which `refine` would leave with its inliers.
    """
    for sigma in sigmas:
        pose = _step(pose, _linearise(points, pose, sigma**2), 1e-4)
    return pose


def refine(points: Points, pose: Tensor, sigma: Tensor, *, steps: int) -> Tensor:
    """The poses (B, H, 3, 4) after `steps` of Levenberg-Marquardt, each on its own; none gets less likely.

    Maximises the weighted likelihood of a Gaussian of deviation `sigma` (B, H) in px among uniform outliers:
    a point counts as much as it is likely an inlier, and one beyond `CUT` deviations hardly. The step is
    solved in float64, the sums over the points run in the precision of `points`.
    """
    damping, variance = torch.full_like(sigma, 1e-4, dtype=torch.float64), sigma**2
    system, likelihood = _judge(points, pose, variance)
    for _ in range(steps):
        trial = _step(pose, system, damping[..., None])
        trial_system, trial_likelihood = _judge(points, trial, variance)
        better = trial_likelihood > likelihood
        pose = torch.where(better[..., None, None], trial, pose)
        system = torch.where(better[..., None, None], trial_system, system)
        likelihood = torch.where(better, trial_likelihood, likelihood)
        damping = torch.where(better, damping / 10, damping * 10)
    return pose


def _inlier_logit(squared: Tensor, variance: Tensor) -> Tensor:
    return torch.rsub(squared / variance.to(squared.dtype)[..., None], CUT**2 / 2, alpha=0.5)


def _linearise(points: Points, pose: Tensor, variance: Tensor) -> Tensor:
    """Normal equations (B, H, 6, 7) of the poses (B, H, 3, 4), right-hand side last."""
    parts = (_derivatives(some, pose, variance)[0] for some in _blocks(points, pose))
    return reduce(torch.add, parts).double()


def _judge(points: Points, pose: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Normal equations, and the log-likelihood (B, H)."""
    systems, likelihoods = [], []
    for some in _blocks(points, pose):
        system, logit = _derivatives(some, pose, variance)
        systems.append(system)
        likelihoods.append((F.softplus(logit) @ some.weight[:, :, None])[..., 0])
    return reduce(torch.add, systems).double(), reduce(torch.add, likelihoods)


def _blocks(points: Points, pose: Tensor) -> list[Points]:
    """Parts of the points that stay within a processor's cache; on a GPU all at once."""
    if pose.device.type != "cpu":
        return [points]
    return points.split(max(1, BLOCK // pose[..., 0, 0].numel()))


def _derivatives(points: Points, pose: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Normal equations (B, H, 6, 7) in the precision of the points, and their logits (B, H, M) as inliers.

    The six unknowns are a shift and a rotation vector about the object's origin, in camera axes: with the
    origin amid the points the two hardly interact.
    """
    pixels, inverse = project(points, pose)
    error = points.xy[:, None] - pixels
    logit = _inlier_logit(error.square().sum(2), variance)
    # Of both pixel coordinates, times the depth (B, H, 2, 7, M); by the turn, cross products, linear in xyz.
    shift = points.camera[:, None, :2, :2, None].expand(*pixels.shape[:2], 2, 2, pixels.shape[3])
    rotation = pose[:, :, None, :, :3].to(pixels.dtype)
    turns = torch.linalg.cross(rotation, points.camera[:, None, :, :, None], dim=3)
    turn = (turns.flatten(1, 3) @ points.xyz).unflatten(1, turns.shape[1:4])
    pixels = pixels[:, :, :, None]
    turn = torch.addcmul(turn[:, :, :2], pixels, turn[:, :, 2:], value=-1)
    rows = torch.cat([shift, -pixels, turn, (error / inverse)[:, :, :, None]], dim=3)
    weight = (points.weight[:, None] * logit.sigmoid())[:, :, None] * inverse**2
    system = (rows[:, :, :, :6] * weight[:, :, :, None]) @ rows.mT
    return system.sum(2), logit


def _step(pose: Tensor, system: Tensor, damping: Tensor | float) -> Tensor:
    """Poses (B, H, 3, 4) moved by the solution of their damped normal equations."""
    normal, right = system[..., :6].clone(), system[..., 6]
    diagonal = normal.diagonal(dim1=-2, dim2=-1)
    largest = diagonal.amax(-1, keepdim=True)
    diagonal.mul_(1 + damping).add_(largest, alpha=1e-12).add_(1e-30)
    step = torch.linalg.solve_ex(normal, right)[0].nan_to_num(0.0, 0.0, 0.0)
    rotation = turned(pose[..., :3], step[..., 3:])
    return torch.cat([rotation, pose[..., 3:] + step[..., :3, None]], dim=-1)


def turned(rotation: Tensor, vector: Tensor) -> Tensor:
    """Rotations (..., 3, 3) turned by axis times angle (..., 3), by Rodrigues' formula for half the angle."""
    half = vector[..., None] / 2
    angle = torch.linalg.vector_norm(half, dim=-2, keepdim=True)
    axis = half * torch.sinc(angle / math.pi)  # times the sine
    once = torch.linalg.cross(axis, rotation, dim=-2)
    twice = torch.linalg.cross(axis, torch.addcmul(once, angle.cos(), rotation), dim=-2)
    return rotation.add(twice, alpha=2)
