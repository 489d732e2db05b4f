"""Reads the files of detectors and labelling tools, entry by entry.

There are two formats: a JSON list of detections (BOP, CNOS, SAM-6D, COCO results, MegaPose), and COCO
annotations, an object with `annotations` and tables of its `images` and `categories`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pycocotools.mask import toBbox
from torch import Tensor

from picopose.datasets.masks.polygons import Polygons, extent, fill, read_polygons
from picopose.datasets.masks.rle import compress, decode, mask_size
from picopose.datasets.tables import by_id
from picopose.utils.errors import InputError
from picopose.utils.reading import finite_number, finite_numbers, integer, iterate_json, read_json

REMEDY = "write a list of objects with bbox (x, y, width, height), or a file of COCO annotations"
_PLACES = ("bbox", "bbox_modal", "segmentation")
_TABLES = ("annotations", "images", "categories")


@dataclass(frozen=True, slots=True)
class ImageName:
    """The image that an entry belongs to; None for what the entry leaves out."""

    scene_id: int | None = None
    im_id: int | None = None
    file: str | None = None  # with or without folders and suffix

    def __str__(self) -> str:
        if self.file is not None:
            return self.file
        return f"image {self.im_id}" + ("" if self.scene_id is None else f" of scene {self.scene_id}")


@dataclass(frozen=True, slots=True)
class Region:
    """The box of an entry and perhaps its mask, which is decoded for a photo of known size."""

    where: str  # start of messages
    box: tuple[float, float, float, float]  # px: left, top, right, bottom, the last two exclusive
    runs: tuple[bytes, tuple[int, int]] | None  # of `datasets.masks.rle`: code, (height, width)
    polygons: Polygons | None
    size: tuple[int, int] | None  # height, width of the image, where the file says it

    def mask(self, size: tuple[int, int]) -> Tensor | None:
        """The mask (height, width) bool for a photo of this size; None if there is only a box.

        Raises an `InputError` if it was made on an image of another size.
        """
        made_on = self.runs[1] if self.runs else self.size
        if made_on not in (None, size):
            kind = "a mask" if self.runs else "an entry"
            raise InputError(
                f"{self.where}: {kind} of {made_on[1]}x{made_on[0]} px for a photo of "
                f"{size[1]}x{size[0]} px: make the detections on this photo"
            )
        if self.runs:
            return torch.from_numpy(decode(*self.runs))
        return torch.from_numpy(fill(self.polygons, size, self.where)) if self.polygons else None


@dataclass(frozen=True, slots=True)
class Entry:
    """One detection; most of its fields are parsed only when asked for."""

    where: str  # start of messages
    image: ImageName
    label: str | None  # name of the object
    content: dict[str, Any]
    size: tuple[int, int] | None  # height, width of the image, where the file says it

    @property
    def obj_id(self) -> int | None:
        """Number of the object."""
        number = self.content.get("category_id")
        return None if number is None else integer(number, f"{self.where}: category_id")

    @property
    def score(self) -> float | None:
        """None if there is none, as in annotations."""
        return self._number("score") if "score" in self.content else None

    @property
    def seconds(self) -> float:
        """Time of the detector for the whole image; 0 if unknown."""
        return max(self._number("time"), 0.0) if "time" in self.content else 0.0

    def _number(self, key: str) -> float:
        return finite_number(self.content[key], f"{self.where}: {key}")

    def region(self) -> Region:
        runs, polygons = self._segmentation()
        return Region(self.where, self._box(runs, polygons), runs, polygons, self.size)

    def lacking(self, keys: Sequence[str]) -> InputError:
        """The error for an entry without some keys."""
        there = ", ".join(sorted(self.content)[:8]) or "nothing"
        return InputError(f"{self.where} has no {', '.join(keys)} (it has {there}): {REMEDY}")

    def _segmentation(self) -> tuple[tuple[bytes, tuple[int, int]] | None, Polygons | None]:
        segmentation, where = self.content.get("segmentation"), f"{self.where}: segmentation"
        if not segmentation:
            return None, None
        if isinstance(segmentation, list):
            return None, read_polygons(segmentation, where)
        return compress(segmentation, where), None

    def _box(
        self, runs: tuple[bytes, tuple[int, int]] | None, polygons: Polygons | None
    ) -> tuple[float, ...]:
        if "bbox_modal" in self.content:
            return tuple(finite_numbers(self.content["bbox_modal"], 4, f"{self.where}: bbox_modal"))
        if "bbox" in self.content:
            left, top, width, height = finite_numbers(self.content["bbox"], 4, f"{self.where}: bbox")
        elif runs:
            left, top, width, height = toBbox({"counts": runs[0], "size": runs[1]}).tolist()
        elif polygons:
            return extent(polygons)
        else:
            raise self.lacking(_PLACES)
        if min(width, height) < 0:
            given = self.content["bbox"]
            raise InputError(
                f"{self.where}: bbox (x, y, width, height) {given} has a negative side: {REMEDY}"
            )
        return left, top, left + width, top + height


def read_entries(path: Path) -> Iterator[Entry]:
    """The detections of a file in order; a list is read piece by piece, so it may be long.

    Raises an `InputError` that names the file and the entry for malformed data.
    """
    if _is_object(path):
        yield from _annotations(path)
        return
    for index, content in enumerate(iterate_json(path, remedy=REMEDY)):
        where, label = f"{path}: detection {index}", content.get("label")
        if label is not None and not isinstance(label, str):
            raise InputError(f"{where}: label must be the name of an object, not {label!r}: {REMEDY}")
        yield Entry(where, _image_name(content, where), label, content, None)


def _is_object(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return file.read(1 << 16).lstrip().startswith("{")
    except OSError:
        return False  # reported by the reader of lists


def _annotations(path: Path) -> Iterator[Entry]:
    """The entries of a COCO annotation file, joined with their images and categories."""
    content = read_json(path, remedy=REMEDY)
    if not all(isinstance(content.get(name, []), list) for name in _TABLES) or "annotations" not in content:
        raise InputError(f"{path} is not a JSON list and has no annotations as of COCO: {REMEDY}")
    images, categories = (by_id(content.get(name, []), f"{path}: {name}") for name in _TABLES[1:])
    for index, entry in enumerate(content["annotations"]):
        where = f"{path}: annotation {index}"
        if not isinstance(entry, dict):
            raise InputError(f"{where} is no object: {REMEDY}")
        category = _joined(entry, "category_id", categories, where)
        name, image = category.get("name"), _joined(entry, "image_id", images, where)
        has_size = {"height", "width"} <= image.keys()
        size = mask_size([image["height"], image["width"]], where) if has_size else None
        label = name if isinstance(name, str) else None
        yield Entry(where, _image_name(entry | image, where), label, entry, size)


def _joined(entry: dict, key: str, table: dict[int, dict], where: str) -> dict:
    """The row of a table to which a key of an entry refers; empty if there is no table."""
    if not table:
        return {}
    number = integer(entry.get(key), f"{where}: {key}")
    if number not in table:
        raise InputError(f"{where}: {key} {number} is not in the file's table: {REMEDY}")
    return table[number]


def _image_name(entry: dict, where: str) -> ImageName:
    file, number = entry.get("image", entry.get("file_name")), entry.get("image_id")
    if file is None and isinstance(number, str) and not number.strip().isdecimal():
        file, number = number, None  # some programs put names there
    if file is not None and not isinstance(file, str):
        raise InputError(f"{where}: image must be the name of a file, not {file!r}: {REMEDY}")
    scene = entry.get("scene_id")
    return ImageName(
        scene_id=None if scene is None else integer(scene, f"{where}: scene_id"),
        im_id=None if number is None or file is not None else integer(number, f"{where}: image_id"),
        file=file,
    )
