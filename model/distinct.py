"""Drops poses at the place of a better one, so that each object in a photo is reported once.

A detector may find one object several times, with nearly equal poses, of which the detection task counts all
but one as false positives. Two objects cannot be in one place, so of poses whose outlines overlap too much
the one with the best score stays.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from picopose.model.stage import Setup, Stage, check_poses
from picopose.utils.config import check_range
from picopose.utils.config_files import options_of
from picopose.utils.crop import crop_from_image
from picopose.utils.geometry import project, transform
from picopose.utils.records import Estimates, Frame

SIZE = 256  # px, side of the resized square around the photo in which outlines are compared
_BITS = 4  # binary places of coordinates in it
_FAR = 64 * SIZE  # px: coordinates are limited to it, which hardly changes an outline


@dataclass
class Options:
    """Entries of `options.distinct`: IoU of outlines above which only the better pose stays; 1: both do."""

    overlap: float = 0.5  # of one object
    overlap_of_others: float = 0.8  # of different objects

    def __post_init__(self):
        for name in ("overlap", "overlap_of_others"):
            check_range(name, getattr(self, name), 0, 1)


class Distinct(Stage):
    """Compares the outlines of the objects' convex hulls; without meshes all poses stay."""

    def __init__(self, options: Options):
        self.options = options

    def prepare_object(self, obj_id: int) -> None:
        if self.things.drawings is not None:
            self.things.drawings.hull(obj_id)

    @torch.inference_mode()
    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        if len(found) < 2 or self.things.drawings is None:
            return found
        check_poses(found, "distinct")
        same = found.obj_id[:, None] == found.obj_id
        limit = torch.where(same, self.options.overlap, self.options.overlap_of_others)
        clash = iou(self._outlines(frame, found)) > limit.cpu()
        kept: list[int] = []
        for row in found.total_score.sort(descending=True, stable=True).indices.tolist():
            if not clash[row, kept].any():
                kept.append(row)
        return found[sorted(kept)]

    def _outlines(self, frame: Frame, found: Estimates) -> Tensor:
        """What each object covers of the photo: (N, SIZE, SIZE) bool."""
        side = max(frame.rgb.shape[1:])
        K = crop_from_image(torch.tensor([[0, 0, side, side]]), SIZE)[0].double() @ frame.K.cpu().double()
        poses = zip(found.obj_id.tolist(), found.cam_from_obj.cpu().double(), strict=True)
        return torch.stack([outline(self.things.drawings.hull(obj_id), pose, K) for obj_id, pose in poses])


def outline(hull: Tensor, cam_from_obj: Tensor, K: Tensor) -> Tensor:
    """The pixels (SIZE, SIZE) bool inside the outline of a hull (N, 3) m; none if it is behind the camera.

    cam_from_obj (4, 4) and K (3, 3) float64.
    """
    pixels, xyz = np.zeros((SIZE, SIZE), np.uint8), transform(cam_from_obj, hull)
    if (xyz[:, 2] > 0).all():
        points = (project(K, xyz).clamp(-_FAR, _FAR) * 2**_BITS).round().int().numpy()
        cv2.fillConvexPoly(pixels, cv2.convexHull(points), 1, shift=_BITS)
    return torch.from_numpy(pixels).bool()


def iou(masks: Tensor) -> Tensor:
    """(N, N) between all pairs of masks (N, H, W) bool; 0 for empty ones."""
    pixels = masks.flatten(1).float()
    both, areas = pixels @ pixels.T, pixels.sum(1)
    return both / (areas[:, None] + areas - both).clamp(min=1)


def make_stage(setup: Setup) -> Distinct:
    return Distinct(options_of(setup.config, "distinct", Options))
