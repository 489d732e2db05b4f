"""Training pairs from meshes alone: cluttered scenes, rendered when they are asked for, beside a template.

A pair is a pure function of (seed, index); rendering is handed in, so a process makes its own OpenGL context.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from picopose.datasets.training.backdrops import Backdrops, on_backdrop
from picopose.datasets.training.drawn_templates import DrawnTemplates
from picopose.datasets.training.imperfect import detected_view
from picopose.datasets.training.object_pool import ObjectPool, Studio, TrainingObject
from picopose.datasets.training.scenes import MAX_NEIGHBOURS, Scene, random_scene
from picopose.datasets.training.streams import stream
from picopose.utils.crop import crop_from_image
from picopose.utils.errors import InputError
from picopose.utils.records import Pair, View

MIN_VISIBLE = 0.3  # of the object's pixels
MIN_AREA = 0.01  # of its visible part in the photo, in areas of the crop
MAX_ATTEMPTS, MAX_TARGETS = 30, 5

Rng = np.random.Generator
log = logging.getLogger(__name__)


class SyntheticPairs:
    """An endless source of training pairs of the objects of a pool.

    In the real view `mask` is a detector's, imperfect; `depth` is that of the object's visible surface alone.

    Args:
        size: side of the crops, px.
        resting: see `scenes.random_scene`.
        backgrounds: image files to show behind some of the scenes, beside procedural images.
        template_cache: number of templates that a process keeps.
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
        template_cache: int = 512,
    ):
        self._studio, self._pool, self._size, self._seed = studio, pool, size, seed
        self._resting = resting
        self._backdrops = Backdrops(studio, backgrounds, seed)
        self._templates = DrawnTemplates(studio, size=size, cache=template_cache)
        self._reported: set[str] = set()

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
            table, backdrop = (self._backdrops.pick(rng, index) for _ in range(2))
            scene = random_scene(rng, target, neighbours, table.board, self._size, resting=self._resting)
            real = self._real_view(rng, target, scene, backdrop.image)
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
        photo = self._studio.photo(
            scene.instances,
            scene.camera.K,
            scene.camera.size,
            scene.camera.size,
            ambient=scene.lighting.ambient,
            suns=scene.lighting.suns,
        )
        visible = photo.ids == 0
        if (
            visible.sum() < MIN_AREA * self._size**2
            or self._visible_share(target, scene, visible) < MIN_VISIBLE
        ):
            return None
        rgb, pose = on_backdrop(rng, photo.rgb, photo.mask, backdrop), scene.cam_from_obj
        rest = photo.ids > 0
        view = detected_view(rng, rgb, photo.depth, visible, scene.camera.K, pose, size=self._size, rest=rest)
        if view is None:
            return None
        return with_exact_depth(self._studio, target, pose, view)

    def _visible_share(self, target: TrainingObject, scene: Scene, visible: np.ndarray) -> float:
        """The share of the object's pixels that are neither hidden nor cut off, to about a percent."""
        if scene.is_whole:
            return 1.0
        size = min(scene.whole.size, 96)
        shrink = crop_from_image(torch.tensor([[0, 0, scene.whole.size, scene.whole.size]]), size)[0].numpy()
        alone = self._studio.depth(target.mesh, scene.cam_from_obj, shrink @ scene.whole.K, size, size)
        return visible.sum() * (size / scene.whole.size) ** 2 / max(np.count_nonzero(alone), 1)


def with_exact_depth(studio: Studio, target: TrainingObject, pose: np.ndarray, view: View) -> View:
    """A view of an object at a pose (4, 4) with its depth drawn anew where the view has any.

    Drawn at the crop's own pixels it is exact on steep surfaces too.
    """
    size = view.depth.shape[-1]
    depth = studio.depth(target.mesh, pose, view.K.double().numpy(), size, size)
    return replace(view, depth=torch.from_numpy(depth) * (view.depth > 0))
