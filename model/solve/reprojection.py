"""Reprojection errors of many poses at once: the score of a hypothesis, its optimisation and the noise level.

Problems of unequal sizes are padded with points of weight 0. These functions serve the solver in `pnp`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from picopose.utils.geometry import cross_matrix
from picopose.utils.records import Record

# Nearest depth at which a point counts as in front of the camera, in the length unit of the points.
NEAR = 1e-6
# Where the refinement takes a point for an outlier as likely as for an inlier, in standard deviations.
CUT = 3.5


@dataclass(frozen=True)
class Points(Record):
    """Points of B objects, and where they are seen."""

    xyz: Tensor  # (B, 3, M) object frame
    xy: Tensor  # (B, 2, M) px, measured from the principal point
    weight: Tensor  # (B, M) 0 = padding
    focal: Tensor  # (B, 3) px: fx, skew, fy

    def first(self, count: int) -> "Points":
        return Points(self.xyz[..., :count], self.xy[..., :count], self.weight[..., :count], self.focal)


def project(points: Points, pose: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Image coordinates x/z and y/z and inverse depths 1/z (B, H, M) under the poses (B, H, 3, 4)."""
    batch, hypotheses = pose.shape[:2]
    rows = pose.to(points.xyz.dtype).reshape(batch, 3 * hypotheses, 4)
    xyz = torch.baddbmm(rows[..., 3:], rows[..., :3], points.xyz).unflatten(1, (hypotheses, 3))
    inverse = 1 / xyz[:, :, 2].clamp(min=NEAR)
    return xyz[:, :, 0] * inverse, xyz[:, :, 1] * inverse, inverse


def residuals(points: Points, pose: Tensor) -> Tensor:
    """Squared distances (B, H, M) in px of points and their projections; huge behind the camera."""
    x, y, _ = project(points, pose)
    fx, skew, fy = points.focal[:, :, None, None].unbind(1)
    u, v = points.xy[:, :, None].unbind(1)
    return (fx * x + skew * y - u) ** 2 + (fy * y - v) ** 2


def msac(points: Points, pose: Tensor, threshold: Tensor) -> Tensor:
    """MSAC cost (B, H) of the poses (B, H, 3, 4): the weighted sum of min(1, (error / threshold)^2).

    Torr and Zisserman, "MLESAC", CVIU 2000. The error times the depth is linear in the pose, so that matrix
    products do most of the work.
    """
    pose, limit = pose.to(points.xyz.dtype), threshold[:, None, None]
    fx, skew, fy = points.focal[:, :, None, None].unbind(1)
    depth = pose[..., 2, :]
    across = torch.cat([(fx * pose[..., 0, :] + skew * pose[..., 1, :]) / limit, depth], dim=-1)
    down = torch.cat([fy * pose[..., 1, :] / limit, depth], dim=-1)
    xyz1 = torch.cat([points.xyz, torch.ones_like(points.xyz[:, :1])], dim=1)
    u, v = (points.xy / limit)[:, :, None].unbind(1)
    across_points, down_points = torch.cat([xyz1, -u * xyz1], dim=1), torch.cat([xyz1, -v * xyz1], dim=1)
    # In blocks whose products stay within a processor's cache, or a GPU's memory.
    block = max(1, (2**18 if pose.device.type == "cpu" else 2**25) // points.weight.numel())
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
    squared = residuals(points, pose)
    limit = threshold[:, None] / 2
    sigma = limit.expand(pose.shape[:2])
    for _ in range(3):
        inlier = points.weight[:, None] * _inlier_logit(squared, sigma).sigmoid_()
        variance = (inlier * squared).sum(-1) / (2 * inlier.sum(-1)).clamp(min=1e-12)
        sigma = torch.minimum(torch.maximum(variance.sqrt(), limit / 4), limit)
    return sigma


def anneal(points: Points, pose: Tensor, sigmas: Iterable[Tensor]) -> Tensor:
    """The poses (B, H, 3, 4) after a Gauss-Newton step for each of the deviations (B, 1), largest first.

    Graduated non-convexity: the wide ones draw in a rough pose, which `refine` would leave with its inliers.
    """
    for sigma in sigmas:
        system, _ = _linearise(points, pose, sigma)
        pose = _step(pose, system, torch.full_like(system[..., 0, 0], 1e-4))
    return pose


def refine(points: Points, pose: Tensor, sigma: Tensor, *, steps: int) -> Tensor:
    """The poses (B, H, 3, 4) after `steps` of Levenberg-Marquardt, each on its own; none gets less likely.

    Maximises the weighted likelihood of a Gaussian of deviation `sigma` (B, H) in px among uniform outliers:
    a point counts as much as it is likely an inlier, and one beyond `CUT` deviations hardly. The step is
    solved in float64, the sums over the points run in the precision of `points`.
    """
    damping = torch.full_like(sigma, 1e-4, dtype=torch.float64)
    system, likelihood = _linearise(points, pose, sigma)
    for _ in range(steps):
        trial = _step(pose, system, damping)
        trial_system, trial_likelihood = _linearise(points, trial, sigma)
        better = trial_likelihood > likelihood
        pose = torch.where(better[..., None, None], trial, pose)
        system = torch.where(better[..., None, None], trial_system, system)
        likelihood = torch.where(better, trial_likelihood, likelihood)
        damping = torch.where(better, damping / 10, damping * 10)
    return pose


def _inlier_logit(squared: Tensor, sigma: Tensor) -> Tensor:
    return CUT**2 / 2 - squared / (2 * sigma[..., None] ** 2)


def _linearise(points: Points, pose: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Normal equations (B, H, 6, 7), right-hand side last, and log-likelihood (B, H) of poses (B, H, 3, 4).

    The six unknowns are a shift and a rotation vector about the object's origin, in camera axes: with the
    origin amid the points the two hardly interact.
    """
    x, y, inverse = project(points, pose)
    fx, skew, fy = points.focal[:, :, None, None].unbind(1)
    u, v = fx * x + skew * y, fy * y
    across, down = u - points.xy[:, None, 0], v - points.xy[:, None, 1]
    logit = _inlier_logit(across**2 + down**2, sigma.to(x.dtype))
    weight = points.weight[:, None]
    likelihood = (weight * F.softplus(logit)).sum(-1)
    weight = (weight * logit.sigmoid_())[:, :, None]
    depth, origin = 1 / inverse, pose[..., 3:].to(x.dtype)
    arm = [x * depth - origin[:, :, 0], y * depth - origin[:, :, 1], depth - origin[:, :, 2]]
    system = 0
    for shift, error in (
        ([fx * inverse, skew * inverse, -u * inverse], across),
        ([torch.zeros_like(x), fy * inverse, -v * inverse], down),
    ):
        rows = torch.stack([*shift, *_cross(arm, shift), error], dim=2)  # (B, H, 7, M)
        system = system + (rows[:, :, :6] * weight) @ rows.mT
    return system.double(), likelihood


def _cross(a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]


def _step(pose: Tensor, system: Tensor, damping: Tensor) -> Tensor:
    """Poses (B, H, 3, 4) moved by the solution of their damped normal equations."""
    normal, right = system[..., :6], system[..., 6]
    diagonal = normal.diagonal(dim1=-2, dim2=-1)
    ridge = diagonal * damping[..., None] + 1e-12 * diagonal.amax(-1, keepdim=True) + 1e-30
    step, _ = torch.linalg.solve_ex(normal + torch.diag_embed(ridge), -right)
    step = torch.where(step.isfinite().all(-1, keepdim=True), step, 0.0)
    rotation = rotation_from_vector(step[..., 3:]) @ pose[..., :3]
    return torch.cat([rotation, pose[..., 3:] + step[..., :3, None]], dim=-1)


def rotation_from_vector(vector: Tensor) -> Tensor:
    """Rotations (..., 3, 3) from axis times angle (..., 3), by Rodrigues' formula."""
    angle = vector.norm(dim=-1).clamp(min=1e-12)[..., None, None]
    cross = cross_matrix(vector)
    identity = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return identity + angle.sin() / angle * cross + (1 - angle.cos()) / angle**2 * (cross @ cross)
