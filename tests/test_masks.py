"""Masks kept as boxes and cut-outs are the masks that they were made of."""

import numpy as np
import pytest
import torch

from picopose.datasets.masks.regions import box_mask
from picopose.utils.masks import boxes_of, cut_out

HEIGHT, WIDTH = 30, 40
WINDOWS = [
    (0, 0, WIDTH, HEIGHT),
    (5, 3, 20, 12),
    (-6, -4, 50, 41),
    (38, 2, 60, 9),
    (50, 50, 55, 52),
    (7, 7, 7, 9),
]


def blob(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    left, top = rng.integers(0, 20, 2)
    mask[top : top + 9, left : left + 17] = rng.random((9, 17)) < 0.3
    return mask


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("seed", range(5))
def test_windows_of_masks(seed, window):
    mask = blob(seed)
    left, top, right, bottom = window
    everything = np.pad(mask, 60)
    expected = everything[60 + top : 60 + bottom, 60 + left : 60 + right]
    assert np.array_equal(cut_out(torch.from_numpy(mask)).window(*window).numpy(), expected)


@pytest.mark.parametrize("window", WINDOWS)
def test_windows_of_boxes(window):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[4:17, 9:33] = True
    left, top, right, bottom = window
    expected = np.pad(mask, 60)[60 + top : 60 + bottom, 60 + left : 60 + right]
    for kept in (cut_out(torch.from_numpy(mask)), box_mask((9, 4, 33, 17), HEIGHT, WIDTH)):
        assert kept.is_box and kept.inside is None
        assert np.array_equal(kept.window(*window).numpy(), expected)


def test_what_is_kept_is_the_inside_of_the_box():
    mask = blob(0)
    kept = cut_out(torch.from_numpy(mask))
    rows, columns = np.nonzero(mask)
    assert kept.box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert not kept.is_box and kept.inside.untyped_storage().nbytes() == kept.inside.numel() < mask.size


def test_boxes():
    empty = cut_out(torch.zeros(HEIGHT, WIDTH, dtype=torch.bool))
    beyond = box_mask((-5, -5, 10, 400), HEIGHT, WIDTH)
    assert boxes_of([empty, beyond]).tolist() == [[0, 0, 0, 0], [0, 0, 10, HEIGHT]]
    assert not empty.window(0, 0, WIDTH, HEIGHT).any() and boxes_of([]).shape == (0, 4)
