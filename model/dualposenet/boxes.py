"""How much boxes overlap, by counting the points of a grid."""

import torch
from torch import Tensor

from picopose.model.dualposenet.network import Estimate, matrices

GRID = 12  # points along each side of a box


def overlaps(estimate: Estimate, truth: Estimate) -> Tensor:
    """About the intersection over union (B,) of the boxes, however they are turned; off by a few percent."""
    steps = (torch.arange(GRID, device=truth.size.device) + 0.5) / GRID - 0.5
    grid = torch.cartesian_prod(steps, steps, steps)
    points = grid * truth.size[:, None] @ matrices(truth.rotation) + truth.translation[:, None]
    size = estimate.size.abs()
    local = (points - estimate.translation[:, None]) @ matrices(estimate.rotation).mT
    common = (local.abs() <= size[:, None] / 2).all(2).float().mean(1) * truth.size.prod(1)
    return common / (truth.size.prod(1) + size.prod(1) - common)


def corners(pose: Estimate) -> Tensor:
    """(B, 8, 3) m in the camera's frame, relative to the centroid of the points."""
    signs = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5], device=pose.size.device)] * 3)
    return signs * pose.size[:, None] @ matrices(pose.rotation) + pose.translation[:, None]
