"""What is drawn on a laptop: keys and a screen."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from picopose.rendering.procedural import textures
from picopose.rendering.procedural.prints import picture
from picopose.rendering.procedural.textures import Colour

Rng = np.random.Generator


def keyboard(rng: Rng, ground: Colour, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8: rows of keys at the back, a touch pad at the front."""
    image = textures.plain(ground, height, width)
    key = np.full(
        3, rng.uniform(10, 60) if np.mean(ground) > 90 or rng.random() < 0.5 else rng.uniform(150, 230)
    )
    rows, columns, front = int(rng.integers(5, 7)), int(rng.integers(12, 16)), rng.uniform(0.52, 0.62)
    down, across = np.linspace(0.1, front, rows + 1), np.linspace(0.06, 0.94, columns + 1)
    for top, bottom in pairwise(down):
        for left, right in pairwise(across):
            textures.rectangle(image, (left, top, right - 0.012, bottom - 0.016), key)
    side = rng.uniform(0.12, 0.2)
    pad = np.asarray(ground) * rng.uniform(0.75, 0.95)
    textures.rectangle(image, (0.5 - side, front + 0.06, 0.5 + side, 0.95), pad)
    return image


def screen(rng: Rng, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8: a dark or lit screen in a frame."""
    image = textures.plain(np.full(3, rng.uniform(8, 50)), height, width)
    edge = max(2, int(rng.uniform(0.02, 0.07) * width))
    inside = np.s_[edge : height - edge, edge : width - edge]
    if rng.random() < 0.5:
        image[inside] = rng.uniform(10, 45)
    else:
        image[inside] = picture(rng, *image[inside].shape[:2])
    return image
