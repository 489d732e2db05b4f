"""Reprojection errors of many poses at once: the score of a hypothesis, its optimisation and the noise level.

Problems of unequal sizes are padded with points of weight 0. These functions serve the solver in `pnp`.
"""

from collections.abc import Iterable, Sequence
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
    inverse = xyz[:, :, 2:].clamp(min=NEAR).reciprocal()
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
    rows = points.camera[:, None] @ pose.to(points.xyz.dtype)
    xyz1 = F.pad(points.xyz, (0, 0, 0, 1), value=1.0)
    # The error times the depth is the coordinate's row, less the coordinate times the last row, by the point.
    both_rows = torch.stack([rows[:, :, 0::2], rows[:, :, 1:]]).flatten(3)
    seen = xyz1 * -points.xy.transpose(0, 1)[:, :, None]
    both_points = torch.cat([xyz1.expand_as(seen), seen], dim=2)
    depth_row = rows[:, :, 2] * threshold[:, None, None]
    # In blocks whose products stay within a processor's cache, or a GPU's memory.
    block = max(1, (2**18 if pose.device.type == "cpu" else 2**26) // points.weight.numel())
    costs = []
    for both, last in zip(both_rows.split(block, 2), depth_row.split(block, 1), strict=True):
        error, other = both @ both_points
        scale = torch.bmm(last, xyz1).clamp_(min=1e-18).square_()  # behind the camera any error becomes huge
        truncated = error.square_().addcmul_(other, other).div_(scale).clamp_(max=1)
        costs.append((truncated @ points.weight[..., None])[..., 0])
    return joined(costs)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """The parts side by side (B, H, ...), uncopied if it is one."""
    return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


def noise(points: Points, pose: Tensor, threshold: Tensor) -> Tensor:
    """Standard deviation (B, H) in px of the inliers' image coordinates: 1/8 to 1/2 of the threshold.

    Expectation maximisation of a Gaussian among uniform outliers, at the given poses (B, H, 3, 4).
    """
    squared, most = residuals(points, pose), (threshold[:, None] / 2) ** 2
    variance, least = most.expand(pose.shape[:2]), most / 16
    per_coordinate = (
        torch.stack([squared / 2, torch.ones_like(squared)], dim=2) * points.weight[:, None, None]
    )
    for _ in range(3):
        inlier = _inlier_logit(squared, variance).sigmoid()
        total, count = (per_coordinate @ inlier[..., None])[..., 0].unbind(2)
        variance = (total / count.clamp(min=1e-12)).clamp(least, most)
    return variance.sqrt()


def anneal(points: Points, pose: Tensor, sigma: Tensor, factors: Iterable[float]) -> Tensor:
    """The poses (B, H, 3, 4) after a Gauss-Newton step for each factor, largest first, of the deviation (B,).

    Graduated non-convexity: wide ones draw in a rough pose, which `refine` would leave with its inliers.
    """
    variance = sigma[:, None] ** 2
    for factor in factors:
        pose = _step(pose, _linearise(points, pose, factor**2 * variance), 1e-4)
    return pose


def refine(points: Points, pose: Tensor, sigma: Tensor, *, steps: int) -> Tensor:
    """The poses (B, H, 3, 4) after `steps` of Levenberg-Marquardt, each on its own; none gets less likely.

    Maximises the weighted likelihood of a Gaussian of deviation `sigma` (B, H) in px among uniform outliers:
    a point counts as much as it is likely an inlier, and one beyond `CUT` deviations hardly. The step is
    solved in float64, the sums over the points run in the precision of `points`.
    """
    damping, variance = torch.full_like(sigma, 1e-4, dtype=torch.float64), sigma**2
    for _ in range(steps):
        system, likelihood = _judge(points, pose, variance)
        trial = _step(pose, system, damping[..., None])
        better = _likelihood(points, trial, variance) > likelihood
        pose = torch.where(better[..., None, None], trial, pose)
        damping = torch.where(better, damping / 10, damping * 10)
    return pose


def _inlier_logit(squared: Tensor, variance: Tensor) -> Tensor:
    return torch.rsub(squared / variance.to(squared.dtype)[..., None], CUT**2 / 2, alpha=0.5)


def _linearise(points: Points, pose: Tensor, variance: Tensor) -> Tensor:
    """Normal equations (B, H, 6, 7) of the poses (B, H, 3, 4), right-hand side last."""
    return reduce(torch.add, (_derivatives(some, pose, variance)[0] for some in _blocks(points, pose)))


def _judge(points: Points, pose: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Normal equations, and the log-likelihood (B, H)."""
    systems, likelihoods = [], []
    for some in _blocks(points, pose):
        system, logit = _derivatives(some, pose, variance)
        systems.append(system)
        likelihoods.append(_total(logit, some))
    return reduce(torch.add, systems), reduce(torch.add, likelihoods)


def _likelihood(points: Points, pose: Tensor, variance: Tensor) -> Tensor:
    """The log-likelihood (B, H) alone."""
    parts = (_total(_inlier_logit(residuals(some, pose), variance), some) for some in _blocks(points, pose))
    return reduce(torch.add, parts)


def _total(logit: Tensor, points: Points) -> Tensor:
    """Log-likelihood (B, H) of points with these logits (B, H, M) as inliers, up to a constant."""
    return (F.softplus(logit) @ points.weight[:, :, None])[..., 0]


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
    pose = pose.to(points.xyz.dtype)
    pixels, inverse = project(points, pose)
    error = points.xy[:, None] - pixels
    logit = _inlier_logit(error.square().sum(2), variance)
    # Of both pixel coordinates, times the depth (B, H, 7, 2, M); by the turn, cross products, linear in xyz.
    pixels = pixels[:, :, None]
    shift = points.camera.mT[:, None, :2, :2, None].expand(*pixels.shape[:2], 2, 2, pixels.shape[-1])
    turns = torch.linalg.cross(pose[:, :, :, None, :3], points.camera.mT[:, None, :, :, None], dim=2)
    turn = (turns.flatten(1, 3) @ points.xyz).unflatten(1, turns.shape[1:4])
    turn = torch.addcmul(turn[:, :, :, :2], pixels, turn[:, :, :, 2:], value=-1)
    rows = torch.cat([shift, -pixels, turn, (error / inverse)[:, :, None]], dim=2)
    weight = (points.weight[:, None] * logit.sigmoid())[:, :, None, None] * inverse[:, :, None] ** 2
    return (rows[:, :, :6] * weight).flatten(3) @ rows.flatten(3).mT, logit


def _step(pose: Tensor, system: Tensor, damping: Tensor | float) -> Tensor:
    """Poses (B, H, 3, 4) moved by the solution of their damped normal equations."""
    system = system.to(torch.float64, copy=True)
    diagonal = system.diagonal(dim1=-2, dim2=-1)
    largest = diagonal.amax(-1, keepdim=True)
    diagonal.mul_(1 + damping).add_(largest, alpha=1e-12).add_(1e-30)  # never singular
    step = torch.linalg.solve_ex(system[..., :6], system[..., 6:])[0]
    rotation = turned(pose[..., :3], step[..., 3:, 0])
    return torch.cat([rotation, pose[..., 3:] + step[..., :3, :]], dim=-1)


def turned(rotation: Tensor, vector: Tensor) -> Tensor:
    """Rotations (..., 3, 3) turned about axes (..., 3) by twice the arctangent of half their length.

    Cayley's transform: as good a step as the exponential map, which it equals to the second order.
    """
    axis = vector[..., None]
    turn = torch.linalg.cross(axis, torch.linalg.cross(axis, rotation, dim=-2).add(rotation, alpha=2), dim=-2)
    return torch.addcdiv(rotation, turn, axis.mT @ axis + 4, value=2)
