"""Masks as records and as whole images, for tests that make or look at them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from picopose.utils.masks import cut_out
from picopose.utils.records import Mask


def records(masks: Tensor) -> tuple[Mask, ...]:
    """Of masks (B, H, W) bool."""
    return tuple(map(cut_out, masks))


def whole(masks: Sequence[Mask], height: int, width: int) -> Tensor:
    """(B, H, W) bool of masks of a photo of this size."""
    images = [mask.window(0, 0, width, height) for mask in masks]
    return torch.stack(images) if images else torch.zeros(0, height, width, dtype=torch.bool)
