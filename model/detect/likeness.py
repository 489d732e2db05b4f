"""How similar a cell of a photo and a cell of a template are: cosines of projected ImageNet features.

The projection suppresses directions in which photos and renderings of the same spot differ, and keeps those
that distinguish spots: a linear discriminant (Mikolajczyk and Matas, "Improving descriptors for fast tree
matching by optimal linear projection", ICCV 2007). `tools.fit_likeness` computes it in closed form.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from picopose.model.pretrained import LIKENESS
from picopose.model.rendermatch.imagenet import ImageNetFeatures
from picopose.utils.records import Record


@dataclass(frozen=True)
class Likeness(Record):
    """Projects features of cells (C) to unit descriptors (D) whose cosines measure similarity."""

    projection: Tensor  # (D, C)
    photo_mean: Tensor  # (C,)
    template_mean: Tensor  # (C,)

    def of_photo(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, D, h, w)"""
        return self._projected(maps, self.photo_mean)

    def of_templates(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, D, h, w)"""
        return self._projected(maps, self.template_mean)

    def _projected(self, maps: Tensor, mean: Tensor) -> Tensor:
        shift = -self.projection @ mean
        return F.normalize(F.conv2d(maps, self.projection[..., None, None], shift), dim=1)


def features(network: ImageNetFeatures, rgb: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] -> features (B, C, H/16, W/16) of their cells of 16 px.

    Each cell has its features of stride 16 and the four of stride 8 within it.
    """
    fine, coarse = network(rgb)
    return torch.cat([coarse, F.pixel_unshuffle(fine, 2)], dim=1)


def load_likeness(device: torch.device) -> Likeness:
    return Likeness(**load_file(LIKENESS)).to(device)
