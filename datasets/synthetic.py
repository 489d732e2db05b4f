"""Training pairs from meshes alone: cluttered scenes, rendered when they are asked for, beside a template.

A pair is a pure function of (seed, index); rendering is handed in, so a process makes its own OpenGL context.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from datasets.imperfect import detected_view, view_of
from datasets.object_pool import Mesh, ObjectPool, Studio, TrainingObject, nearest_views
from datasets.scenes import MAX_NEIGHBOURS, Scene, random_scene
from utils import layouts
from utils.crop import crop_from_image, mask_boxes, square_boxes
from utils.errors import InputError
from utils.images import read_image
from utils.lru import Lru
from utils.streams import stream
from utils.structs import Pair, View

NEAREST = 5  # the template is one of so many nearest ones
MIN_VISIBLE = 0.3  # of the object's pixels
MIN_AREA = 0.01  # of its visible part in the photo, in areas of the crop
MAX_ATTEMPTS, MAX_TARGETS = 30, 5
BACKDROPS, BACKDROP_PERIOD, BACKDROP_PX = 48, 3072, 256

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
        self._templates = Lru(template_cache)
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
        raise RuntimeError(f"{self.name(index)} and {MAX_TARGETS - 1} other objects cannot be seen")

    def _pair(self, rng: Rng, target: TrainingObject, index: int) -> Pair | None:
        """A pair of an object, or None if too little of it is seen in each of many scenes."""
        for attempt in range(MAX_ATTEMPTS):
            # A small or hidden object is tried again; at last alone, which shows most of all there is to see.
            count = int(rng.integers(MAX_NEIGHBOURS + 1)) if attempt < MAX_ATTEMPTS // 2 else 0
            neighbours = [self._pool.pick(rng, index) for _ in range(count)]
            table, backdrop = (self._backdrops.pick(rng, index) for _ in range(2))
            scene = random_scene(rng, target, neighbours, table.board, self._size, resting=self._resting)
            real = self._real_view(rng, target, scene, backdrop.image)
            if real is not None:
                return Pair(real=real, template=self._template(rng, target, scene.cam_from_obj))
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
        rgb, pose = _on_backdrop(rng, photo.rgb, photo.mask, backdrop), scene.cam_from_obj
        rest = photo.ids > 0
        view = detected_view(rng, rgb, photo.depth, visible, scene.camera.K, pose, size=self._size, rest=rest)
        if view is None:
            return None
        # Drawn at the crop's own pixels the depth is exact on steep surfaces too.
        depth = self._studio.depth(target.mesh, pose, view.K.double().numpy(), self._size, self._size)
        return replace(view, depth=torch.from_numpy(depth) * (view.depth > 0))

    def _visible_share(self, target: TrainingObject, scene: Scene, visible: np.ndarray) -> float:
        """The share of the object's pixels that are neither hidden nor cut off, to about a percent."""
        if scene.is_whole:
            return 1.0
        size = min(scene.whole.size, 96)
        shrink = crop_from_image(torch.tensor([[0, 0, scene.whole.size, scene.whole.size]]), size)[0].numpy()
        alone = self._studio.depth(target.mesh, scene.cam_from_obj, shrink @ scene.whole.K, size, size)
        return visible.sum() * (size / scene.whole.size) ** 2 / max(np.count_nonzero(alone), 1)

    def _template(self, rng: Rng, target: TrainingObject, cam_from_obj: np.ndarray) -> View:
        view = int(rng.choice(nearest_views(target.template_poses, cam_from_obj, NEAREST)))
        return _unpacked(self._templates.get((target, view), self._drawn_template))

    def _drawn_template(self, key: tuple[TrainingObject, int]) -> View:
        target, view = key
        return _packed(draw_template(self._studio, target, view, self._size))


def draw_template(studio: Studio, target: TrainingObject, view: int, size: int) -> View:
    """One template of an object as it is at test time, without its way through files.

    Of the image of `layouts.TEMPLATE_SIZE` only the part that the crop is taken from is drawn.
    """
    pose, K = target.template_poses[view], np.array(layouts.TEMPLATE_K)
    xyz = target.hull @ pose[:3, :3].T + pose[:3, 3]
    xy = (xyz @ K.T)[:, :2] / xyz[:, 2:]
    width, height = layouts.TEMPLATE_SIZE
    low, high = np.floor(xy.min(axis=0)), np.ceil(xy.max(axis=0)) + 1
    if (low >= 0).all() and (high <= [width, height]).all():
        window = square_boxes(torch.tensor([[*low, *high]]), height, width)[0].numpy()
        # All of the object, and a little more since the drawn pixels' own window may lie beside this one.
        left, top = (np.minimum(low, window[:2]) - 3).clip(0).astype(int).tolist()
        right, bottom = np.minimum(np.maximum(high, window[2:]) + 3, [width, height]).astype(int).tolist()
    else:
        left, top, right, bottom = 0, 0, width, height
    K[:2, 2] -= left, top
    drawn = studio.photo([(target.mesh, pose)], K, right - left, bottom - top)
    corner = np.array([left, top, left, top])
    mask_box = mask_boxes(torch.from_numpy(drawn.mask)[None]) + torch.from_numpy(corner)
    window = square_boxes(mask_box, height, width)[0].numpy() - corner
    return view_of(drawn.rgb, drawn.depth, drawn.mask, K, pose, size, window=window)


def _packed(view: View) -> View:
    """A view whose colours take a byte each: templates come from 8-bit images, so little is lost."""
    return View(**vars(view) | {"rgb": (view.rgb * 255).round().byte()})


def _unpacked(view: View) -> View:
    return View(**vars(view) | {"rgb": view.rgb / 255})


def _on_backdrop(rng: Rng, rgb: np.ndarray, covered: np.ndarray, backdrop: np.ndarray) -> np.ndarray:
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
        image = _photo(self._files[rng.integers(len(self._files))]) if shows_photo else None
        if image is None:
            image = _room(rng, self._studio)
        return Backdrop(image, self._studio.board(image))


def _photo(path: Path) -> np.ndarray | None:
    """A photo of moderate size; None, and a line in the log, if it cannot be read."""
    try:
        image = read_image(path).permute(1, 2, 0).numpy()
    except InputError as error:
        log.warning("left out of the backgrounds: %s", error)
        return None
    scale = BACKDROP_PX / min(image.shape[:2])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _room(rng: Rng, studio: Studio) -> np.ndarray:
    """A procedural surface: an image, often faded, under uneven light."""
    image = studio.random_image(rng, BACKDROP_PX, BACKDROP_PX).astype(np.float32)
    if rng.random() < 0.5:
        image += rng.uniform(0.3, 0.9) * (image.mean(axis=(0, 1)) - image)
    light = cv2.resize(rng.uniform(0.6, 1.2, (2, 2)).astype(np.float32), image.shape[1::-1])
    return (image * light[..., None]).clip(0, 255).astype(np.uint8)
