"""Where detectors say that objects are in photos of a user's own: JSON lists as of BOP, COCO and MegaPose."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from utils.errors import InputError
from utils.files import finite_numbers, iterate_json
from utils.masks import cut_out
from utils.regions import box_mask
from utils.rle import compress, decode
from utils.structs import Mask

_REMEDY = "write a list of objects with bbox (x, y, width, height) or bbox_modal (left, top, right, bottom)"


@dataclass(frozen=True)
class Place:
    """A part of a photo that an object may be in."""

    mask: Mask
    name: str | None = None  # of the object; None if it may be any


def read_places(
    path: Path, photo: Path, size: tuple[int, int], names: Collection[str], *, min_score: float = 0.0
) -> list[Place]:
    """The places of one photo of `size` (height, width) that hold one of the named objects.

    Of each entry are read: `bbox` or `bbox_modal`; `segmentation` (run lengths); `score`; the object by
    `label` (its name) or `category_id` (number that ends its name), any object without; the photo by `image`
    (file name) or `image_id` and `scene_id` (numbers in a path such as `000001/rgb/000004.png`), all photos
    without.
    """
    places = []
    for index, entry in enumerate(iterate_json(path, remedy=_REMEDY)):
        where = f"{path}: detection {index}"
        if not _is_of_photo(entry, photo):
            continue
        wanted, name = _object(entry, names, where)
        (score,) = finite_numbers(entry.get("score", 1.0), 1, f"{where}: score")
        if wanted and score >= min_score:
            places.append(Place(_mask(entry, size, where), name))
    return places


def _is_of_photo(entry: dict, photo: Path) -> bool:
    if "image" in entry:
        return Path(str(entry["image"])).name == photo.name
    # BOP's SCENE/rgb/IMAGE.png
    numbers = {"image_id": photo.stem, "scene_id": photo.resolve().parent.parent.name}
    return all(
        key not in entry or not number.isdecimal() or entry[key] == int(number)
        for key, number in numbers.items()
    )


def _object(entry: dict, names: Collection[str], where: str) -> tuple[bool, str | None]:
    """Whether an entry is of one of the objects, and its name if the entry tells."""
    alone = next(iter(names)) if len(names) == 1 else None
    if "label" in entry:
        if entry["label"] not in names and alone is None:
            raise InputError(f"{where} is of {entry['label']!r}: no mesh has this name; pass --mesh for it")
        return True, alone or entry["label"]
    numbers = {int(found[1]): name for name in names if (found := re.search(r"(\d+)$", name))}
    if "category_id" not in entry or not numbers:
        return True, alone
    name: Any = numbers.get(entry["category_id"])
    return name is not None, name


def _mask(entry: dict, size: tuple[int, int], where: str) -> Mask:
    if entry.get("segmentation"):
        code, found = compress(entry["segmentation"], f"{where}: segmentation")
        if found != size:
            raise InputError(
                f"{where}: a mask of {found[1]}x{found[0]} px for a photo of {size[1]}x{size[0]} px: "
                "make the detections on this photo"
            )
        mask = torch.from_numpy(decode(code, size))
        if mask.any():
            return cut_out(mask)
    if "bbox_modal" in entry:
        box = finite_numbers(entry["bbox_modal"], 4, f"{where}: bbox_modal")
    elif "bbox" in entry:
        left, top, width, height = finite_numbers(entry["bbox"], 4, f"{where}: bbox")
        box = [left, top, left + width, top + height]
    else:
        raise InputError(f"{where} has no bbox: {_REMEDY}")
    try:
        return box_mask(box, *size)
    except InputError as error:
        raise InputError(f"{where}: {str(error).removeprefix('--box ')}") from None
