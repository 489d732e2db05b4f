"""What RNNPose learns from (Xu et al., CVPR 2022, Sec. 3.4): poses, flow, and descriptors of points."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from picopose.model.rnnpose import lm
from picopose.model.rnnpose.network import Iteration, KnownObject
from picopose.model.rnnpose.quirks import Quirks
from picopose.model.rnnpose.samples import Pairs
from picopose.utils.geometry import cell_centres, invert, transform

TYPICAL_DIAMETER = 0.1  # m
LARGEST_FLOW = 400.0  # px: where the truth is farther off, nothing is learnt from it
# Of the circle loss (Sun et al., CVPR 2020), in distances of descriptors of unit length.
POSITIVE_OPTIMUM, NEGATIVE_OPTIMUM, SHARPNESS = 0.1, 1.4, 16.0
# Distances of points, in sizes of the object: nearer they are the same, farther they are others.
SAME, OTHER = 0.011, 0.02


def point_losses(steps: Sequence[Iteration], truth: Tensor, known: KnownObject, quirks: Quirks) -> Tensor:
    """(I,) for each iteration: how far the object's vertices are from where they should be, by their L1 norm.

    truth: (B, 4, 4) m. In metres; unless `Quirks.near_limit` is kept, as if the object measured 10 cm.
    """
    vertices = known.surface.vertices[None]
    goal = transform(truth, vertices)
    off = [
        transform(motion @ step.seen.cam_from_obj, vertices) - goal for step, motion in _judged(steps, quirks)
    ]
    unit = 1.0 if quirks.near_limit else known.diameter / TYPICAL_DIAMETER
    return torch.stack([o.abs().sum(-1).mean() for o in off]) / unit


def flow_losses(steps: Sequence[Iteration], truth: Tensor, known: KnownObject, quirks: Quirks) -> Tensor:
    """(I,) px for each iteration: how wrong the flow is on the surface, averaged over all pixels.

    truth: (B, 4, 4) m.
    """
    losses, near = [], lm.near_limit(known.diameter, quirks)
    for step, motion in _judged(steps, quirks):
        goal, valid = true_flow(step, truth, near)
        moved = transform(motion, step.seen.points)[..., 2]
        valid = valid & (moved > near).unflatten(-1, valid.shape[-2:])
        losses.append(((step.flow - goal).abs() * valid[:, None]).mean())
    return torch.stack(losses)


def true_flow(step: Iteration, truth: Tensor, near: float) -> tuple[Tensor, Tensor]:
    """The flow (B, 2, S, S) px that a step should find, and where it is known (B, S, S).

    truth: (B, 4, 4) m; near: m, depth from which on points count.
    """
    points, shape = step.seen.points, step.flow.shape[-2:]
    moved = transform(truth @ invert(step.seen.cam_from_obj), points)
    flow = lm.project(step.seen.K, moved) - cell_centres(shape[-1], shape[-1], points.device)
    valid = (points[..., 2] > near) & (moved[..., 2] > near)
    valid &= flow.norm(dim=-1) < LARGEST_FLOW
    return flow.mT.unflatten(-1, shape), valid.unflatten(-1, shape)


def circle_loss(photo: Tensor, model: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """The circle loss of descriptors, and the share of the photo's points that find the right vertex.

    photo, model: (B, N, D), descriptors of the pairs' pixels and vertices; where a pair is of the background,
    its pixel's in both.
    """
    positive, negative = _kinds(pairs)
    distance = (2 - 2 * photo @ model.mT).clamp(min=1e-12).sqrt()
    pull = _pressed(distance - POSITIVE_OPTIMUM) * positive
    push = _pressed(NEGATIVE_OPTIMUM - distance) * negative
    both = pairs.used[:, :, None] & pairs.used[:, None]
    pull, push = (torch.where(both, value, -torch.inf) for value in (pull, push))
    sides = []
    for axis in (2, 1):
        owns = positive.any(axis) & negative.any(axis)
        loss = F.softplus(_log_sum(pull, axis) + _log_sum(push, axis)) / SHARPNESS
        sides.append(((loss * owns).sum(1) / owns.sum(1).clamp(min=1)).mean())
    nearest = torch.where(both, distance, torch.inf).argmin(dim=2, keepdim=True)
    right, asked = positive.gather(2, nearest)[..., 0], positive.any(2)
    return sum(sides) / 2, (right & asked).sum() / asked.sum().clamp(min=1)


def _kinds(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Which points of the photo and of the model (B, N, N) are the same spot, and which are others."""
    background = pairs.vertex < 0
    alike = background[:, :, None] == background[:, None]
    distance = torch.cdist(pairs.point, pairs.vertex_point, compute_mode="donot_use_mm_for_euclid_dist")
    distance = torch.where(background[:, :, None] & background[:, None], 0.0, distance)
    both = pairs.used[:, :, None] & pairs.used[:, None]
    return both & alike & (distance < SAME), both & (~alike | (distance > OTHER))


def _pressed(excess: Tensor) -> Tensor:
    """A logit whose weight grows with itself, but takes no part in the gradient."""
    return SHARPNESS * excess * excess.detach().clamp(min=0)


def _log_sum(values: Tensor, axis: int) -> Tensor:
    """Log-sum-exp of values of which all may be minus infinite, without NaN in the gradient."""
    none = values.isneginf().all(axis, keepdim=True)
    return torch.where(none, 0.0, values).logsumexp(axis)


def _judged(steps: Sequence[Iteration], quirks: Quirks) -> list[tuple[Iteration, Tensor]]:
    """Steps with their motions, as far as the losses know them."""
    judged = []
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        forgotten = quirks.forgotten_poses and following is not None and following.seen is not step.seen
        identity = torch.eye(4, device=step.motion.device).expand_as(step.motion)
        judged.append((step, identity if forgotten else step.motion))
    return judged
