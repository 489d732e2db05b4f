"""Makes `Mask` records, which store only the part of a mask inside its box."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import masks_to_boxes

from picopose.utils.records import Mask


def cut_out(mask: Tensor) -> Mask:
    """A mask (H, W) bool as a record with a copy of the part inside its box."""
    rows, columns = (mask.any(dim=axis).nonzero()[:, 0] for axis in (1, 0))
    if len(rows) == 0:
        return Mask(torch.zeros(4, dtype=torch.long, device=mask.device), None)
    box = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    left, top, right, bottom = box.tolist()
    inside = mask[top:bottom, left:right]
    return Mask(box, None if inside.all() else inside.clone())


def boxes_about(masks: Tensor) -> Tensor:
    """The boxes (B, 4) long about masks (B, H, W) bool, as those of records; all 0 about an empty one."""
    there = masks.flatten(1).any(1, keepdim=True)
    return (masks_to_boxes(masks).long() + torch.tensor([0, 0, 1, 1], device=masks.device)) * there


def boxes_of(masks: Sequence[Mask]) -> Tensor:
    """The boxes (B, 4) long of masks, in px."""
    return torch.stack([mask.box for mask in masks]) if masks else torch.zeros(0, 4, dtype=torch.long)
