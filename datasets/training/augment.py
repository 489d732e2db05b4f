"""Colour changes of training photos after GDR-Net's recipe, which the paper takes over.

Each step happens with a probability of its own, in a random order, on 8-bit images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

Rng = np.random.Generator

SHARE = 0.8  # of the photos that are changed at all
GREY_WEIGHTS = (0.299, 0.587, 0.114)


def augment(image: np.ndarray, rng: Rng, *, share: float = SHARE) -> np.ndarray:
    """A photo (H, W, 3) uint8, RGB, with its colours changed, or itself with probability 1 - `share`.

    A function of the image and the generator's state.
    """
    if rng.random() >= share:
        return image
    for step in (GDR_NET[i] for i in rng.permutation(len(GDR_NET))):
        if rng.random() < step.probability:
            image = step.change(image, rng, step.low, step.high)
    return image


# Steps: (image, generator, range of their strength) -> image.


def coarse_dropout(image: np.ndarray, rng: Rng, low: float, high: float) -> np.ndarray:
    """A share of the image black, in the cells of a grid of 5 % of the image's resolution."""
    height, width = (max(3, round(0.05 * side)) for side in image.shape[:2])
    kept = (rng.random((height, width)) >= rng.uniform(low, high)).astype(np.uint8)
    return image * cv2.resize(kept, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)[..., None]


def blur(image: np.ndarray, rng: Rng, low: float, high: float) -> np.ndarray:
    """Blurred by a Gaussian of a deviation in px."""
    sigma = rng.uniform(low, high)
    return cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.1 else image


def sharpness(image: np.ndarray, rng: Rng, low: float, high: float) -> np.ndarray:
    """From smoothed (factor 0) over unchanged (1) to sharpened."""
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
    return _extrapolated(cv2.filter2D(image, -1, kernel), image, rng.uniform(low, high))


def contrast(image: np.ndarray, rng: Rng, low: float, high: float) -> np.ndarray:
    """Values times a factor away from the mean brightness."""
    mean = round(float(np.dot(cv2.mean(image)[:3], GREY_WEIGHTS)))
    return _mapped(image, mean + rng.uniform(low, high) * (_LEVELS - mean))


def linear_contrast(image: np.ndarray, rng: Rng, low: float, high: float) -> np.ndarray:
    """Values times a factor away from middle grey, in three of ten cases by channel."""
    return _mapped(image, 127 + _by_channel(rng, low, high, 0.3) * (_LEVELS - 127))


def color(image: np.ndarray, rng: Rng, low: float, high: float) -> np.ndarray:
    """From grey (factor 0) over unchanged (1) to glaring."""
    return _extrapolated(_grey(image), image, rng.uniform(low, high))


def add(image: np.ndarray, rng: Rng, low: float, high: float) -> np.ndarray:
    """A number added to all values, in three of ten cases by channel."""
    return _mapped(image, _LEVELS + _by_channel(rng, low, high, 0.3))


def multiply(image: np.ndarray, rng: Rng, low: float, high: float) -> np.ndarray:
    return _mapped(image, _LEVELS * rng.uniform(low, high))


def multiply_channels(image: np.ndarray, rng: Rng, low: float, high: float) -> np.ndarray:
    """As `multiply`, in every second case by channel."""
    return _mapped(image, _LEVELS * _by_channel(rng, low, high, 0.5))


def invert(image: np.ndarray, rng: Rng, low: float, high: float) -> np.ndarray:
    """Channels turned to their negatives, each with the same probability."""
    return _mapped(image, np.where(rng.random(3) < rng.uniform(low, high), 255 - _LEVELS, _LEVELS))


def noise(image: np.ndarray, rng: Rng, low: float, high: float) -> np.ndarray:
    """Gaussian noise of a deviation in grey levels, in each channel by itself."""
    grain = rng.standard_normal(image.shape, dtype=np.float32)
    return _to_bytes(image + np.float32(rng.uniform(low, high)) * grain)


class Step(NamedTuple):
    """A change, how often it happens, and the range of its strength."""

    probability: float
    change: Callable[[np.ndarray, Rng, float, float], np.ndarray]
    low: float
    high: float


# Wang et al., GDR-Net, 2021 (most of it from Sundermeyer et al. 2018): colours often saturate.
GDR_NET = (
    Step(0.5, coarse_dropout, 0.2, 0.2),
    Step(0.4, blur, 0, 3),
    Step(0.3, sharpness, 0, 50),
    Step(0.3, contrast, 0.2, 50),
    Step(0.5, multiply, 0.1, 6),  # "brightness"
    Step(0.3, color, 0, 20),
    Step(0.5, add, -25, 25),
    Step(0.3, invert, 0.2, 0.2),
    Step(0.5, multiply_channels, 0.6, 1.4),
    Step(0.5, multiply, 0.6, 1.4),
    Step(0.1, noise, 10, 10),
    Step(0.5, linear_contrast, 0.5, 2.2),
    Step(0.5, color, 0, 1),  # "grey"
)

_LEVELS = np.arange(256, dtype=np.float32)[:, None]  # (256, 1): a table of one row for each value of a pixel


def _by_channel(rng: Rng, low: float, high: float, probability: float) -> np.ndarray:
    """(3,) random values, with `probability` one for each channel, else one for all."""
    return rng.uniform(low, high, 3 if rng.random() < probability else 1) * np.ones(3, np.float32)


def _mapped(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Every value replaced by that of a table (256, 3 or 1)."""
    return cv2.LUT(image, _to_bytes(np.broadcast_to(table, (256, 3)))[:, None])


def _extrapolated(start: np.ndarray, image: np.ndarray, factor: float) -> np.ndarray:
    """start + factor * (image - start)."""
    return cv2.addWeighted(start, 1 - factor, image, factor, 0)


def _grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
