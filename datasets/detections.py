"""Detections to solve poses for: the JSON files that BOP distributes (CNOS) or that any detector writes.

Read piece by piece and kept run-length encoded; a mask becomes pixels only when its image is at hand.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from utils.errors import InputError
from utils.files import finite_numbers, iterate_json
from utils.masks import cut_out
from utils.rle import compress, decode
from utils.structs import Mask

_REMEDY = "download or create the detections again"
# A mask of so few pixels says less than the detection's box, which is used instead.
_TOO_FEW_PIXELS = 8


@dataclass(frozen=True, slots=True)
class Detection:
    """One detection, with its mask as a code or only its box."""

    obj_id: int
    score: float
    seconds: float  # the detector's for the whole image; 0 if unknown
    box: tuple[float, float, float, float]  # px: left, top, right, bottom, the last two exclusive
    mask: tuple[bytes, tuple[int, int]] | None  # of `utils.rle`: code, (height, width)


class Detections:
    """The detections of a file by image.

    Args:
        path: JSON list with `scene_id, image_id, category_id, bbox` (x, y, width, height), `score`, and where
            known `time` and `segmentation` (COCO run lengths, plain or compressed).
        images: (scene_id, im_id) of the images to keep; all of them if not given.

    Raises an `InputError` that names the file and the entry for anything missing or malformed.
    """

    def __init__(self, path: Path | str, *, images: Collection[tuple[int, int]] | None = None):
        self.path = Path(path)
        found = defaultdict(list)
        for index, entry in enumerate(iterate_json(self.path, remedy=_REMEDY)):
            where = f"{self.path}: detection {index}"
            image = _integer(entry, "scene_id", where), _integer(entry, "image_id", where)
            if images is None or image in images:
                found[image].append(_detection(entry, where))
        self._by_image = {
            image: tuple(sorted(detections, key=lambda detection: -detection.score))
            for image, detections in found.items()
        }

    def of_image(self, scene_id: int, im_id: int) -> tuple[Detection, ...]:
        """Detections of one image, best first."""
        return self._by_image.get((scene_id, im_id), ())

    def masks(
        self, chosen: Collection[Detection], *, scene_id: int, im_id: int, size: tuple[int, int]
    ) -> tuple[Mask, ...]:
        """Masks of detections of an image of `size` (height, width).

        A mask of 8 pixels or fewer, and one that is not there, becomes the detection's box.
        """
        return tuple(self._mask(detection, scene_id, im_id, size) for detection in chosen)

    def _mask(self, detection: Detection, scene_id: int, im_id: int, size: tuple[int, int]) -> Mask:
        if detection.mask is None:
            return _box_mask(detection.box, size)
        code, (h, w) = detection.mask
        if (h, w) != size:
            raise InputError(
                f"{self.path}: scene {scene_id}, image {im_id}: a mask of {w}x{h} px for an image of "
                f"{size[1]}x{size[0]} px: make the detections on these images"
            )
        mask = torch.from_numpy(decode(code, size))
        return cut_out(mask) if mask.sum() > _TOO_FEW_PIXELS else _box_mask(detection.box, size)


def _box_mask(box: tuple[float, float, float, float], size: tuple[int, int]) -> Mask:
    """The part of a box that is inside an image of `size` (height, width), and at least one pixel of it."""
    left, right = _span(box[0], box[2], size[1])
    top, bottom = _span(box[1], box[3], size[0])
    return Mask(torch.tensor([left, top, right, bottom]), None)


def _span(start: float, end: float, size: int) -> tuple[int, int]:
    first = min(max(round(start), 0), size - 1)
    return first, min(max(round(end), first + 1), size)


def _detection(entry: dict, where: str) -> Detection:
    if "bbox" not in entry:
        raise InputError(f"{where} has no bbox: {_REMEDY}")
    left, top, width, height = finite_numbers(entry["bbox"], 4, f"{where}: bbox")
    if min(width, height) < 0:
        raise InputError(
            f"{where}: bbox (x, y, width, height) {entry['bbox']} has a negative side: {_REMEDY}"
        )
    (score,) = finite_numbers(entry.get("score"), 1, f"{where}: score")
    (seconds,) = finite_numbers(entry.get("time", 0.0), 1, f"{where}: time")
    segmentation = entry.get("segmentation")
    return Detection(
        obj_id=_integer(entry, "category_id", where),
        score=score,
        seconds=max(seconds, 0.0),
        box=(left, top, left + width, top + height),
        mask=compress(segmentation, f"{where}: segmentation") if segmentation else None,
    )


def _integer(entry: dict, key: str, where: str) -> int:
    value: Any = entry.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{where}: {key} must be an integer, not {value!r}: {_REMEDY}")
    return value
