"""What lies behind a scene and on its table: photos, and surfaces that are made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from picopose.datasets.training.object_pool import Mesh, Studio
from picopose.datasets.training.photos import PHOTO_PX, read_photo
from picopose.datasets.training.streams import stream
from picopose.utils.lru import Lru

BACKDROPS, BACKDROP_PERIOD = 48, 3072

Rng = np.random.Generator


def on_backdrop(rng: Rng, rgb: np.ndarray, covered: np.ndarray, backdrop: np.ndarray) -> np.ndarray:
    """A photo (H, W, 3) with a random window of the backdrop behind what it shows, and softly focused."""
    share = rng.uniform(0.3, 1)
    side = max(8, int(share * min(backdrop.shape[:2])))
    top, left = (int(rng.integers(extent - side + 1)) for extent in backdrop.shape[:2])
    window = backdrop[top : top + side, left : left + side]
    if rng.random() < 0.5:
        window = window[:, ::-1]
    behind = cv2.resize(window, rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    behind = cv2.convertScaleAbs(behind, alpha=rng.uniform(0.6, 1.3))
    image = np.where(covered[..., None], rgb, behind)
    # Lenses and demosaicing spread every edge over about a pixel; rendered edges are jagged.
    return cv2.GaussianBlur(image, (3, 3), rng.uniform(0.3, 0.8))


@dataclass(frozen=True, eq=False)
class Backdrop:
    """An image that lies behind a scene, or on its table."""

    image: np.ndarray  # (H, W, 3) uint8
    board: Mesh  # a square that shows it


class Backdrops:
    """Images for backgrounds and tables: a slowly changing set, as a function of (seed, index)."""

    def __init__(self, studio: Studio, files: Sequence[Path], seed: int):
        self._studio, self._files, self._seed = studio, list(files), seed
        self._made = Lru(BACKDROPS)

    def pick(self, rng: Rng, index: int) -> Backdrop:
        slot = int(rng.integers(BACKDROPS))
        generation = (index + slot * BACKDROP_PERIOD // BACKDROPS) // BACKDROP_PERIOD
        return self._made.get((slot, generation), self._make)

    def _make(self, key: tuple[int, int]) -> Backdrop:
        rng = stream("backdrop", self._seed, *key)
        shows_photo = self._files and rng.random() < 0.7
        image = read_photo(self._files[rng.integers(len(self._files))]) if shows_photo else None
        if image is None:
            image = _room(rng, self._studio)
        return Backdrop(image, self._studio.board(image))


def _room(rng: Rng, studio: Studio) -> np.ndarray:
    """A procedural surface: an image, often faded, under uneven light."""
    image = studio.random_image(rng, PHOTO_PX, PHOTO_PX).astype(np.float32)
    if rng.random() < 0.5:
        image += rng.uniform(0.3, 0.9) * (image.mean(axis=(0, 1)) - image)
    light = cv2.resize(rng.uniform(0.6, 1.2, (2, 2)).astype(np.float32), image.shape[1::-1])
    return (image * light[..., None]).clip(0, 255).astype(np.uint8)
