"""Detections in the images of data sets: files that BOP distributes (CNOS) or that any detector writes.

Read piece by piece and kept run-length encoded; a mask becomes pixels only when its image is at hand.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import torch

from picopose.datasets.bop.image_result import FoundRegion, ImageResult
from picopose.datasets.detection_files import Entry, Region, read_entries
from picopose.utils.errors import InputError
from picopose.utils.files import write_atomically
from picopose.utils.masks import cut_out
from picopose.utils.reading import integer
from picopose.utils.records import Mask

_LOG = logging.getLogger(__name__)
_REMEDY = "download or create the detections again"
# A mask of so few pixels says less than the detection's box, which is used instead.
_TOO_FEW_PIXELS = 8
_KEYS = ("scene_id", "image_id", "category_id", "bbox")


@dataclass(frozen=True, slots=True)
class Detection:
    """One detection of an object of a data set."""

    obj_id: int
    score: float  # 1 where the file has none
    seconds: float  # the detector's for the whole image; 0 if unknown
    region: Region

    @property
    def box(self) -> tuple[float, float, float, float]:
        """px: left, top, right, bottom, the last two exclusive."""
        return self.region.box


class Detections:
    """The detections of a file by image.

    Args:
        path: JSON list with `scene_id, image_id, category_id`, `bbox` (x, y, width, height), `score`, and
            where known `time` and `segmentation` (COCO's run lengths or polygons); or COCO's annotation file,
            whose images are named `SCENE/rgb/IMAGE.png`. The scene may be left out where `images` are of one.
        images: (scene_id, im_id) of the images to keep; all of them if not given.

    Raises an `InputError` that names the file and the entry for anything missing or malformed, and where no
    entry is of one of the images.
    """

    def __init__(self, path: Path | str, *, images: Collection[tuple[int, int]] | None = None):
        self.path = Path(path)
        scenes = {scene_id for scene_id, _ in images or ()}
        only = next(iter(scenes)) if len(scenes) == 1 else None
        found, without_scene, without_score, first = defaultdict(list), 0, 0, None
        for entry in read_entries(self.path):
            scene_id, im_id = _image(entry)
            without_scene += scene_id is None
            image = _known_scene(scene_id, only, entry.where), im_id
            first = first or image
            if images is None or image in images:
                without_score += entry.score is None
                found[image].append(_detection(entry))
        self._by_image = {
            image: tuple(sorted(detections, key=lambda detection: -detection.score))
            for image, detections in found.items()
        }
        if first and images and not found:
            raise InputError(
                f"{self.path}: none of its detections is of an image of the targets (the first is of scene "
                f"{first[0]}, image {first[1]}): make the detections on this data set"
            )
        if without_scene:
            _LOG.info("%s: %d detections name no scene; taken for scene %d", self.path, without_scene, only)
        if without_score:
            _LOG.info("%s: %d detections have no score; taken for 1", self.path, without_score)

    def of_image(self, scene_id: int, im_id: int) -> tuple[Detection, ...]:
        """Detections of one image, best first."""
        return self._by_image.get((scene_id, im_id), ())

    def masks(self, chosen: Collection[Detection], *, size: tuple[int, int]) -> tuple[Mask, ...]:
        """Masks of detections of an image of `size` (height, width).

        A mask of 8 pixels or fewer, and one that is not there, becomes the detection's box.
        """
        return tuple(_mask(detection, size) for detection in chosen)


def write_detections(path: Path | str, results: Iterable[ImageResult]) -> None:
    """Writes what a run has itself detected as BOP's list, one entry a line; `Detections` reads it."""
    entries = [_entry(result, region) for result in results for region in result.detections]
    with write_atomically(path) as temporary:
        temporary.write_text("[\n" + ",\n".join(map(json.dumps, entries)) + "\n]\n", encoding="utf-8")


def _entry(result: ImageResult, region: FoundRegion) -> dict:
    left, top, right, bottom = region.box
    entry = {"scene_id": result.scene_id, "image_id": result.im_id, "category_id": region.obj_id}
    entry |= {"score": region.score, "bbox": [left, top, right - left, bottom - top]}
    entry |= {"time": result.phases["detection"]}
    if region.runs is not None:
        entry["segmentation"] = {"counts": list(region.runs), "size": list(region.size)}
    return entry


def _image(entry: Entry) -> tuple[int | None, int]:
    """Scene and image of an entry, by its ids or by the name of a file; the scene may be missing."""
    name = entry.image
    if name.file is not None:
        *folders, file = PureWindowsPath(name.file).parts or ("",)  # which knows both kinds of slashes
        stem = file.rpartition(".")[0] or file
        scene = next((folder for folder in reversed(folders[-2:]) if folder.isdecimal()), None)
        if not stem.isdecimal():
            raise InputError(f"{entry.where} is of {name.file!r}, which is no SCENE/rgb/IMAGE.png: {_REMEDY}")
        where = f"{entry.where}: {name.file}"
        return name.scene_id if scene is None else integer(scene, where), integer(stem, where)
    if name.im_id is None:
        raise entry.lacking([key for key in _KEYS if key not in entry.content])
    return name.scene_id, name.im_id


def _known_scene(scene_id: int | None, only: int | None, where: str) -> int:
    if scene_id is None and only is None:
        raise InputError(f"{where}: scene_id is missing, and the images are of several scenes: {_REMEDY}")
    return only if scene_id is None else scene_id


def _detection(entry: Entry) -> Detection:
    obj_id = entry.obj_id
    if obj_id is None:
        raise entry.lacking(["category_id"])
    score = 1.0 if entry.score is None else entry.score
    return Detection(obj_id, score, entry.seconds, entry.region())


def _mask(detection: Detection, size: tuple[int, int]) -> Mask:
    pixels = detection.region.mask(size)
    if pixels is None or pixels.sum() <= _TOO_FEW_PIXELS:
        return _box_mask(detection.box, size)
    return cut_out(pixels)


def _box_mask(box: tuple[float, float, float, float], size: tuple[int, int]) -> Mask:
    """The part of a box that is inside an image of `size` (height, width), and at least one pixel of it."""
    left, right = _span(box[0], box[2], size[1])
    top, bottom = _span(box[1], box[3], size[0])
    return Mask(torch.tensor([left, top, right, bottom]), None)


def _span(start: float, end: float, size: int) -> tuple[int, int]:
    first = min(max(round(start), 0), size - 1)
    return first, min(max(round(end), first + 1), size)
