"""What cameras and scanners do to images of training."""

import numpy as np
import pytest

from picopose.datasets.training.degradation import photographed, relit, scanned

SIZE = 64


def rough(seed: int = 0) -> np.ndarray:
    """Noise, the finest detail there is."""
    return np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def detail(image: np.ndarray) -> float:
    """Contrast of neighbouring pixels against the contrast of all."""
    values = image.astype(float)
    return np.abs(np.diff(values, axis=1)).mean() / max(values.std(), 1e-9)


@pytest.mark.parametrize("size", [(64, 64), (5, 9), (1, 1)])
def test_photos_keep_their_size_and_lose_fine_detail(size):
    image = rough()[: size[0], : size[1]]
    taken = [photographed(image, np.random.default_rng(seed)) for seed in range(50)]
    assert all(photo.shape == image.shape and photo.dtype == np.uint8 for photo in taken)
    if size == (64, 64):
        assert np.median([detail(photo) for photo in taken]) < 0.6 * detail(image)


def test_photos_get_darker_as_often_as_brighter():
    image = np.full((SIZE, SIZE, 3), 60, np.uint8)
    means = [photographed(image, np.random.default_rng(seed)).mean() for seed in range(200)]
    assert 0.35 < np.mean(np.array(means) > 60) < 0.65
    assert np.quantile(means, 0.1) < 40 and np.quantile(means, 0.9) > 90


def test_what_is_left_of_a_photo_stays_where_it_was():
    """No part of the degradation shifts the image: the flow would learn to."""
    y, x = np.mgrid[:SIZE, :SIZE]
    spot = np.exp(-((x - 29.3) ** 2 + (y - 37.6) ** 2) / 50)
    image = np.repeat((200 * spot)[..., None], 3, axis=2).astype(np.uint8)
    found = []
    for seed in range(200):
        weight = photographed(image, np.random.default_rng(seed)).astype(float).sum(axis=2)
        weight = np.maximum(weight - weight.max() / 3, 0)
        found.append([(weight * axis).sum() / weight.sum() for axis in (x, y)])
    assert np.abs(np.mean(found, axis=0) - (29.3, 37.6)).max() < 0.15


def test_drawings_keep_their_background_and_the_brightness_of_their_rim():
    cover = np.zeros((SIZE, SIZE))
    cover[20:44, 10:50] = 1
    image = (np.full((SIZE, SIZE, 3), 120) * cover[..., None]).astype(np.uint8)
    for seed in range(50):
        drawing = scanned(image, cover, np.random.default_rng(seed))
        assert (drawing[cover == 0] == 0).all()
        inside = drawing[cover == 1].astype(int)
        assert np.ptp(inside, axis=0).max() <= 2


def test_colours_of_drawings_are_smoothed():
    smoothed = [scanned(rough(), np.ones((SIZE, SIZE)), np.random.default_rng(seed)) for seed in range(40)]
    share = np.mean([detail(drawing) < 0.5 * detail(rough()) for drawing in smoothed])
    assert 0.3 < share < 0.6


def test_light_keeps_black_and_the_order_of_values():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    for seed in range(30):
        lit = relit(ramp, np.random.default_rng(seed))
        assert (lit[0] == 0).all() and (np.diff(lit.astype(int), axis=0) >= 0).all()


def test_degradation_is_a_function_of_image_and_generator():
    first, second = (photographed(rough(), np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, photographed(rough(), np.random.default_rng(8)))
