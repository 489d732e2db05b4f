"""A textured mesh at a published pose on the real photo that the pose was estimated from."""

import dataclasses

import numpy as np

from benchmarks.real_photo import (
    best_shift,
    bounding_box,
    box_mask,
    correlation,
    iou,
    picture,
    read_posed_photo,
)
from picopose.rendering.renderer import Renderer
from tests.shared import shared


def test_rendering_lies_on_the_photo():
    photo = read_posed_photo(shared("real/bbq_sauce"))
    upside_down = dataclasses.replace(photo.mesh, texture=photo.mesh.texture[:, ::-1])
    height, width = photo.rgb.shape[:2]
    with Renderer() as renderer:
        view = renderer.render([(photo.mesh, photo.cam_from_obj)], photo.K, width, height)
        wrong = renderer.render([(upside_down, photo.cam_from_obj)], photo.K, width, height)
    box = box_mask(photo)
    assert (view.mask & ~box).sum() == 0
    # The box is loose: it has 12 to 32 px of table on each side.
    assert 0.4 < iou(view.mask, box) < iou(bounding_box(view.mask), box) < 0.65
    shift = best_shift(photo, view)
    assert max(map(abs, shift)) <= 2  # px; the pose is an estimate
    assert correlation(photo, view, shift) > 0.6
    assert correlation(photo, wrong, best_shift(photo, wrong)) < 0.1
    plain, _, outlined = np.hsplit(picture(photo, view), 3)
    drawn = (plain != outlined).any(axis=-1)
    # The outline is a closed line about the bottle, twice as large in the picture as in the photo.
    assert 1000 < drawn.sum() < 6000
    assert abs(bounding_box(drawn).sum() / bounding_box(view.mask).sum() - 4) < 0.2
