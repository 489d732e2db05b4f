"""How well the object, drawn at a pose, agrees with the photo: the similarity of ImageNet features, in place.

Number of inliers says little: among wrong poses there is always one that many matches agree with by chance.
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
    """What crops look like."""

    maps: Tensor  # (B, C, n, n) unit descriptors
    cover: Tensor  # (B, n, n) share of a cell that region or object take


def look_of(network: ImageNetFeatures, crop: Crop) -> Look:
    """Of the regions, with grey in place of all else."""
    cover = crop.mask[:, None].float()
    return _look(network, crop.rgb * cover + GREY * (1 - cover), cover)


def look_of_drawing(network: ImageNetFeatures, drawing: Drawing) -> Look:
    """Of drawings, on grey."""
    cover = drawing.cover[:, None]
    return _look(network, drawing.rgb + GREY * (1 - cover), cover)


def _look(network: ImageNetFeatures, rgb: Tensor, cover: Tensor) -> Look:
    """Of images (B, 3, S, S) and what is covered of them (B, 1, S, S)."""
    maps = F.normalize(network.fine(F.avg_pool2d(rgb, rgb.shape[-1] // SIZE)), dim=1)
    return Look(maps, F.adaptive_avg_pool2d(cover, maps.shape[-1])[:, 0])


def agreement(crop: Look, drawing: Look) -> Tensor:
    """(B,) mean similarity over all that either the region or the drawing covers, at most 1."""
    cover = torch.maximum(crop.cover, drawing.cover)
    similarity = (crop.maps * drawing.maps).sum(1)
    return (similarity * cover).sum((1, 2)) / cover.sum((1, 2)).clamp(min=1e-6)
