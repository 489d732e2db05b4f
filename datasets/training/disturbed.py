"""Training pairs of a refiner: an object drawn at a pose that is off, beside the photo as seen from there.

Photo and drawing have one camera, whose window is about the drawn object and wider than it, as a refiner
crops photos. How far poses are off varies over orders of magnitude: many are nearly right, some far off.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from picopose.datasets.training.colours import colours_of, image_of
from picopose.datasets.training.degradation import photographed, scanned
from picopose.datasets.training.imperfect import MIN_CROP_PIXELS
from picopose.datasets.training.object_pool import TrainingObject
from picopose.datasets.training.scenes import moved, window
from picopose.datasets.training.shared_scenes import SharedScenes, at_own_size
from picopose.datasets.training.streams import stream
from picopose.utils.errors import InputError
from picopose.utils.lru import Lru
from picopose.utils.records import Drawing, Pair, View

PER_SCENE = 4  # pairs
MAX_SCENES = 30  # that are tried for one pair
WIDTHS = (1.15, 1.5)  # of the window, in sizes of the drawn object
# Standard deviations are drawn evenly over the logarithm between these bounds, for every pair anew.
TURN_DEG, MOST_DEG = (0.5, 25.0), 60.0  # of each component of the rotation vector; the whole one at most
SHIFT = (0.002, 0.08)  # along x and y, in sizes of the object
LOG_DEPTH = (0.002, 0.08)

DEGRADED = 0.6  # share of the photos, and of the drawings, that are

Rng = np.random.Generator


def disturbed(rng: Rng, cam_from_obj: np.ndarray, centre: np.ndarray, size: float) -> np.ndarray:
    """A pose (4, 4) turned about an object's centre (3,), and shifted.

    size: of the object, in the unit of the pose.
    """
    turn, shift, log_depth = (np.exp(rng.uniform(*np.log(bounds))) for bounds in (TURN_DEG, SHIFT, LOG_DEPTH))
    vector = rng.normal(0, turn, 3)
    vector *= min(1, MOST_DEG / np.linalg.norm(vector))
    pose, pivot = cam_from_obj.copy(), cam_from_obj[:3, :3] @ centre + cam_from_obj[:3, 3]
    pose[:3, :3] = Rotation.from_rotvec(vector, degrees=True).as_matrix() @ cam_from_obj[:3, :3]
    pivot[:2] += rng.normal(0, shift * size, 2)
    pose[:3, 3] = pivot * np.exp(rng.normal(0, log_depth)) - pose[:3, :3] @ centre
    return pose


class DisturbedPairs(SharedScenes):
    """An endless source of pairs, `PER_SCENE` of them from each scene.

    In a pair `template` is the drawing; `real` is the photo, whose mask and depth are the object's alone.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._photos = Lru(2)

    def sample(self, index: int) -> Pair:
        """The pair of an index, a pure function of it."""
        number, place = divmod(index, PER_SCENE)
        for attempt in range(MAX_SCENES):
            rng = stream("disturbed", self._seed, index, attempt)
            rgb, photo, K, seen = self._photos.get((number, attempt), self._photograph)
            if seen:
                chosen = seen[place % len(seen)]
                if (pair := self._compared(rng, rgb, photo, K, *chosen)) is not None:
                    return pair
        raise InputError(f"{self.name(index)}: {MAX_SCENES} scenes show hardly any object; name other meshes")

    def name(self, index: int) -> str:
        return f"disturbed pair {index} (seed {self._seed})"

    def _photograph(self, key: tuple[int, int]) -> tuple[np.ndarray, Any, np.ndarray, list]:
        """Colours, rendering and camera of a scene; index, object and place of all that are seen in it."""
        scene, rgb, photo = self._shot(stream("photographed", self._seed, *key), key[0])
        K = scene.camera.K
        seen = [
            (index, *thing)
            for index, thing in enumerate(scene.things)
            if self._is_shown(photo.ids == index, *thing, K)
        ]
        return rgb, photo, K, seen

    def _compared(
        self,
        rng: Rng,
        rgb: np.ndarray,
        photo: Any,
        K: np.ndarray,
        index: int,
        thing: TrainingObject,
        place: np.ndarray,
    ) -> Pair | None:
        """The pair of an object at its own size; None where its mask is hardly within the window."""
        truth, _ = at_own_size(place)
        low, high = thing.hull.min(axis=0), thing.hull.max(axis=0)
        pose = disturbed(rng, truth, (low + high) / 2, np.linalg.norm(high - low))
        if moved(pose, thing.hull)[:, 2].min() <= 0:
            return None
        size, width = self._size, rng.uniform(*WIDTHS)
        camera = window(moved(pose, thing.hull), size / width, width).K
        drawn = self._studio.draw(thing.mesh, pose, camera, size)
        crop_from_photo = camera @ np.linalg.inv(K)
        ids = _warped((photo.ids + 1).astype(np.float32), crop_from_photo, size, cv2.INTER_NEAREST) - 1
        seen = ids == index
        if min(seen.sum(), drawn.mask.sum()) < MIN_CROP_PIXELS:
            return None
        depth = self._studio.depth(thing.mesh, truth, camera, size, size) * seen
        colours = _warped(rgb, crop_from_photo, size, cv2.INTER_LINEAR)
        real = View(
            rgb=colours_of(photographed(colours, rng) if rng.random() < DEGRADED else colours),
            mask=torch.from_numpy(seen),
            K=drawn.K,
            depth=torch.from_numpy(depth),
            cam_from_obj=torch.from_numpy(truth).float(),
        )
        template = View(_colours(drawn, rng), drawn.mask, drawn.K, drawn.depth, drawn.cam_from_obj)
        return Pair(real=real, template=template)


def _colours(drawn: Drawing, rng: Rng) -> torch.Tensor:
    """Of a drawing (3, S, S), or of one of a mesh with poorer colours."""
    if rng.random() >= DEGRADED:
        return drawn.rgb
    return colours_of(scanned(image_of(drawn.rgb), drawn.cover.numpy(), rng))


def _warped(image: np.ndarray, crop_from_photo: np.ndarray, size: int, how: int) -> np.ndarray:
    """The crop of an image (H, W, ...); colours are averaged first where the crop is much coarser."""
    shrink = int(1 / crop_from_photo[0, 0])
    if shrink > 1 and how == cv2.INTER_LINEAR:
        image = cv2.blur(image, (shrink, shrink))
    return cv2.warpAffine(image, crop_from_photo[:2], (size, size), flags=how)
