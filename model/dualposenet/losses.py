"""What DualPoseNet is trained for: poses in both ways."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from picopose.model.dualposenet.network import Estimate

IMPLICIT_WEIGHT = 10


class Losses(NamedTuple):
    """Huber losses, each a mean over all numbers of the batch."""

    rotation: Tensor
    translation: Tensor
    size: Tensor
    implicit: Tensor

    @property
    def total(self) -> Tensor:
        return self.rotation + self.translation + self.size + IMPLICIT_WEIGHT * self.implicit


def pose_losses(estimate: Estimate, canonical: Tensor, points: Tensor, truth: Estimate) -> Losses:
    """The losses of both decoders' poses.

    Args:
        canonical: (B, N, 3) coordinates from the implicit decoder, of points: (B, N, 3).
    """
    explicit = (F.huber_loss(ours, theirs) for ours, theirs in zip(estimate, truth, strict=True))
    return Losses(*explicit, F.huber_loss(canonical, truth.canonical(points)))


def disagreement(estimate: Estimate, canonical: Tensor, points: Tensor) -> Tensor:
    """How far the two poses are apart, in canonical coordinates; needs no truth."""
    return F.huber_loss(estimate.canonical(points), canonical)
