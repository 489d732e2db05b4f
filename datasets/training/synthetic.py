"""Training pairs from meshes alone: cluttered scenes, rendered when they are asked for, beside a template.

A pair is a pure function of (seed, index); rendering is handed in, so a process makes its own OpenGL context.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from picopose.datasets.training.backdrops import Backdrops, on_backdrop
from picopose.datasets.training.drawn_templates import NearestViews
from picopose.datasets.training.imperfect import detected_view
from picopose.datasets.training.object_pool import ObjectPool, Studio, TrainingObject
from picopose.datasets.training.scenes import MARGIN, MAX_NEIGHBOURS, Scene, random_scene
from picopose.datasets.training.streams import stream
from picopose.utils.crop import crop_from_image
from picopose.utils.errors import InputError
from picopose.utils.records import Pair, View

MIN_VISIBLE = 0.3  # of the object's pixels
MIN_AREA = 0.01  # of its visible part in the photo, in areas of the crop
MAX_ATTEMPTS, MAX_TARGETS = 30, 5

Rng = np.random.Generator
log = logging.getLogger(__name__)


class ScenePairs:
    """Pairs of the objects of a pool, made from scenes; what sources of them share.

    In a real view `mask` is a detector's, imperfect; `depth` is that of the object's visible surface alone.

    Args:
        size: side of the crops, px.
        resting: see `scenes.random_scene`.
        backgrounds: image files to show behind some of the scenes, beside procedural images.
    """

    def __init__(
        self,
        studio: Studio,
        pool: ObjectPool,
        *,
        size: int,
        seed: int,
        resting: float = 0.0,
        backgrounds: Sequence[Path] = (),
    ):
        self._studio, self._pool, self._size, self._seed = studio, pool, size, seed
        self._resting = resting
        self._backdrops = Backdrops(studio, backgrounds, seed)
        self._templates = NearestViews(studio, size=size)
        self._reported: set[str] = set()

    def _scene(
        self, rng: Rng, index: int, things: Sequence[TrainingObject], margin: float = MARGIN
    ) -> tuple[Scene, np.ndarray]:
        """A scene about the first of some objects, and the image behind it."""
        table, backdrop = (self._backdrops.pick(rng, index) for _ in range(2))
        options = {"resting": self._resting, "margin": margin}
        return random_scene(rng, things[0], things[1:], table.board, self._size, **options), backdrop.image

    def _photo(self, scene: Scene) -> Any:
        camera, light = scene.camera, scene.lighting
        size = camera.size, camera.size
        return self._studio.photo(scene.instances, camera.K, *size, ambient=light.ambient, suns=light.suns)

    def _crop(
        self, rng: Rng, thing: TrainingObject, pose: np.ndarray, *photo: np.ndarray, rest: np.ndarray
    ) -> View | None:
        """`imperfect.detected_view` of an object at a pose (4, 4); photo: its `rgb`, `depth`, `visible`, `K`.

        Its depth is drawn anew, at the crop's own pixels, and so is exact on steep surfaces too.
        """
        size = self._size
        view = detected_view(rng, *photo, pose, size=size, rest=rest)
        if view is None:
            return None
        depth = self._studio.depth(thing.mesh, pose, view.K.double().numpy(), size, size)
        return replace(view, depth=torch.from_numpy(depth) * (view.depth > 0))


class SyntheticPairs(ScenePairs):
    """An endless source of training pairs, each of a scene of its own."""

    def sample(self, index: int) -> Pair:
        """The pair of an index: unbatched views of `size` px."""
        rng = stream("synthetic", self._seed, index)
        for _ in range(MAX_TARGETS):
            target = self._pool.pick(rng, index)
            pair = self._pair(rng, target, index)
            if pair is not None:
                return pair
            if target.name not in self._reported:
                self._reported.add(target.name)
                log.warning("%s is hardly seen in any scene: others take its place", target.name)
        raise InputError(
            f"{self.name(index)} and {MAX_TARGETS - 1} other objects are hardly seen in any scene: "
            "leave them out of train_dataset.meshes"
        )

    def _pair(self, rng: Rng, target: TrainingObject, index: int) -> Pair | None:
        """A pair of an object, or None if too little of it is seen in each of many scenes."""
        for attempt in range(MAX_ATTEMPTS):
            # A small or hidden object is tried again; at last alone, which shows most of all there is to see.
            count = int(rng.integers(MAX_NEIGHBOURS + 1)) if attempt < MAX_ATTEMPTS // 2 else 0
            neighbours = [self._pool.pick(rng, index) for _ in range(count)]
            scene, backdrop = self._scene(rng, index, [target, *neighbours])
            real = self._real_view(rng, target, scene, backdrop)
            if real is None:
                continue
            template = self._templates.near(rng, target, scene.cam_from_obj)
            if template is not None:
                return Pair(real=real, template=template)
        return None

    def name(self, index: int) -> str:
        """What an index shows, for messages."""
        rng = stream("synthetic", self._seed, index)
        return f"synthetic pair {index} (seed {self._seed}) of {self._pool.pick(rng, index).name}"

    def _real_view(self, rng: Rng, target: TrainingObject, scene: Scene, backdrop: np.ndarray) -> View | None:
        """The crop of a scene's photo about the object, or None if too little of it is seen."""
        photo = self._photo(scene)
        visible = photo.ids == 0
        if (
            visible.sum() < MIN_AREA * self._size**2
            or self._visible_share(target, scene, visible) < MIN_VISIBLE
        ):
            return None
        rgb = on_backdrop(rng, photo.rgb, photo.mask, backdrop)
        seen = rgb, photo.depth, visible, scene.camera.K
        return self._crop(rng, target, scene.cam_from_obj, *seen, rest=photo.ids > 0)

    def _visible_share(self, target: TrainingObject, scene: Scene, visible: np.ndarray) -> float:
        """The share of the object's pixels that are neither hidden nor cut off, to about a percent."""
        if scene.is_whole:
            return 1.0
        size = min(scene.whole.size, 96)
        shrink = crop_from_image(torch.tensor([[0, 0, scene.whole.size, scene.whole.size]]), size)[0].numpy()
        alone = self._studio.depth(target.mesh, scene.cam_from_obj, shrink @ scene.whole.K, size, size)
        return visible.sum() * (size / scene.whole.size) ** 2 / max(np.count_nonzero(alone), 1)
