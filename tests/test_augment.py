"""Colour changes of training photos: what each step does, how often, and that seeds decide."""

import numpy as np
import pytest

from picopose.datasets.training import augment
from picopose.datasets.training.augment import GDR_NET, Step
from picopose.datasets.training.augment import augment as augmented


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(30, 226, (6, 7, 3)).repeat(8, axis=0).repeat(8, axis=1)
    return (coarse + rng.integers(-5, 6, coarse.shape)).astype(np.uint8)


def test_is_a_function_of_image_and_seed(photo):
    before = photo.copy()
    first, again = ([augmented(photo, np.random.default_rng(i)) for i in range(40)] for _ in "ab")
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert all(image.shape == photo.shape and image.dtype == np.uint8 for image in first)
    assert (photo == before).all()
    assert len({image.tobytes() for image in first}) > 25


def test_share_of_changed_photos(photo):
    changed = [augmented(photo, np.random.default_rng(i)) is not photo for i in range(600)]
    # 0.8 less the few for which no step happens; a standard deviation is 0.016.
    assert 0.73 < np.mean(changed) < 0.86
    assert all(augmented(photo, np.random.default_rng(i), share=0.0) is photo for i in range(20))


@pytest.mark.parametrize("step", GDR_NET, ids=lambda step: step.change.__name__)
def test_every_step_changes_what_it_is_given(photo, step: Step):
    results = [step.change(photo, np.random.default_rng(i), step.low, step.high) for i in range(12)]
    assert all(image.shape == photo.shape and image.dtype == np.uint8 for image in results)
    assert any((image != photo).any() for image in results)


@pytest.mark.parametrize(
    "name", ["sharpness", "contrast", "linear_contrast", "multiply", "multiply_channels", "color"]
)
def test_factor_one_changes_nothing(photo, name):
    same = getattr(augment, name)(photo, np.random.default_rng(0), 1, 1)
    assert np.abs(same.astype(int) - photo).max() <= 1


def test_steps_against_arithmetic(photo):
    rng = np.random.default_rng(0)
    values = photo.astype(float)
    assert np.abs(augment.multiply(photo, rng, 1.3, 1.3) - (values * 1.3).clip(0, 255)).max() <= 0.51
    assert (augment.add(photo, rng, 20, 20) == (values + 20).clip(0, 255)).all()
    assert (augment.invert(photo, rng, 1, 1) == 255 - values).all()
    grey = augment.color(photo, rng, 0, 0)
    assert np.abs(grey - (values @ augment.GREY_WEIGHTS)[..., None]).max() <= 1
    darker = augment.linear_contrast(photo, rng, 0.5, 0.5)
    assert np.abs(darker - (127 + 0.5 * (values - 127))).max() <= 0.51
    grain = augment.noise(np.full((200, 200, 3), 128, np.uint8), rng, 10, 10) - 128.0
    assert abs(grain.std() - 10) < 0.2
    assert abs(grain.mean()) < 0.2


def test_dropout_blackens_a_share_in_whole_cells():
    white = np.full((200, 100, 3), 255, np.uint8)
    shares = []
    for i in range(40):
        image = augment.coarse_dropout(white, np.random.default_rng(i), 0.2, 0.2)
        assert set(np.unique(image)) <= {0, 255}
        cells = image.reshape(10, 20, 5, 20, 3)
        assert (cells == cells[:, :1, :, :1]).all()  # 5 % of the sides: a grid of 10 x 5 cells
        shares.append((image == 0).mean())
    assert 0.16 < np.mean(shares) < 0.24


def test_channels_change_apart_or_together():
    grey = np.full((4, 4, 3), 100, np.uint8)
    pixels = [augment.multiply_channels(grey, np.random.default_rng(i), 0.6, 1.4)[0, 0] for i in range(200)]
    together = np.mean([np.ptp(pixel) == 0 for pixel in pixels])
    assert 0.4 < together < 0.6
