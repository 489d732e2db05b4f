"""Crops against cv2.resize, and their cameras against the pixels they show."""

import cv2
import numpy as np
import pytest
import torch

from picopose.utils.crop import crop_from_image, crop_image, crop_views, mask_boxes, square_boxes
from picopose.utils.geometry import invert, project, transform, unproject
from tests.masks import records

HEIGHT, WIDTH = 120, 160


def box_masks(*boxes: tuple[int, int, int, int]) -> torch.Tensor:
    masks = torch.zeros(len(boxes), HEIGHT, WIDTH, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def test_boxes_of_masks():
    boxes = [(3, 5, 10, 6), (0, 0, WIDTH, HEIGHT), (159, 119, 160, 120)]
    assert mask_boxes(box_masks(*boxes)).tolist() == [list(box) for box in boxes]
    assert mask_boxes(torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)).tolist() == [[0, 0, 0, 0]]


def test_windows_are_square_and_inside():
    boxes = torch.tensor([[50, 40, 70, 44], [0, 0, 160, 120], [150, 3, 158, 60], [20, 20, 20, 20]])
    windows = square_boxes(boxes, HEIGHT, WIDTH)
    sides = windows[:, 2:] - windows[:, :2]
    assert sides.tolist() == [[20, 20], [120, 120], [57, 57], [1, 1]]
    assert (windows[:, :2] >= 0).all()
    assert (windows[:, 2] <= WIDTH).all()
    assert (windows[:, 3] <= HEIGHT).all()
    assert windows[0].tolist() == [50, 32, 70, 52]


@pytest.mark.parametrize("size", [16, 57, 224])
def test_crops_equal_cv2_resize(size):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8)
    masks = box_masks((10, 20, 67, 40), (0, 0, 160, 120), (140, 100, 160, 120))
    windows = square_boxes(mask_boxes(masks), HEIGHT, WIDTH)
    crops = crop_image(image, records(masks), windows, torch.eye(3), size)
    for rgb, mask, whole, (left, top, right, bottom) in zip(
        crops.rgb, crops.mask, masks, windows.tolist(), strict=True
    ):
        window = image[:, top:bottom, left:right].permute(1, 2, 0).numpy().astype(np.float32) / 255
        expected = cv2.resize(window, (size, size), interpolation=cv2.INTER_LINEAR)
        assert np.abs(rgb.permute(1, 2, 0).numpy() - expected).max() < 1e-4
        part = whole[top:bottom, left:right].numpy().astype(np.uint8)
        nearest = cv2.resize(part, (size, size), interpolation=cv2.INTER_NEAREST_EXACT)
        assert (mask.numpy() != (nearest > 0)).mean() < 0.01


def test_the_camera_of_a_crop_follows_its_pixels():
    """A bright dot in the photo lies in the crop where the crop's camera says."""
    image = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    image[:, 52:55, 81:84] = 255  # centre (82, 53)
    masks = box_masks((60, 30, 100, 70))
    K = torch.tensor([[200.0, 0, 80], [0, 200, 60], [0, 0, 1]])
    crop = crop_image(image, records(masks), square_boxes(mask_boxes(masks), HEIGHT, WIDTH), K, 240)
    weight = crop.rgb[0, 0]
    y, x = torch.meshgrid(torch.arange(240.0), torch.arange(240.0), indexing="ij")
    centre = torch.stack([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
    point = unproject(K, torch.tensor([[82.0, 53.0]]), torch.ones(1))
    assert (project(crop.K[0], point)[0] - centre).abs().max() < 1e-3


def test_back_projected_depth_of_a_view_lies_on_the_surface():
    """A tilted plane in a photo: the view's depth and camera put every pixel back onto it."""
    normal, K = torch.tensor([0.1, -0.2, 1.0]), torch.tensor([[[150.0, 0, 80], [0, 150, 60], [0, 0, 1]]])
    y, x = torch.meshgrid(torch.arange(float(HEIGHT)), torch.arange(float(WIDTH)), indexing="ij")
    rays = unproject(K[0], torch.stack([x, y], dim=-1).reshape(-1, 2), torch.ones(HEIGHT * WIDTH))
    depth = (0.5 / (rays @ normal)).view(1, HEIGHT, WIDTH)
    mask = box_masks((40, 30, 90, 75))
    pose = torch.eye(4)[None]
    pose[:, 2, 3] = 0.3
    view = crop_views(torch.zeros(1, 3, HEIGHT, WIDTH), depth, mask, K, pose, 64)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    xyz = unproject(view.K[0], torch.stack([x, y], dim=-1).reshape(-1, 2), view.depth[0].flatten())
    assert (xyz @ normal - 0.5).abs().max() < 1e-5
    assert torch.allclose(transform(invert(view.cam_from_obj[0]), xyz)[:, 2], xyz[:, 2] - 0.3, atol=1e-6)


def test_crop_matrix_keeps_the_corners():
    matrix = crop_from_image(torch.tensor([[10, 20, 30, 40]]), 100)[0]
    corners = torch.tensor([[9.5, 19.5, 1.0], [29.5, 39.5, 1.0]]) @ matrix.T
    assert corners[:, :2].tolist() == [[-0.5, -0.5], [99.5, 99.5]]
