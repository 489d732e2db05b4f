"""Writes detections that are wrong on purpose, to test whether their poses are recognised as wrong.

`python -m tools.mini_set.false_detections --dataset_dir data/mini --kind empty --out data/empty.json` writes
boxes where no annotated object is; `--kind swapped` writes the places of objects under other objects' ids.
A list of targets beside the detections, `empty_targets.json`, asks for just these: the data set's own list
would leave out most, and an object that it names without a detection would be given another one's.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from picopose.datasets import layouts
from picopose.datasets.bop.objects import read_objects
from picopose.datasets.bop.scenes import Scene, open_scenes
from picopose.datasets.bop.targets import find_targets, read_targets
from picopose.datasets.images import read_pixels
from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.reading import finite_numbers
from tools.mini_set.bop_files import TARGET_VISIBILITY, segmentation, write_json

SCORE = 0.5  # of every false detection
TRIES = 200  # places tried for a box in one image
REMEDY = "download the annotations of the test images"

Box = tuple[int, int, int, int]  # x, y, width, height in px
Rng = np.random.Generator


@dataclass(frozen=True)
class Instance:
    """One annotated object in one image."""

    obj_id: int
    whole: Box  # including hidden parts; may reach outside the image
    visible: Box
    visibility: float  # visible share
    mask: Path  # image of the visible part; not every data set has it


class Truth:
    """The visible instances in the target images of a BOP data set, and its object ids.

    Raises an `InputError` that names the file where one is missing or malformed.
    """

    def __init__(self, dataset_dir: Path):
        data_dir, name = dataset_dir.resolve().parent, dataset_dir.resolve().name
        self._split = dataset_dir / layouts.bop_test_split(data_dir, name)
        self.obj_ids = sorted(read_objects(layouts.models_dir(data_dir, name)))
        images = list(read_targets(find_targets(dataset_dir)).images)
        self._scenes = open_scenes(self._split, (scene_id for scene_id, _ in images))
        self.instances = {
            (scene_id, im_id): _visible(self._scenes[scene_id], im_id) for scene_id, im_id in images
        }
        if not any(map(self.found, images)):
            raise InputError(f"{self._split} annotates nothing in the target images: {REMEDY}")

    def found(self, image: tuple[int, int]) -> list[Instance]:
        """The instances of an image that a detector should find."""
        return [one for one in self.instances[image] if one.visibility >= TARGET_VISIBILITY]

    def size(self, image: tuple[int, int]) -> tuple[int, int]:
        """Height and width (px) of an image (scene_id, im_id)."""
        scene_id, im_id = image
        return read_pixels(self._scenes[scene_id].photo_path(im_id)).shape[:2]


def _visible(scene: Scene, im_id: int) -> list[Instance]:
    """The visible instances of an image."""
    truths = zip(scene.instances(im_id), scene.annotations(im_id), strict=True)
    where = f"{scene.table('gt_info')}: image {im_id}"
    return [
        Instance(
            truth.obj_id,
            *(_box(info.get(key), f"{where}: {key}") for key in ("bbox_obj", "bbox_visib")),
            truth.visibility,
            scene.visible_mask(im_id, gt_id),
        )
        for gt_id, (truth, (_, info)) in enumerate(truths)
        if truth.visibility > 0
    ]


def _box(value: Any, where: str) -> Box:
    """BOP writes a box as x, y, last x - x, last y - y."""
    x, y, across, down = map(int, finite_numbers(value, 4, where))
    return x, y, across + 1, down + 1


def empty(truth: Truth, rng: Rng) -> Iterator[dict[str, Any]]:
    """Boxes of objects' sizes that overlap no annotated object's full box, image by image.

    Sizes that fit nowhere are skipped.
    """
    images = list(truth.instances)
    shapes = {image: truth.size(image) for image in images}
    sizes = [one.visible[2:] for image in images for one in truth.found(image)]
    ids = {image: _endless(rng, truth.obj_ids) for image in images}
    order = _endless(rng, images)
    vain = 0
    for size in _endless(rng, sizes):
        tried = ((image, _free(rng, size, truth.instances[image], shapes[image])) for image in order)
        image, box = next((found for found in islice(tried, len(images)) if found[1]), (None, None))
        vain = vain + 1 if box is None else 0
        if box is not None:
            yield _entry(image, next(ids[image]), box)
        elif vain == len(sizes):
            raise InputError("--kind empty: the objects leave no room for a box; use a set of other images")


def _free(rng: Rng, size: Sequence[int], instances: Sequence[Instance], image: tuple[int, int]) -> Box | None:
    """A box of `size` (width, height) in an image (height, width), clear of the instances, or None."""
    if image[1] < size[0] or image[0] < size[1]:
        return None
    taken = np.array([one.whole for one in instances]).reshape(-1, 4)
    taken[:, 2:] += taken[:, :2]
    place = place_apart(rng, size, taken, image, tries=TRIES)
    return None if place is None else (*place, *size)


def place_apart(
    rng: Rng, size: Sequence[int], taken: np.ndarray, image: Sequence[int], *, tries: int
) -> tuple[int, int] | None:
    """A random left, top px of a box that overlaps none of `taken`; None if no try succeeds.

    size: width and height of the box, at most those of the image (height, width); taken: (N, 4) px, left,
    top, right, bottom.
    """
    room = np.array(image[::-1]) - size
    places = rng.integers(0, room + 1, (tries, 2))
    behind = places[:, None] >= taken[:, 2:]  # (tries, N, 2)
    before = places[:, None] + size <= taken[:, :2]
    apart = (behind | before).any(axis=2).all(axis=1)
    return tuple(map(int, places[apart.argmax()])) if apart.any() else None


def swapped(truth: Truth, rng: Rng) -> Iterator[dict[str, Any]]:
    """The visible parts of instances with other objects' ids; as boxes where there are no masks.

    All instances are used once before any is used again, never twice with the same id.
    """
    instances = [(image, one) for image in truth.instances for one in truth.found(image)]
    instances = [instances[k] for k in rng.permutation(len(instances))]
    others = [[k for k in truth.obj_ids if k != one.obj_id] for _, one in instances]
    orders = [rng.permutation(ids).tolist() for ids in others]
    for ids in zip(*orders, strict=False):
        for (image, one), obj_id in zip(instances, ids, strict=True):
            yield _entry(image, obj_id, one.visible, one.mask if one.mask.exists() else None)


def _endless(rng: Rng, values: Sequence) -> Iterator:
    """The values in random order, repeatedly."""
    while True:
        for k in rng.permutation(len(values)):
            yield values[k]


def _entry(image: tuple[int, int], obj_id: int, box: Box, mask: Path | None = None) -> dict[str, Any]:
    scene_id, im_id = image
    entry = {
        "scene_id": scene_id,
        "image_id": im_id,
        "category_id": obj_id,
        "score": SCORE,
        "bbox": list(box),
    }
    if mask is not None:
        entry["segmentation"] = segmentation(read_pixels(mask))
    return entry | {"time": 0.0}


KINDS = {"empty": empty, "swapped": swapped}


def targets(detections: Sequence[dict[str, Any]]) -> list[dict[str, int]]:
    """Targets for all of these detections, image by image."""
    counts = Counter((one["scene_id"], one["image_id"], one["category_id"]) for one in detections)
    return [
        {"im_id": im_id, "inst_count": count, "obj_id": obj_id, "scene_id": scene_id}
        for (scene_id, im_id, obj_id), count in sorted(counts.items())
    ]


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset_dir", type=Path, required=True, help="a data set in BOP layout")
    parser.add_argument("--kind", choices=sorted(KINDS), required=True)
    parser.add_argument("--count", type=int, default=200, help="of the detections")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, required=True, help="JSON file; the targets go to OUT_targets.json"
    )
    options = parser.parse_args(argv)
    if options.count < 1:
        raise InputError(f"--count {options.count}: give at least 1")
    rng = np.random.default_rng(options.seed)
    made = list(islice(KINDS[options.kind](Truth(options.dataset_dir), rng), options.count))
    if len(made) < options.count:
        raise InputError(f"--count {options.count}: {options.dataset_dir} allows {len(made)} at most")
    write_json(options.out, made)
    write_json(options.out.with_name(f"{options.out.stem}_targets.json"), targets(made))


if __name__ == "__main__":
    main()
