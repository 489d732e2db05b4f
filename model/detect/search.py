"""Where in a photo, how large and how turned an object may be: its templates slid over descriptors."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import nms

from picopose.model.detect.likeness import Likeness, features
from picopose.model.detect.templates import CELLS, Templates
from picopose.model.drawn.crops import GREY, PADDING
from picopose.model.rendermatch.imagenet import ImageNetFeatures
from picopose.model.rendermatch.views import SIZE
from picopose.utils.records import Record

STRIDE = SIZE // CELLS
SMALLEST, STEP = 1 / 16, math.sqrt(2)  # of objects, in longer sides of the photo; from one size to the next
SAME = 0.4  # overlap of boxes from which on they are about one thing
LARGEST_PX = 2200  # of the longer side of a photo that is looked at


@dataclass(frozen=True)
class Candidates(Record):
    """Places where an object may be, the best first."""

    score: Tensor  # (M,) sum of cosines, in standard deviations of unlike ones
    template: Tensor  # (M,) long
    box: Tensor  # (M, 4) px of the photo
    centre: Tensor  # (M, 2) px, of the circle about the object
    diameter: Tensor  # (M,) px


@dataclass(frozen=True)
class Level(Record):
    """A photo at one scale."""

    maps: Tensor  # (1, D, h, w) descriptors
    px: float  # of the photo, to a pixel of this scale


def pyramid(network: ImageNetFeatures, likeness: Likeness, rgb: Tensor) -> list[Level]:
    """Descriptors of a photo (3, H, W) uint8 at scales that show objects at the templates' size."""
    image = rgb[None].float() / 255
    longer, shorter = max(rgb.shape[1:]), min(rgb.shape[1:])
    levels, size = [], SMALLEST * longer
    while size <= shorter:
        px = size * PADDING / SIZE
        if longer / px <= LARGEST_PX:
            levels.append(Level(likeness.of_photo(features(network, _resized(image, px))), px))
        size *= STEP
    return levels


def _resized(image: Tensor, px: float) -> Tensor:
    """At `px` pixels to one, grey beyond its right and lower rim up to sides divisible by 32."""
    height, width = (max(1, round(side / px)) for side in image.shape[-2:])
    image = F.interpolate(image, (height, width), mode="bilinear", antialias=True)
    return F.pad(image, (0, -width % 32, 0, -height % 32), value=GREY)


def search(levels: list[Level], templates: Templates, most: int) -> Candidates:
    """At most so many places where an object is most likely, no two about the same thing."""
    filters = templates.filters.to(levels[0].maps.dtype)
    found = Candidates.cat([_peaks(level, filters, templates.box) for level in levels])
    return found[nms(found.box, found.score, SAME)[:most]]


def _peaks(level: Level, filters: Tensor, boxes: Tensor) -> Candidates:
    """The places at one scale where some template fits better than any does beside."""
    score, template = F.conv2d(level.maps, filters, padding=CELLS // 2)[0].max(0)
    y, x = (score == F.max_pool2d(score[None, None], 3, 1, 1)[0, 0]).nonzero().unbind(1)
    score, template = score[y, x], template[y, x]
    side = SIZE * level.px
    corner = (torch.stack([x, y], dim=1) - CELLS // 2) * STRIDE * level.px  # px, of a pixel's edge
    return Candidates(
        score=score,
        template=template,
        box=corner.repeat(1, 2) + side * boxes[template],
        centre=corner + side / 2 - 0.5,
        diameter=torch.full_like(score, side / PADDING),
    )
