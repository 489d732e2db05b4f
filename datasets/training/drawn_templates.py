"""Templates of objects that have no folder of them: drawn when they are asked for, as at test time."""

from __future__ import annotations

import numpy as np
import torch

from picopose.datasets.training.imperfect import MIN_CROP_PIXELS, view_of
from picopose.datasets.training.object_pool import Studio, TrainingObject, nearest_views
from picopose.utils import template_files
from picopose.utils.crop import mask_boxes, square_boxes
from picopose.utils.lru import Lru
from picopose.utils.records import View

NEAREST = 5  # the template is one of so many nearest ones
KEPT = 512


class NearestViews:
    """The templates of objects at crops of `size` px; a process keeps `KEPT` of them."""

    def __init__(self, studio: Studio, *, size: int):
        self._studio, self._size = studio, size
        self._drawn = Lru(KEPT)

    def near(self, rng: np.random.Generator, target: TrainingObject, cam_from_obj: np.ndarray) -> View | None:
        """A template that sees an object from nearly the same side as a camera at cam_from_obj (4, 4).

        None if it shows hardly anything, as a sheet seen from its edge.
        """
        view = int(rng.choice(nearest_views(target.template_poses, cam_from_obj, NEAREST)))
        template = _unpacked(self._drawn.get((target, view), self._draw))
        return template if template.mask.sum() >= MIN_CROP_PIXELS else None

    def _draw(self, key: tuple[TrainingObject, int]) -> View:
        target, view = key
        return _packed(draw_template(self._studio, target, view, self._size))


def draw_template(studio: Studio, target: TrainingObject, view: int, size: int) -> View:
    """One template of an object as it is at test time, without its way through files.

    Of the image of `template_files.SIZE` only the part that the crop is taken from is drawn.
    """
    pose, whole = target.template_poses[view], (0, 0, *template_files.SIZE)
    for left, top, right, bottom in (_part(target.hull, pose), whole):
        K = np.array(template_files.K)
        K[:2, 2] -= left, top
        drawn = studio.photo([(target.mesh, pose)], K, right - left, bottom - top)
        corner = np.array([left, top, left, top])
        mask_box = mask_boxes(torch.from_numpy(drawn.mask)[None]) + torch.from_numpy(corner)
        window = square_boxes(mask_box, *template_files.SIZE[::-1])[0].numpy() - corner
        if not drawn.mask.any():
            window = np.array([0, 0, 1, 1])  # black as well as any
        if window.min() >= 0 and window[2] <= right - left and window[3] <= bottom - top:
            break  # not so if a part of the mesh, and of its hull, is too small to be drawn
    return view_of(drawn.rgb, drawn.depth, drawn.mask, K, pose, size, window=window)


def _part(hull: np.ndarray, pose: np.ndarray) -> tuple[int, int, int, int]:
    """What is drawn of a template: the window about an object's hull (N, 3) m, and a little more."""
    width, height = template_files.SIZE
    xyz = hull @ pose[:3, :3].T + pose[:3, 3]
    xy = (xyz @ np.array(template_files.K).T)[:, :2] / xyz[:, 2:]
    low, high = np.floor(xy.min(axis=0)), np.ceil(xy.max(axis=0)) + 1
    if (low < 0).any() or (high > [width, height]).any():
        return 0, 0, width, height
    window = square_boxes(torch.tensor([[*low, *high]]), height, width)[0].numpy()
    # The drawn pixels' own window may lie beside this one.
    left, top = (np.minimum(low, window[:2]) - 3).clip(0).astype(int).tolist()
    right, bottom = np.minimum(np.maximum(high, window[2:]) + 3, [width, height]).astype(int).tolist()
    return left, top, right, bottom


def _packed(view: View) -> View:
    """A view whose colours take a byte each: templates come from 8-bit images, so little is lost."""
    return View(**vars(view) | {"rgb": (view.rgb * 255).round().byte()})


def _unpacked(view: View) -> View:
    return View(**vars(view) | {"rgb": view.rgb / 255})
