"""Training pairs from scenes that serve every object in them: one photo, and a pair for each that it shows.

The pairs of a scene are a pure function of (seed, number of the scene).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from picopose.datasets.training.backdrops import on_backdrop
from picopose.datasets.training.object_pool import TrainingObject
from picopose.datasets.training.scenes import Scene, moved, window
from picopose.datasets.training.streams import stream
from picopose.datasets.training.synthetic import MIN_AREA, MIN_VISIBLE, ScenePairs
from picopose.utils.records import Pair

MARGIN = 2.6  # side of the photo over that of the first object's box: its neighbours are in it
NEIGHBOURS = (5, 11)  # from, to (exclusive)
COARSE_PX = 64  # of an object's box, where its hidden part is counted


def at_own_size(place: np.ndarray) -> tuple[np.ndarray, float]:
    """The pose (4, 4) of an object that stands at a place at another size than its own, and that scale."""
    scale = np.cbrt(np.linalg.det(place[:3, :3]))
    pose = place.copy()
    pose[:3] /= scale
    return pose, scale


class SharedScenes(ScenePairs):
    """Scenes whose neighbours have any size and rotation, and stand at any place of the photo."""

    def pairs(self, number: int) -> list[Pair]:
        """A pair for each object of a scene of which enough is seen; perhaps none."""
        rng = stream("scene", self._seed, number)
        scene, rgb, photo = self._shot(rng, number)
        made = (
            self._pair(rng, rgb, photo, scene.camera.K, index, *thing)
            for index, thing in enumerate(scene.things)
        )
        return [pair for pair in made if pair is not None]

    def _shot(self, rng: np.random.Generator, number: int) -> tuple[Scene, np.ndarray, Any]:
        """A scene, its photo's colours (H, W, 3) uint8, and the rendering behind them."""
        things = [self._pool.pick(rng, number) for _ in range(1 + int(rng.integers(*NEIGHBOURS)))]
        scene, backdrop = self._scene(rng, number, things, MARGIN)
        photo = self._photo(scene)
        return scene, on_backdrop(rng, photo.rgb, photo.mask, backdrop), photo

    def _is_shown(self, visible: np.ndarray, thing: TrainingObject, place: np.ndarray, K: np.ndarray) -> bool:
        """Whether enough of an object is seen; visible: (H, W) bool."""
        area = np.count_nonzero(visible)
        return area >= max(MIN_AREA * self._size**2, MIN_VISIBLE * self._whole_area(thing, place, K))

    def _pair(
        self,
        rng: np.random.Generator,
        rgb: np.ndarray,
        photo: Any,
        K: np.ndarray,
        index: int,
        thing: TrainingObject,
        place: np.ndarray,
    ) -> Pair | None:
        """The pair of an object, or None if too little of it is seen.

        It may stand in the scene at another size than its own. What a camera sees does not tell the size, so
        the pair has the object as it is and the camera as much nearer or farther.
        """
        visible = photo.ids == index
        if not self._is_shown(visible, thing, place, K):
            return None
        pose, scale = at_own_size(place)
        rest = (photo.ids >= 0) & ~visible
        real = self._crop(rng, thing, pose, rgb, photo.depth / scale, visible, K, rest=rest)
        template = None if real is None else self._templates.near(rng, thing, pose)
        return Pair(real=real, template=template) if template is not None else None

    def _whole_area(self, thing: TrainingObject, place: np.ndarray, K: np.ndarray) -> float:
        """Pixels that the object would take in a photo without edges if nothing hid it, to a few percent."""
        camera = window(moved(place, thing.hull), COARSE_PX)
        alone = self._studio.depth(thing.mesh, place, camera.K, camera.size, camera.size)
        return np.count_nonzero(alone) * (K[0, 0] / camera.K[0, 0]) ** 2
