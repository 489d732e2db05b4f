"""One step of Levenberg-Marquardt on a rigid motion, from dense 2D targets of 3D points; differentiable.

Xu et al., RNNPose (CVPR 2022), Sec. 3.3.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from picopose.model.rnnpose.quirks import Quirks
from picopose.utils.geometry import cross_matrix, rigid, transform

NEAREST, STEEPEST = 0.01, 0.02  # m: depths at which projections and their derivatives are cut off
NEAR = 0.1  # m, of points that count where `Quirks.near_limit` is kept
NEAR_SHARE = 0.1  # of the object's diameter, elsewhere
DAMPING, CAMERA_DAMPING, LEAST_DAMPING = 1e-4, 100.0, 1e-3
LARGEST_STEP = 1.0  # m, or diameters, and radians


def step(
    motion: Tensor,
    points: Tensor,
    target: Tensor,
    weight: Tensor,
    K: Tensor,
    *,
    centre: Tensor,
    diameter: float,
    quirks: Quirks,
) -> Tensor:
    """The motion (B, 4, 4) that brings the projections of moved points nearer to their targets.

    Args:
        motion: camera from camera, m, of which a step is made; it gets no gradient.
        points: (B, N, 3) m, camera frame before the motion; those of depth 0 are none.
        target: (B, N, 2) px, where they are seen. weight: (B, N).
        K: (B, 3, 3).
        centre: (B, 3) m, the object's, camera frame before the motion. diameter: the object's, m.
    """
    moved = transform(motion, points)
    pivot = torch.zeros_like(centre) if quirks.camera_twist else transform(motion, centre[:, None])[:, 0]
    unit = 1.0 if quirks.camera_twist else diameter
    near = near_limit(diameter, quirks)
    valid = (points[..., 2] > near) & (moved[..., 2] > near)
    normal, right = normal_equations(moved, target, weight * valid, K, pivot=pivot, unit=unit)
    twist = solve(normal, right, camera=quirks.camera_twist).to(motion.dtype)
    step = exponential(twist, at_identity=quirks.identity_gradient)
    shift = step[:, :3, 3] * unit + pivot - (step[:, :3, :3] @ pivot[..., None])[..., 0]
    return rigid(step[:, :3, :3], shift) @ motion


def near_limit(diameter: float, quirks: Quirks) -> float:
    """The depth (m) from which on points of an object count."""
    return NEAR if quirks.near_limit else NEAR_SHARE * diameter


def project(K: Tensor, xyz: Tensor) -> Tensor:
    """Pixels (B, N, 2) of camera points (B, N, 3), whose depths are taken for 1 cm at least."""
    depth = xyz[..., 2:].clamp(min=NEAREST)
    return xyz[..., :2] / depth * _focal(K) + K[:, None, :2, 2]


def normal_equations(
    xyz: Tensor, target: Tensor, weight: Tensor, K: Tensor, *, pivot: Tensor, unit: float
) -> tuple[Tensor, Tensor]:
    """J'WJ (B, 6, 6) and J'W(target - projection) (B, 6), float64, of twists [v; w] about a pivot (B, 3).

    xyz: (B, N, 3) m. v is in `unit` metres.
    """
    depth = xyz[..., 2].clamp(min=NEAREST)
    steep = (xyz[..., 2] > STEEPEST) / depth
    zero, (fx, fy) = torch.zeros_like(depth), _focal(K).unbind(-1)
    x, y = xyz[..., 0] / depth, xyz[..., 1] / depth
    across = torch.stack([fx * steep, zero, -fx * steep * x], dim=-1)
    down = torch.stack([zero, fy * steep, -fy * steep * y], dim=-1)
    by_shift = torch.stack([across, down], dim=2)  # (B, N, 2, 3)
    by_turn = torch.linalg.cross((xyz - pivot[:, None])[:, :, None].expand_as(by_shift), by_shift)
    jacobian = torch.cat([unit * by_shift, by_turn], dim=-1).double().flatten(1, 2)  # (B, 2N, 6)
    residual = (target - project(K, xyz)).double().flatten(1)
    weighted = jacobian * weight.double().repeat_interleave(2, dim=1)[..., None]
    return weighted.mT @ jacobian, (weighted.mT @ residual[..., None])[..., 0]


def damped(normal: Tensor, *, camera: bool) -> Tensor:
    """The matrices (B, 6, 6) with their diagonals raised."""
    diagonal = normal.diagonal(dim1=-2, dim2=-1)
    return normal + torch.diag_embed(DAMPING * diagonal + (CAMERA_DAMPING if camera else LEAST_DAMPING))


def solve(normal: Tensor, right: Tensor, *, camera: bool) -> Tensor:
    """Twists (B, 6) of damped normal equations, no component beyond 1; 0 where they cannot be solved."""
    factor, _ = torch.linalg.cholesky_ex(damped(normal, camera=camera))
    twist = torch.cholesky_solve(right[..., None], factor)[..., 0]
    return twist.nan_to_num(nan=0.0).clamp(-LARGEST_STEP, LARGEST_STEP)


def exponential(twist: Tensor, *, at_identity: bool = False) -> Tensor:
    """Rigid transforms (B, 4, 4) of twists [v; w] (B, 6); `at_identity`: with the gradient of the twist 0."""
    return _ExponentialAtIdentity.apply(twist) if at_identity else _exponential(twist)


def _exponential(twist: Tensor) -> Tensor:
    """The closed form, in float64; at small angles by series, whose next terms are below 1e-16."""
    v, w = twist.double().split(3, dim=-1)
    square = w.square().sum(-1)[..., None, None]
    small = square < 1e-4
    angle = torch.where(small, 1.0, square).sqrt()
    sine = torch.where(small, 1 - square / 6 + square**2 / 120, angle.sin() / angle)
    cosine = torch.where(small, 0.5 - square / 24 + square**2 / 720, (1 - angle.cos()) / angle**2)
    third = torch.where(small, 1 / 6 - square / 120 + square**2 / 5040, (angle - angle.sin()) / angle**3)
    cross = cross_matrix(w)
    identity = torch.eye(3, dtype=w.dtype, device=w.device)
    rotation = identity + sine * cross + cosine * (cross @ cross)
    shift = (identity + cosine * cross + third * (cross @ cross)) @ v[..., None]
    return rigid(rotation, shift[..., 0]).to(twist.dtype)


class _ExponentialAtIdentity(torch.autograd.Function):
    """The exponential with the original's backward pass."""

    @staticmethod
    def forward(ctx, twist: Tensor) -> Tensor:
        return _exponential(twist)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        turn = [grad[..., i, j] - grad[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0))]
        return torch.cat([grad[..., :3, 3], torch.stack(turn, dim=-1)], dim=-1)


def _focal(K: Tensor) -> Tensor:
    return K[:, None].diagonal(dim1=-2, dim2=-1)[..., :2]
