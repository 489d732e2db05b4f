"""How well a drawing of the object agrees with the photo: mean similarity of ImageNet features, cell by cell.

The number of inliers says less: among many wrong poses there is always one that many matches fit by chance.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from picopose.model.drawn.crops import GREY
from picopose.model.rendermatch.imagenet import ImageNetFeatures
from picopose.model.rendermatch.views import SIZE
from picopose.utils.records import Crop, Drawing, Record


@dataclass(frozen=True)
class Look(Record):
    """Features of crops or drawings."""

    maps: Tensor  # (B, C, n, n) unit descriptors
    cover: Tensor  # (B, n, n) share of each cell that the region or object covers


def look_of(network: ImageNetFeatures, crop: Crop) -> Look:
    """Features of a photo's regions, with everything outside them grey."""
    cover = crop.mask[:, None].float()
    return _look(network, crop.rgb * cover + GREY * (1 - cover), cover)


def look_of_drawing(network: ImageNetFeatures, drawing: Drawing) -> Look:
    """Features of drawings on a grey background."""
    cover = drawing.cover[:, None]
    return _look(network, drawing.rgb + GREY * (1 - cover), cover)


def _look(network: ImageNetFeatures, rgb: Tensor, cover: Tensor) -> Look:
    """Features of images (B, 3, S, S), whose pixels are covered by shares (B, 1, S, S)."""
    maps = F.normalize(network.fine(F.avg_pool2d(rgb, rgb.shape[-1] // SIZE)), dim=1)
    return Look(maps, F.adaptive_avg_pool2d(cover, maps.shape[-1])[:, 0])


def agreement(crop: Look, drawing: Look) -> Tensor:
    """(B,) mean similarity over everything that the region or the drawing covers, at most 1."""
    cover = torch.maximum(crop.cover, drawing.cover)
    similarity = (crop.maps * drawing.maps).sum(1)
    return (similarity * cover).sum((1, 2)) / cover.sum((1, 2)).clamp(min=1e-6)
