"""Crops photos to a resized square window about the object, and gives the camera of the crop.

Resizing by a factor s moves a pixel from x to `s (x - left + 1/2) - 1/2`; every crop's K carries that map.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from picopose.utils.geometry import cell_centres, sample, sample_depth
from picopose.utils.records import Crop, Mask, View


def mask_boxes(masks: Tensor) -> Tensor:
    """Boxes (B, 4) of masks (B, H, W): left, top, right, bottom (the last two exclusive); zeros if empty."""
    spans = []
    for axis in (1, 2):  # columns, then rows
        occupied = masks.any(dim=axis)
        index = torch.arange(occupied.shape[1], device=masks.device)
        spans.append((occupied * (index + 1)).amax(dim=1))
        spans.append(torch.where(occupied, index, occupied.shape[1]).amin(dim=1))
    right, left, bottom, top = spans
    boxes = torch.stack([left, top, right, bottom], dim=1)
    return boxes * (right > 0)[:, None]


def square_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """Square windows (B, 4) about boxes (B, 4), all in px.

    Side: the box's longer side, at most the image's shorter one; shifted to lie inside the image.
    """
    boxes = boxes.round().long()
    side = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1).clamp(1, min(height, width))
    corner = torch.div(boxes[:, :2] + boxes[:, 2:] - side[:, None], 2, rounding_mode="floor")
    room = torch.tensor([width, height], device=boxes.device) - side[:, None]
    corner = corner.clamp(min=0).minimum(room)
    return torch.cat([corner, corner + side[:, None]], dim=1)


def crop_from_image(windows: Tensor, size: int) -> Tensor:
    """Pixel maps (B, 3, 3) from the image to square windows (B, 4) resized to `size` px."""
    left, top, right, _ = windows.float().unbind(1)
    scale = size / (right - left)
    matrix = torch.eye(3, device=windows.device).repeat(len(windows), 1, 1)
    matrix[:, 0, 0] = matrix[:, 1, 1] = scale
    matrix[:, 0, 2] = scale * (0.5 - left) - 0.5
    matrix[:, 1, 2] = scale * (0.5 - top) - 0.5
    return matrix


def window_pixels(windows: Tensor, size: int) -> Tensor:
    """Where the crops' pixels lie in the image: (B, size*size, 2)."""
    corner, end = windows[:, None, :2].float(), windows[:, None, 2:].float()
    unit = (cell_centres(size, size, windows.device) + 0.5) / size
    return corner + unit * (end - corner) - 0.5


def resize_windows(maps: Tensor, windows: Tensor, size: int, mode: str) -> Tensor:
    """Windows (B, 4) of maps (B or 1, C, H, W), resized to (B, C, size, size); equals `cv2.resize`."""
    # Within half a pixel of the window's border its edge pixels are repeated, as cv2.resize does.
    xy = window_pixels(windows, size).clamp(min=windows[:, None, :2], max=windows[:, None, 2:] - 1)
    if len(maps) == 1 and len(windows) != 1:
        maps = maps.expand(len(windows), -1, -1, -1)
    return sample(maps, xy, mode=mode).unflatten(-1, (size, size))


def crop_image(image: Tensor, masks: Sequence[Mask], windows: Tensor, K: Tensor, size: int) -> Crop:
    """Crops of the B detections of one photo.

    image (3, H, W) uint8; windows (B, 4) px, square; K (3, 3) of the photo.
    """
    rgb = resize_windows(image[None].float().div_(255), windows, size, "bilinear")
    parts = [_crop_mask(mask, window, size) for mask, window in zip(masks, windows, strict=True)]
    return Crop(rgb=rgb, mask=torch.stack(parts), K=crop_from_image(windows, size) @ K.float())


def _crop_mask(mask: Mask, window: Tensor, size: int) -> Tensor:
    """The window (4,) of a mask, resized to (size, size)."""
    inside = window - window[[0, 1, 0, 1]]
    cut = mask.window(*window.tolist())[None, None].float()
    return resize_windows(cut, inside[None], size, "nearest")[0, 0] > 0.5


def crop_views(rgb: Tensor, depth: Tensor, mask: Tensor, K: Tensor, cam_from_obj: Tensor, size: int) -> View:
    """Crops of images of known pose about their masks.

    rgb (B, 3, H, W) in [0, 1]; depth (B, H, W) m; mask (B, H, W) bool; K (B, 3, 3); cam_from_obj (B, 4, 4).
    """
    windows = square_boxes(mask_boxes(mask), *mask.shape[-2:])
    return View(
        rgb=resize_windows(rgb, windows, size, "bilinear"),
        mask=resize_windows(mask[:, None].float(), windows, size, "nearest")[:, 0] > 0.5,
        K=crop_from_image(windows, size) @ K,
        depth=sample_depth(depth, window_pixels(windows, size)).unflatten(-1, (size, size)),
        cam_from_obj=cam_from_obj,
    )
