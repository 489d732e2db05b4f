"""Where in a photo an object may be, at which size and turn: templates slid over the photo's descriptors.

A template's responses are measured in standard deviations of its responses to the photo's own cells, so that
plain cells, which resemble half of the photo, count little, and distinctive ones much.
"""

import math
from dataclasses import dataclass, replace

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
SMALLEST, STEP = 1 / 16, math.sqrt(2)  # smallest object, in longer sides of the photo; ratio of sizes
SAME = 0.4  # IoU above which two boxes are taken for the same thing
LARGEST_PX = 2200  # longer side of the largest scale of a photo that is searched
COARSE, PEAKS = 2, 400  # cells averaged for the coarse search; its places that are searched finely
LEAST_SPREAD = 0.01  # standard deviation of cosines, for a photo whose cells all look the same


@dataclass(frozen=True)
class Candidates(Record):
    """Places where an object may be, best first."""

    score: Tensor  # (M,) in multiples of the median: some objects resemble a bit of everything
    template: Tensor  # (M,) long
    box: Tensor  # (M, 4) px of the photo
    centre: Tensor  # (M, 2) px, of the circle around the object
    diameter: Tensor  # (M,) px


@dataclass(frozen=True)
class Level(Record):
    """A photo at one scale."""

    maps: Tensor  # (1, D, h, w) descriptors
    px: float  # pixels of the photo in a pixel of this scale


@dataclass(frozen=True)
class CellStatistics(Record):
    """Mean and covariance of the descriptors of a photo's cells, at all scales."""

    mean: Tensor  # (D,)
    covariance: Tensor  # (D, D)


@dataclass(frozen=True)
class Filters(Record):
    """Templates standardized by a photo's own cells: a response is weight * descriptors - offset."""

    weight: Tensor  # (V, D, n, n)
    offset: Tensor  # (V,)


@dataclass(frozen=True)
class Places(Record):
    """Cells at the middle of the n x n windows that are compared with templates."""

    level: Tensor  # (P,) long
    x: Tensor  # (P,) long
    y: Tensor  # (P,) long


def pyramid(network: ImageNetFeatures, likeness: Likeness, rgb: Tensor) -> list[Level]:
    """Descriptors of a photo (3, H, W) uint8 at scales where objects have the templates' size."""
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
    """An image with `px` of its pixels in one, padded with grey on the right and below to multiples of 32."""
    height, width = (max(1, round(side / px)) for side in image.shape[-2:])
    image = F.interpolate(image, (height, width), mode="bilinear", antialias=True)
    return F.pad(image, (0, -width % 32, 0, -height % 32), value=GREY)


def cell_statistics(levels: list[Level]) -> CellStatistics:
    """Statistics of a photo's levels, at least one, by which all objects' templates are standardized."""
    descriptors = torch.cat([level.maps[0].flatten(1) for level in levels], dim=1)  # (D, N)
    return CellStatistics(descriptors.mean(1), torch.cov(descriptors))


def search(levels: list[Level], photo: CellStatistics, templates: Templates, most: int) -> Candidates:
    """The most likely places of an object, at most `most` of them, no two for the same thing.

    photo: statistics of these levels.
    """
    filters = _standardized(templates, photo)
    places = _peaks(levels, filters)
    responses = _windows(levels, places).flatten(1) @ filters.weight.flatten(1).T - filters.offset
    score, template = responses.max(1)
    found = _candidates(levels, places, score, template, templates)
    found = found[nms(found.box, found.score, SAME)[:most]]
    return replace(found, score=found.score / found.score.median().clamp(min=1))


def _standardized(templates: Templates, photo: CellStatistics) -> Filters:
    """Filters whose response is the sum of standardized cosines over a template's n cells, over sqrt(n)."""
    cells = templates.cells.to(photo.mean.dtype)
    mean = torch.einsum("vdyx,d->vyx", cells, photo.mean)
    projected = torch.einsum("vdyx,de->veyx", cells, photo.covariance)
    spread = (projected * cells).sum(1).clamp(min=LEAST_SPREAD**2).sqrt()
    shown = cells.abs().amax(1) > 0
    share = shown / spread / shown.sum((1, 2), keepdim=True).clamp(min=1).sqrt()
    return Filters(cells * share[:, None], (mean * share).sum((1, 2)))


def _peaks(levels: list[Level], filters: Filters) -> Places:
    """Places where a template of coarse cells responds more strongly than any template does next to it."""
    coarse = F.avg_pool2d(filters.weight, COARSE) * COARSE**2
    strength, places = [], []
    for index, level in enumerate(levels):
        maps = F.avg_pool2d(level.maps, COARSE, stride=1)
        responses = F.conv2d(maps, coarse, -filters.offset, padding=CELLS // 2, dilation=COARSE)
        best = responses.amax(1)[0]
        y, x = (best == F.max_pool2d(best[None, None], 3, 1, 1)[0, 0]).nonzero().unbind(1)
        strength.append(best[y, x])
        places.append(Places(torch.full_like(y, index), x, y))
    all_strength = torch.cat(strength)
    return Places.cat(places)[all_strength.topk(min(PEAKS, len(all_strength))).indices]


def _windows(levels: list[Level], places: Places) -> Tensor:
    """(P, D, n, n) descriptors at places; 0 outside a level."""
    found = levels[0].maps.new_empty(len(places.x), levels[0].maps.shape[1], CELLS, CELLS)
    for index, level in enumerate(levels):
        here = (places.level == index).nonzero()[:, 0]
        windows = F.pad(level.maps[0], [CELLS // 2] * 4).unfold(1, CELLS, 1).unfold(2, CELLS, 1)
        found[here] = windows[:, places.y[here], places.x[here]].transpose(0, 1)
    return found


def _candidates(
    levels: list[Level], places: Places, score: Tensor, template: Tensor, templates: Templates
) -> Candidates:
    px = score.new_tensor([level.px for level in levels])[places.level]
    first_cell = torch.stack([places.x, places.y], dim=1) - CELLS // 2
    corner, side = first_cell * STRIDE * px[:, None], SIZE * px
    return Candidates(
        score=score,
        template=template,
        box=corner.repeat(1, 2) + side[:, None] * templates.box[template],
        centre=corner + side[:, None] / 2 - 0.5,
        diameter=side / PADDING,
    )
