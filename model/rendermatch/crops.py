"""Square crops about the circles of regions: an object that is turned in the image keeps its size in them."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.crop import mask_boxes
from utils.geometry import sample
from utils.structs import Crop, Record

PADDING = 1.1  # side of a crop in diameters of the region's circle


@dataclass(frozen=True)
class Regions(Record):
    """Where objects are looked for in one photo."""

    centre: Tensor  # (B, 2) px
    diameter: Tensor  # (B,) px
    is_box: Tensor  # (B,) bool: the region is a box, so that it shows background too


def regions_of(masks: Tensor) -> Regions:
    """The regions of masks (B, H, W) bool, none of them empty.

    A mask's circle is the smallest that holds it. A mask that is a whole box is taken for a box, whose circle
    is as wide as its longer side: the object reaches to its sides, but hardly into its corners.
    """
    boxes = mask_boxes(masks)
    circles, is_box = [], []
    for mask, (left, top, right, bottom) in zip(masks, boxes.tolist(), strict=True):
        inside = mask[top:bottom, left:right]
        if inside.all():
            circles.append(((left + right - 1) / 2, (top + bottom - 1) / 2, max(right - left, bottom - top)))
        else:
            points = np.argwhere(inside.cpu().numpy())[:, ::-1].astype(np.float32)
            (x, y), radius = cv2.minEnclosingCircle(cv2.convexHull(points))
            circles.append((x + left, y + top, 2 * radius + 1))
        is_box.append(bool(inside.all()))
    circles = torch.tensor(circles, device=masks.device).reshape(-1, 3)
    return Regions(circles[:, :2], circles[:, 2], torch.tensor(is_box, device=masks.device, dtype=torch.bool))


def crop_regions(image: Tensor, masks: Tensor, K: Tensor, regions: Regions, size: int) -> Crop:
    """Crops (B, ...) of `size` px about the regions of a photo; black and unmasked beyond its rim.

    image (3, H, W) uint8; masks (B, H, W) bool; K (3, 3) of the photo.
    """
    side = PADDING * regions.diameter
    scale, first = size / side, regions.centre - side[:, None] / 2  # px of the window's edge
    crop_from_photo = torch.eye(3, device=K.device).repeat(len(side), 1, 1)
    crop_from_photo[:, 0, 0] = crop_from_photo[:, 1, 1] = scale
    crop_from_photo[:, :2, 2] = -scale[:, None] * first - 0.5
    parts = [
        _window(image, mask, corner, width, size)
        for mask, corner, width in zip(masks, first.tolist(), side.tolist(), strict=True)
    ]
    maps = torch.stack(parts)
    return Crop(rgb=maps[:, :3], mask=maps[:, 3] > 0.5, K=crop_from_photo @ K.float())


def _window(image: Tensor, mask: Tensor, corner: list[float], side: float, size: int) -> Tensor:
    """Colours and mask (4, size, size) of the window from `corner` (px, its edge) on, `side` px wide."""
    height, width = mask.shape
    shrink = max(1, int(side / size))  # a large window is averaged over blocks first, lest it flicker
    left, top = (int(np.floor(c + 0.5)) - 1 for c in corner)
    cells = int(np.ceil(side / shrink)) + 3
    right, bottom = left + shrink * cells, top + shrink * cells
    inside = (slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0)))
    part = torch.cat([image[:, *inside].float() / 255, mask[None, *inside].float()])
    padding = (max(-left, 0), right - max(width, left), max(-top, 0), bottom - max(height, top))
    part = F.pad(part, [max(0, p) for p in padding])[..., : bottom - top, : right - left]
    if shrink > 1:
        part = F.avg_pool2d(part, shrink)
    step = (torch.arange(size, device=image.device) + 0.5) * (side / size)
    # Pixel i of `part` covers [left + shrink * i - 1/2, left + shrink * (i + 1) - 1/2) of the photo.
    x, y = ((step + c + 0.5 - first) / shrink - 0.5 for c, first in zip(corner, (left, top), strict=True))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(1, -1, 2)
    return sample(part[None], grid)[0].view(4, size, size)


def turned(maps: Tensor, turns: int) -> Tensor:
    """Maps (B, C, S, S) turned about their middle by 0, 1, ... of `turns` equal steps: (B, turns, C, S, S).

    Positive angles go from x to y; what comes in from outside is 0.
    """
    angle = torch.arange(turns, device=maps.device) * (2 * torch.pi / turns)
    cosine, sine = angle.cos(), angle.sin()
    zero = torch.zeros_like(angle)
    # Where a pixel of the turned map comes from, in coordinates from -1 to 1 about the middle.
    source = torch.stack([cosine, sine, zero, -sine, cosine, zero], dim=1).view(turns, 2, 3).to(maps.dtype)
    grid = F.affine_grid(source, [turns, *maps.shape[1:]], align_corners=False)
    grid = grid.repeat(len(maps), 1, 1, 1)
    every = maps[:, None].expand(-1, turns, -1, -1, -1).flatten(0, 1)
    return F.grid_sample(every, grid, align_corners=False).unflatten(0, (len(maps), turns))
