"""Training pairs of MegaPose's renderings of Google Scanned Objects and ShapeNet, read from their shards.

A pair is a pure function of (seed, index), so a run that is taken up again goes on exactly where it stopped,
with any number of workers and processes, which divide the pairs by their indices.
"""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from picopose.datasets import layouts
from picopose.datasets.bop.entries import K_of, depth_scale_of, instance_of, visibility_of
from picopose.datasets.masks.rle import compress, decode
from picopose.datasets.templates import StoredViews
from picopose.datasets.training.imperfect import detected_view
from picopose.datasets.training.object_pool import nearest_views
from picopose.datasets.training.shards import Files, Shards, UnreadableSample
from picopose.datasets.training.streams import stream
from picopose.utils import template_files
from picopose.utils.errors import MALFORMED, InputError
from picopose.utils.lru import Lru
from picopose.utils.pixels import as_rgb, pixels_of
from picopose.utils.records import Pair, View

NEAREST = 5  # the template is one of so many nearest ones
MIN_VISIBLE = 0.3  # of an object's pixels
MIN_PIXELS = 1024  # of an object's visible pixels with depth
MAX_PIXELS = 1 << 24  # of an image; MegaPose's have 720 x 540
MAX_SIZE_RATIO = math.sqrt(10)
OPEN_OBJECTS = 512  # whose templates' poses a process keeps
SHARDS_AT_ONCE = 16
MAX_ATTEMPTS = 100
HELD_OUT = 0.01  # of the shards
SUFFIXES = ("rgb.jpg", "depth.png", "camera.json", "gt.json", "gt_info.json", "mask_visib.json")
# What damaged tables and images lead to where they are read.
DAMAGE = (*MALFORMED, OSError, SyntaxError, Image.DecompressionBombError)

Rng = np.random.Generator
log = logging.getLogger(__name__)


class MegaPosePairs:
    """An endless source of pairs of one of the two sets, `gso` or `shapenet`.

    Every epoch goes through the shards in a new order and mixes the images of `SHARDS_AT_ONCE` of them, so
    that few files are asked for at a time. Of an image one object is taken at random; an image that is
    damaged, or in which no object is seen well enough, is replaced by another one of the same shards.

    Args:
        data_dir: folder of the data sets; the templates lie in `<data_dir>/templates/<name>`.
        size: side of the crops, px.
        held_out: whether the images are those that are kept for validation.
    """

    def __init__(self, data_dir: Path | str, name: str, *, size: int, seed: int, held_out: bool = False):
        self._data_dir, self._dataset, self._size, self._seed = Path(data_dir), name, size, seed
        root = layouts.training_dir(data_dir, name)
        folder = layouts.shards_dir(root)
        own = folder / "key_to_shard.json"
        self._shards = Shards(folder, own if own.is_file() else root / own.name, SUFFIXES)
        starts, sizes = part(self._shards.starts, len(self._shards), held_out=held_out)
        self._order = EpochOrder(starts, sizes, seed=seed)
        poses = template_files.poses_file(layouts.templates_dir(data_dir, name), "any").parent
        self._rendered = {path.stem for path in poses.glob("*.npy")}
        if not self._rendered:
            raise InputError(f"no templates in {poses.parent}: run {_render(name)}")
        self._templates = Lru(OPEN_OBJECTS)
        self._reported: set[str] = set()

    def sample(self, index: int) -> Pair:
        """The pair of an index: unbatched views of `size` px."""
        rng = stream("megapose", self._seed, index)
        for position in self._order.candidates(index, rng):
            try:
                pair = self._pair(rng, position)
            except UnreadableSample:
                continue
            if pair is not None:
                return pair
        raise InputError(
            f"no usable image near {self.name(index)}, for the reasons told before: check the shards, or run "
            f"{_render(self._dataset)}"
        )

    def name(self, index: int) -> str:
        """Shard and key of the image of an index, for messages; if it is damaged, the pair shows another."""
        position = self._order.position(index)
        return f"{self._shards.shard(position)}, {self._shards.key(position)} (pair {index})"

    def _pair(self, rng: Rng, position: int) -> Pair | None:
        """A pair of a random object of an image, or None if none of them can be used."""
        files = self._shards.read(position)
        with self._naming_damage(position):
            instances = [i for i in read_instances(files) if i.obj in self._rendered]
            photo = read_photo(files) if instances else None
        for k in rng.permutation(len(instances)).tolist():
            instance = instances[k]
            with self._naming_damage(position):
                visible = instance.visible(photo.depth.shape) & (photo.depth > 0)
            if visible.sum() < MIN_PIXELS:
                continue
            pose = instance.cam_from_obj
            real = detected_view(rng, photo.rgb, photo.depth, visible, photo.K, pose, size=self._size)
            template = self._template(rng, instance.obj, real) if real is not None else None
            if template is not None:
                return Pair(real=real, template=template)
        return None

    @contextmanager
    def _naming_damage(self, position: int) -> Iterator[None]:
        """Whatever a damaged file leads its readers to becomes `UnreadableSample` and a line in the log."""
        try:
            yield
        except DAMAGE as error:
            self._shards.report(position, f"{type(error).__name__}: {error}")
            raise UnreadableSample(self._shards.key(position)) from error

    def _template(self, rng: Rng, obj: str, real: View) -> View | None:
        """One of the nearest templates of an object, None if they are no use; the log then says so once."""
        try:
            templates = self._templates.get(obj, partial(StoredViews, self._data_dir, self._dataset))
            nearest = nearest_views(templates.cam_from_obj.numpy(), real.cam_from_obj.numpy(), NEAREST)
            template = templates.read(self._size, [int(rng.choice(nearest))])[0]
            check_size(template, real, _render(self._dataset))
            return template
        except InputError as error:
            if obj not in self._reported:
                self._reported.add(obj)
                log.warning("object %s is left out: %s", obj, error)
            return None


def check_size(template: View, real: View, remedy: str) -> None:
    """Refuses a template that shows an object far larger or smaller than a photo does.

    Of the photo's object a third may be seen; a factor of ten is another unit.
    """
    sizes = [
        float((view.depth > 0).sum().sqrt() * view.depth[view.depth > 0].mean() / view.K[0, 0])
        for view in (template, real)
    ]
    if not 1 / MAX_SIZE_RATIO < sizes[0] / sizes[1] < MAX_SIZE_RATIO:
        raise InputError(
            f"its template shows a surface about {sizes[0]:.2g} m wide and a photo one of {sizes[1]:.2g} m, "
            f"so the templates are in another unit than is usual for the set: delete them and run {remedy}"
        )


def _render(name: str) -> str:
    return f"python -m picopose templates --dataset {name}"


@dataclass(frozen=True)
class Photo:
    """An image of a shard."""

    rgb: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) float32 m
    K: np.ndarray  # (3, 3)


@dataclass(frozen=True)
class Instance:
    """An object in an image of a shard."""

    obj: str  # six digits
    cam_from_obj: np.ndarray  # (4, 4) m
    segmentation: dict  # run lengths

    def visible(self, shape: tuple[int, ...]) -> np.ndarray:
        """The object's pixels in a photo of a shape (H, W), bool.

        Raises:
            ValueError: the mask is one of another size, or its run lengths do not fill it.
        """
        code, size = compress(self.segmentation, "mask_visib.json")
        if size != shape:
            raise ValueError(f"a mask of {size[1]}x{size[0]} px, of a photo of {shape[1]}x{shape[0]} px")
        return decode(code, size)


def read_photo(files: Files) -> Photo:
    """Colours, depth and camera of a sample; one of `DAMAGE` where they are damaged."""
    rgb, depth = as_rgb(_pixels(files, "rgb.jpg")), _pixels(files, "depth.png")
    if rgb.shape[:2] != depth.shape:
        raise ValueError("rgb.jpg and depth.png are no images of one size")
    camera = json.loads(files["camera.json"])
    K = K_of(camera["cam_K"], "camera.json: cam_K")
    scale = depth_scale_of(camera["depth_scale"], "camera.json: depth_scale")
    return Photo(rgb, depth.astype(np.float32) * np.float32(scale), K)


def _pixels(files: Files, name: str) -> np.ndarray:
    """An image as it is stored, whatever its EXIF data say."""
    with Image.open(io.BytesIO(files[name]), formats=("JPEG", "PNG")) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{name} claims {image.width}x{image.height} px")
        return pixels_of(image, name)


def read_instances(files: Files) -> list[Instance]:
    """The objects of a sample that are visible enough."""
    truths, infos, masks = (json.loads(files[f"{name}.json"]) for name in ("gt", "gt_info", "mask_visib"))
    if len(infos) != len(truths):
        raise ValueError(f"gt.json has {len(truths)} poses and gt_info.json {len(infos)}")
    return [
        _instance(truth, info, masks[str(k)] if isinstance(masks, dict) else masks[k], f"object {k}")
        for k, (truth, info) in enumerate(zip(truths, infos, strict=True))
        if visibility_of(info, f"gt_info.json: object {k}") >= MIN_VISIBLE
    ]


def _instance(truth: dict, info: dict, segmentation: dict, where: str) -> Instance:
    known = instance_of(truth, info, f"gt.json: {where}")
    pose = np.vstack([known.cam_from_obj, [0, 0, 0, 1]])
    if pose[2, 3] <= 0:
        raise ValueError(f"gt.json: {where} is behind the camera")
    return Instance(f"{known.obj_id:06d}", pose, segmentation)


def part(starts: np.ndarray, count: int, *, held_out: bool) -> tuple[np.ndarray, np.ndarray]:
    """First positions and sizes of the shards that are for training, or of the last hundredth, held out.

    Of fewer than ten shards none is held out: all serve for both.
    """
    sizes, whole = np.diff(starts, append=count), len(starts)
    kept = whole - math.ceil(HELD_OUT * whole) if whole >= 10 else whole
    chosen = slice(kept, None) if held_out and kept < whole else slice(kept)
    return starts[chosen], sizes[chosen]


class EpochOrder:
    """The order in which samples that lie in shards are gone through, epoch by epoch.

    The shards are shuffled, and then the samples of every `SHARDS_AT_ONCE` consecutive ones.

    Args:
        starts, sizes: (M,) of each shard, the position of its first sample and their number.
    """

    def __init__(self, starts: np.ndarray, sizes: np.ndarray, *, seed: int):
        self._starts, self._sizes = starts, sizes
        self._count, self._seed = int(sizes.sum()), seed
        self._windows = Lru(4)

    def position(self, index: int) -> int:
        """Position of the sample of an index."""
        window, place = self._locate(index)
        return int(window[place])

    def candidates(self, index: int, rng: Rng) -> Iterator[int]:
        """Its position, then random ones near it in the order, for the case that it cannot be used."""
        window, place = self._locate(index)
        yield int(window[place])
        for _ in range(MAX_ATTEMPTS):
            yield int(window[rng.integers(len(window))])

    def _locate(self, index: int) -> tuple[np.ndarray, int]:
        """The samples (positions, shuffled) that are mixed with that of an index, and its place there."""
        epoch, place = divmod(index, self._count)
        shards = stream("shards", self._seed, epoch).permutation(len(self._starts))
        firsts = np.cumsum(self._sizes[shards]) - self._sizes[shards]
        n = int(np.searchsorted(firsts, place, side="right") - 1) // SHARDS_AT_ONCE
        mine = shards[n * SHARDS_AT_ONCE : (n + 1) * SHARDS_AT_ONCE]
        samples = self._windows.get((epoch, n), lambda _: self._mixed(epoch, n, mine))
        return samples, int(place - firsts[n * SHARDS_AT_ONCE])

    def _mixed(self, epoch: int, n: int, shards: np.ndarray) -> np.ndarray:
        samples = np.concatenate([self._starts[s] + np.arange(self._sizes[s]) for s in shards])
        return stream("images", self._seed, epoch, n).permutation(samples)
