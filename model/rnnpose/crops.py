"""What the network sees: a patch of the photo about the first pose, and zooms into it about later ones."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from picopose.model.rnnpose.lm import project
from picopose.model.rnnpose.quirks import Quirks
from picopose.utils.geometry import transform
from picopose.utils.records import Record

PATCH_SIDE = 2.7  # sides of the object's box
ZOOM_SIDE = 2.8  # half sides of the box, at most
LEAST_SIDE = 4.0  # px of the patch: of a zoom on an object that is hardly there


@dataclass(frozen=True, eq=False)
class Window:
    """The square window of a photo that a patch shows."""

    left: int  # px
    top: int
    side: int

    def cut(self, image: np.ndarray, size: int, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
        """The window of an image (H, W) or (H, W, 3), black outside of it, resized to `size` px."""
        canvas = np.zeros((self.side, self.side, *image.shape[2:]), image.dtype)
        inside = image[self.top : self.top + self.side, self.left : self.left + self.side]
        canvas[: inside.shape[0], : inside.shape[1]] = inside
        return cv2.resize(canvas, (size, size), interpolation=interpolation)

    def camera(self, K: Tensor, size: int, quirks: Quirks) -> Tensor:
        """K (3, 3) of the patch."""
        half, scale = (0.0 if quirks.loose_pixels else 0.5), size / self.side
        patch = K.clone()
        patch[0, 2] += half - self.left
        patch[1, 2] += half - self.top
        patch[:2] *= scale
        patch[:2, 2] -= half
        return patch


def patch_window(vertices: Tensor, cam_from_obj: Tensor, K: Tensor, height: int, width: int) -> Window:
    """The window of a photo about an object (V, 3) m at a pose (4, 4), which may be partly out of sight."""
    xy = project(K[None], transform(cam_from_obj, vertices)[None])[0].round()
    xy = xy.clamp(min=xy.new_zeros(2), max=xy.new_tensor([width - 1, height - 1]))
    low, span = xy.amin(0), xy.amax(0) - xy.amin(0) + 1
    side = int(span.max().item() * PATCH_SIDE)
    left, top = (max(0, int(middle - side / 2)) for middle in (low + span / 2).tolist())
    return Window(left, top, side)


@dataclass(frozen=True)
class Zoom(Record):
    """Square windows of patches about poses."""

    grid: Tensor  # (B, size, size, 2), the pixels' places in the patch, for `F.grid_sample`
    K: Tensor  # (B, 3, 3) camera of the window

    def look(self, maps: Tensor) -> Tensor:
        """The windows of maps (B, C, H, W) of the patch."""
        return F.grid_sample(maps, self.grid, align_corners=False)


def zoom(vertices: Tensor, cam_from_obj: Tensor, K: Tensor, patch: int, size: int, quirks: Quirks) -> Zoom:
    """Windows of `size` px about an object (V, 3) m at poses (B, 4, 4).

    K: (B, 3, 3) of the patches, which measure `patch` px.
    """
    xy = project(K, transform(cam_from_obj, vertices[None]))
    if quirks.origin_zoom:
        xy = xy.round().clamp(0, patch - 1)
        centre = project(K, cam_from_obj[:, None, :3, 3])[:, 0]
    else:
        centre = (xy.amin(1) + xy.amax(1)) / 2
    side = ZOOM_SIDE * torch.maximum(centre - xy.amin(1), xy.amax(1) - centre).amax(1).clamp(min=LEAST_SIDE)
    half = 0.0 if quirks.loose_pixels else 0.5
    theta = torch.zeros(len(K), 2, 3, device=K.device)
    theta[:, 0, 0] = theta[:, 1, 1] = side / patch
    theta[:, :, 2] = 2 * (centre + half) / patch - 1
    grid = F.affine_grid(theta, [len(K), 1, size, size], align_corners=False)
    scale = ((size - 1) if quirks.loose_pixels else size) / side
    window = K.clone()
    window[:, :2, 2] -= centre - side[:, None] / 2
    window[:, :2] *= scale[:, None, None]
    window[:, :2, 2] -= half
    return Zoom(grid, window)


def drawn_camera(K: Tensor, size: int, quirks: Quirks) -> Tensor:
    """The camera (B, 3, 3) whose whole numbers are the pixels that a zoom's object is drawn at."""
    if not quirks.loose_pixels:
        return K
    drawn = K.clone()
    drawn[:, :2] *= size / (size - 1)
    drawn[:, :2, 2] -= 0.5
    return drawn
