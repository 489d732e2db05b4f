"""Flow: three offset blocks that refine, coarse to fine, where template cells lie in the real crop."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picopose.model.correlation import lookup
from picopose.model.motion import MotionEncoder
from picopose.model.picopose.matching import mask_cells
from picopose.utils.geometry import cell_centres, invert, sample, sample_depth, transform, unproject
from picopose.utils.records import Correspondences, Matches, Record, View

RADIUS = 2  # of the correlation window, in cells


@dataclass(frozen=True)
class Flow(Record):
    """Motion from the template crop to the real crop on an s x s grid of template cells."""

    offset: Tensor  # (B, 2, s, s) px: position in the real crop minus position in the template crop
    certainty: Tensor  # (B, 1, s, s) logit: whether the cell is visible in the real crop


@dataclass(frozen=True)
class FlowMaps(Record):
    """What flow reads of a template, which no photo changes; one entry per level, coarse to fine."""

    features: tuple[Tensor, ...]  # (B, features, s, s)
    context: tuple[Tensor, ...]  # (B, 4 * width, s, s), see `OffsetBlock.context`


class FlowDecoder(nn.Module):
    """Features of both crops and a start -> the flow after each level, coarse to fine.

    Args:
        size: the crops' side in px.
        features: channels of the DPT maps.
        width: channels inside the motion encoders and heads, relative to which all are sized.
        half_cell: added to every position in cells. The released weights hold that "no motion" is half a
            cell, at every level; the doubling between levels does not keep it, so it cannot be folded into
            the weights. Weights trained here use 0.
    """

    def __init__(self, *, size: int = 224, features: int = 256, width: int = 256, half_cell: float = 0.0):
        super().__init__()
        self.size = size
        self.half_cell = half_cell
        self.levels = nn.ModuleList(OffsetBlock(features, width, scales=level + 1) for level in range(3))

    def project(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The DPT maps (B, features, s, s) of a crop at three sizes s, coarse to fine -> its features."""
        return tuple(level.project(m) for level, m in zip(self.levels, maps, strict=True))

    def template_maps(self, maps: Sequence[Tensor]) -> FlowMaps:
        """The DPT maps of a template -> all that the levels read of it."""
        features = self.project(maps)
        context = tuple(level.context(m) for level, m in zip(self.levels, features, strict=True))
        return FlowMaps(features, context)

    def forward(
        self, real: Sequence[Tensor], template: FlowMaps, template_mask: Tensor, matrix: Tensor
    ) -> tuple[Flow, ...]:
        """The flow after each of the three levels.

        Args:
            real: features of the real crop, as `project` gives them.
            template_mask: (B, S, S) bool.
            matrix: (B, 3, 3) start, pixels of the template crop -> pixels of the real crop.
        """
        with torch.autocast(matrix.device.type, enabled=False):  # positions need all their digits
            cells, certainty = self._start(template_mask, matrix, real[0].shape[-1])
        flows = []
        for level, *maps in zip(self.levels, real, template.features, template.context, strict=True):
            side = maps[0].shape[-1]
            if side != cells.shape[-1]:
                cells, certainty = _upsample(2 * cells, side), _upsample(certainty, side)
            cells, certainty = level(*maps, cells, certainty)
            flows.append(Flow((cells - self.half_cell) * (self.size / side), certainty))
        return tuple(flows)

    def _start(self, template_mask: Tensor, matrix: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Flow in cells (B, 2, side, side) and certainty (B, 1, side, side) from the start's 2D transform.

        Template cells off the object start at cell 0 of the real crop, as the released weights expect.
        """
        mask = mask_cells(template_mask, side)[:, None].to(matrix.dtype)
        xy = transform(matrix, cell_centres(side, self.size, matrix.device).to(matrix.dtype))
        position = (xy + 0.5) * (side / self.size) - 0.5 + self.half_cell  # (B, side*side, 2) cell indices
        position = position.mT.unflatten(-1, (side, side))
        return position * mask - _cell_index(side, matrix), mask


class OffsetBlock(nn.Module):
    """One level: reads correlations at the current positions and adds a correction to flow and certainty.

    Both heads begin with a convolution of the same maps: the template's features, the real crop's, and the
    motion. They are computed as one; the template's share of it is a matter of the template alone.
    """

    def __init__(self, features: int, width: int, *, scales: int):
        super().__init__()
        self.scales, self.channels = scales, features
        self.project = nn.Sequential(nn.Conv2d(features, features, 1), nn.BatchNorm2d(features))
        self.motion = MotionEncoder(scales * (2 * RADIUS + 1) ** 2, width)
        joined = 2 * features + width // 2
        self.flow_head = _head(joined, width, nn.Conv2d(width, 2, 3, padding=1))
        self.certainty_head = _head(joined, width, nn.Conv2d(width, 1, 1))

    def context(self, template: Tensor) -> Tensor:
        """The template's share (B, 4 * width, s, s) of the heads' first convolution."""
        weight, bias = self._first()
        return F.conv2d(template, weight[:, : self.channels], bias, padding=1)

    def forward(
        self, real: Tensor, template: Tensor, context: Tensor, cells: Tensor, certainty: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Refines the flow `cells` (B, 2, s, s), in cells, and the logits `certainty` (B, 1, s, s)."""
        side = cells.shape[-1]
        positions = cells + _cell_index(side, cells)
        correlation = lookup(template, real, positions, radius=RADIUS, scales=self.scales)
        warped = sample(real, positions.flatten(2).mT).unflatten(-1, (side, side))
        moving = torch.cat([warped, self.motion(correlation, cells)], dim=1)
        hidden = context + F.conv2d(moving, self._first()[0][:, self.channels :], padding=1)
        for_flow, for_certainty = hidden.chunk(2, dim=1)
        return cells + self.flow_head[1:](for_flow), certainty + self.certainty_head[1:](for_certainty)

    def _first(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the first convolutions of both heads as one."""
        first = self.flow_head[0], self.certainty_head[0]
        return torch.cat([conv.weight for conv in first]), torch.cat([conv.bias for conv in first])


def _head(channels: int, width: int, predict: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(2 * width, width, 3, padding=1),
        nn.ReLU(),
        predict,
    )


def _cell_index(side: int, like: Tensor) -> Tensor:
    """(2, side, side): x and y index of every cell."""
    return cell_centres(side, side, like.device).to(like.dtype).mT.unflatten(-1, (side, side))


def _upsample(maps: Tensor, side: int) -> Tensor:
    return F.interpolate(maps, size=(side, side), mode="bilinear", align_corners=True)


@dataclass(frozen=True)
class Rounding(Record):
    """How far the targets that a network was trained with lie beside the truth, see `floored`."""

    real: Tensor  # (B,) px of the real crop, to the left and upwards
    template: Tensor  # (B,) px of the template crop


def floored(real_zoom: Tensor, template_zoom: Tensor) -> Rounding:
    """What the released weights learnt to answer: the original's training rounded its targets down.

    It did so once in the image and once in the crop, with crop matrices that lack the half pixel; on average
    that is half a pixel of each.

    Args:
        real_zoom: (B,) px of the real crop per px of its photo; template_zoom: (B,) likewise.
    """
    return Rounding((real_zoom + 1) / 2, (template_zoom - 1) / 2)


def correspondences(flow: Flow, template: View, rounding: Rounding | None = None) -> Correspondences:
    """Pixels of the real crop matched to points of the object's surface, one for each visible template cell.

    The weight is the certainty where it is above one half and the template shows the object there, else 0.
    rounding: of the targets of the network's training; None for a network trained here.
    """
    side = flow.offset.shape[-1]
    cells = cell_centres(side, template.rgb.shape[-1], flow.offset.device).expand(len(flow.offset), -1, -1)
    xy = cells if rounding is None else cells + rounding.template[:, None, None]
    depth = sample_depth(template.depth, xy)
    xyz = transform(invert(template.cam_from_obj), unproject(template.K, xy, depth))
    certainty = flow.certainty.flatten(1).sigmoid()
    usable = (depth > 0) & (certainty > 0.5)
    seen = cells + flow.offset.flatten(2).mT
    seen = seen if rounding is None else seen + rounding.real[:, None, None]
    return Correspondences(xy=seen, xyz=xyz, weight=certainty * usable)


def sample_matches(
    matches: Correspondences, inliers: Tensor, photo_from_crop: Tensor, *, size: int, count: int = 48
) -> Matches:
    """At most `count` matches of every pose, spread evenly over the template by their weight.

    Args:
        matches: of template cells (N = s * s), as `correspondences` gives them.
        inliers: (B, N) bool, those to choose from.
        photo_from_crop: (B, 3, 3) pixels of the real crops -> pixels of the photo.
        size: side of the crops in px.
    """
    weight = matches.weight * inliers
    total = weight.cumsum(dim=1)
    place = (torch.arange(count, device=weight.device) + 0.5) / count * total[:, -1:]
    index = torch.searchsorted(total, place).clamp(max=weight.shape[1] - 1)  # (B, count), rising
    repeated = torch.zeros_like(index, dtype=torch.bool)
    repeated[:, 1:] = index[:, 1:] == index[:, :-1]
    cells = cell_centres(math.isqrt(weight.shape[1]), size, weight.device)
    return Matches(
        photo=transform(photo_from_crop, matches.xy.gather(1, index[..., None].expand(-1, -1, 2))),
        template=cells[index],
        weight=weight.gather(1, index) * ~repeated,
    )
