"""Rotations that look alike: q and -q, and any turn about the axis of a round object."""

import torch
from torch import Tensor

from picopose.datasets.nocs.labels import ROUND
from picopose.model.dualposenet.network import Estimate, matrices

_TINY = 1e-12


def is_round(class_id: Tensor) -> Tensor:
    """(B,) bool of (B,) class ids."""
    return torch.isin(class_id, torch.tensor(ROUND, device=class_id.device))


def nearest_alike(truth: Estimate, rotation: Tensor, class_id: Tensor) -> Estimate:
    """The truth with those of its rotations (B, 4) that are nearest to others (B, 4).

    A turn by an angle a about the object's y axis is q -> (cos(a/2) + sin(a/2) j) q, whose product with the
    other rotation is largest where cosine and sine are in proportion to the products of q and j q with it.
    """
    w, x, y, z = truth.rotation.unbind(1)
    quarter = torch.stack([-y, z, w, -x], dim=1)  # j q
    cosine = (truth.rotation * rotation).sum(1)
    sine = (quarter * rotation).sum(1) * is_round(class_id)
    length = torch.hypot(cosine, sine)
    turned = (cosine[:, None] * truth.rotation + sine[:, None] * quarter) / length.clamp(min=_TINY)[:, None]
    return truth._replace(rotation=torch.where((length > _TINY)[:, None], turned, truth.rotation))


def angles(rotation: Tensor, other: Tensor, class_id: Tensor) -> Tensor:
    """Degrees (B,) between rotations (B, 4); of round objects those between their y axes."""
    product = (rotation * other).sum(1).abs().clamp(max=1)
    axes = (matrices(rotation)[:, 1] * matrices(other)[:, 1]).sum(1).clamp(-1, 1)
    return torch.where(is_round(class_id), axes.acos(), 2 * product.acos()).rad2deg()
