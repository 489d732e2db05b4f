"""Square crops around the circles of regions, in which an object keeps its size however it is turned."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from picopose.utils.geometry import sample
from picopose.utils.masks import boxes_of
from picopose.utils.records import Crop, Mask, Record

GREY = 0.5  # background: black might be taken for a part of the object
PADDING = 1.1  # side of a crop in diameters of the region's circle
STRIP_PX = 500_000  # pixels of a window averaged at once: all of a large photo would take gigabytes as floats


@dataclass(frozen=True)
class Regions(Record):
    """Where to look for objects in one photo."""

    centre: Tensor  # (B, 2) px
    diameter: Tensor  # (B,) px
    is_box: Tensor  # (B,) bool: the region is a box, which shows background too


def regions_of(masks: Sequence[Mask]) -> Regions:
    """The regions of B masks, none of them empty.

    A mask's circle is the smallest that contains it. A mask that fills its box is taken for a box, whose
    circle is as wide as its longer side: an object reaches the sides of its box, but rarely the corners.
    """
    boxes = boxes_of(masks)
    circles = []
    for mask, (left, top, right, bottom) in zip(masks, boxes.tolist(), strict=True):
        if mask.is_box:
            circles.append(((left + right - 1) / 2, (top + bottom - 1) / 2, max(right - left, bottom - top)))
        else:
            (x, y), radius = cv2.minEnclosingCircle(cv2.convexHull(_row_ends(mask.inside.cpu().numpy())))
            circles.append((x + left, y + top, 2 * radius + 1))
    circles = torch.tensor(circles, device=boxes.device).reshape(-1, 3)
    is_box = torch.tensor([mask.is_box for mask in masks], device=boxes.device, dtype=torch.bool)
    return Regions(circles[:, :2], circles[:, 2], is_box)


def at_depth_one(regions: Regions, K: Tensor) -> tuple[Tensor, Tensor]:
    """Centres (B, 2) and diameters (B,) float64, at depth 1, of regions in a photo with camera K (3, 3)."""
    K = K.double()
    centre = (regions.centre - K[:2, 2]) / torch.stack([K[0, 0], K[1, 1]])
    return centre, regions.diameter / (K[0, 0] * K[1, 1]).sqrt()


def _row_ends(mask: np.ndarray) -> np.ndarray:
    """The first and the last set pixel in each row of a mask (H, W): (N, 2) float32, x and y."""
    rows = np.flatnonzero(mask.any(axis=1))
    first, last = mask[rows].argmax(axis=1), mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    return np.stack([np.concatenate([first, last]), np.tile(rows, 2)], axis=1).astype(np.float32)


def crop_regions(image: Tensor, masks: Sequence[Mask], K: Tensor, regions: Regions, size: int) -> Crop:
    """Crops (B, ...) of `size` px around the regions of a photo; black and unmasked outside the photo.

    image (3, H, W) uint8; K (3, 3) of the photo.
    """
    side = PADDING * regions.diameter
    scale, first = size / side, regions.centre - side[:, None] / 2  # scale, and the window's corner in px
    crop_from_photo = torch.eye(3, device=K.device).repeat(len(side), 1, 1)
    crop_from_photo[:, 0, 0] = crop_from_photo[:, 1, 1] = scale
    crop_from_photo[:, :2, 2] = -scale[:, None] * first - 0.5
    parts = [
        _window(image, mask, corner, width, size)
        for mask, corner, width in zip(masks, first.tolist(), side.tolist(), strict=True)
    ]
    maps = torch.stack(parts)
    return Crop(rgb=maps[:, :3], mask=maps[:, 3] > 0.5, K=crop_from_photo @ K.float())


def _window(image: Tensor, mask: Mask, corner: list[float], side: float, size: int) -> Tensor:
    """Colours and mask (4, size, size) of the window from `corner` (px, its edge) on, `side` px wide."""
    shrink = max(1, int(side / size))  # a large window is averaged over blocks first, to avoid aliasing
    left, top = (int(np.floor(c + 0.5)) - 1 for c in corner)
    cells = int(np.ceil(side / shrink)) + 3
    rows = max(1, STRIP_PX // (cells * shrink**2))  # of blocks at once
    strips = [
        _blocks(image, mask, left, top + shrink * row, shrink, (min(rows, cells - row), cells))
        for row in range(0, cells, rows)
    ]
    part = torch.cat(strips, dim=1)
    step = (torch.arange(size, device=image.device) + 0.5) * (side / size)
    # Pixel i of `part` covers [left + shrink * i - 1/2, left + shrink * (i + 1) - 1/2) of the photo.
    x, y = ((step + c + 0.5 - first) / shrink - 0.5 for c, first in zip(corner, (left, top), strict=True))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(1, -1, 2)
    return sample(part[None], grid)[0].view(4, size, size)


def _blocks(image: Tensor, mask: Mask, left: int, top: int, shrink: int, count: tuple[int, int]) -> Tensor:
    """Colours and mask (4, *count) of blocks of `shrink` x `shrink` px, from left and top on; 0 outside."""
    height, width = image.shape[1:]
    right, bottom = left + shrink * count[1], top + shrink * count[0]
    x, y = min(max(left, 0), right), min(max(top, 0), bottom)
    x_end, y_end = max(min(right, width), x), max(min(bottom, height), y)
    part = torch.zeros(4, bottom - top, right - left, device=image.device)
    seen = part[:, y - top : y_end - top, x - left : x_end - left]
    seen[:3] = image[:, y:y_end, x:x_end]
    seen[:3] /= 255
    seen[3] = mask.window(x, y, x_end, y_end)
    return F.avg_pool2d(part, shrink) if shrink > 1 else part


def turned(maps: Tensor, turns: int) -> Tensor:
    """Maps (B, C, S, S) turned about their centre by 0, 1, ... of `turns` equal steps: (B, turns, C, S, S).

    Positive angles turn x towards y; what enters from outside is 0.
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
