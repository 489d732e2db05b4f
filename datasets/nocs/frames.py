"""Reads the files of one frame of NOCS's layout."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from picopose.datasets.images import read_pixels
from picopose.datasets.nocs.layout import CLASSES, FrameFiles
from picopose.utils.errors import InputError

BACKGROUND = 255  # in masks

_NO_DEPTH = 32001  # in depth images of three channels
_REMEDY = "download it again"
_NAME = re.compile(r"[\w-][\w.-]*")


@dataclass(frozen=True)
class ListedObject:
    """A line of a frame's meta file."""

    instance: int  # its value in the mask
    class_id: int  # 1 to 6, or 0 for other things
    model: str
    synset: str | None = None  # of ShapeNet; None for scanned objects


@dataclass(frozen=True)
class NocsFrame:
    """An image with what it shows."""

    rgb: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) int32, mm; 0 where it is not known
    mask: np.ndarray  # (H, W) uint8, the object's instance number or `BACKGROUND`
    coordinates: np.ndarray  # (H, W, 3) uint8, see `canonical_coordinates`
    objects: tuple[ListedObject, ...]


def read_frame(files: FrameFiles) -> NocsFrame:
    """All files of a frame; an `InputError` for one that is missing, damaged or of another size."""
    rgb, coordinates = (read_rgb(files.path(part)) for part in ("color.png", "coord.png"))
    depth, mask = read_depth(files.path("depth.png")), read_mask(files.path("mask.png"))
    for part, image in (("coord.png", coordinates), ("depth.png", depth), ("mask.png", mask)):
        if image.shape[:2] != rgb.shape[:2]:
            sizes = [f"{shape[1]}x{shape[0]} px" for shape in (image.shape, rgb.shape)]
            raise InputError(f"{files.path(part)} has {sizes[0]}, and its photo {sizes[1]}: {_REMEDY}")
    return NocsFrame(rgb, depth, mask, coordinates, read_meta(files.path("meta.txt")))


def read_rgb(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 of a photo or a map of coordinates, without alpha."""
    pixels = read_pixels(path)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise InputError(f"{path} is no image of three 8-bit channels: {_REMEDY}")
    return pixels[..., :3]


def read_depth(path: Path) -> np.ndarray:
    """Depth (H, W) int32 in mm; 0 where it is not known.

    It is stored in 16 bits, or in three channels as 256 G + R, in which 32001 stands for nothing. Raises an
    `InputError` for other images.
    """
    pixels = read_pixels(path)
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if (channels, pixels.dtype) not in ((1, np.uint16), (3, np.uint8)):
        raise InputError(f"{path} is no depth image of 16 bits or of three 8-bit channels: {_REMEDY}")
    return pixels.astype(np.int32) if channels == 1 else depth_of_channels(pixels)


def depth_of_channels(pixels: np.ndarray) -> np.ndarray:
    """Depth (H, W) int32 in mm of an image (H, W, 3) uint8, see `read_depth`."""
    values = pixels.astype(np.int32)  # before the product, which would overflow 8 bits
    depth = values[..., 0] + 256 * values[..., 1]
    return np.where(depth == _NO_DEPTH, 0, depth)


def read_mask(path: Path) -> np.ndarray:
    """Instance numbers (H, W) uint8, the red channel; an `InputError` if nothing is background."""
    pixels = read_pixels(path)
    mask = pixels if pixels.ndim == 2 else pixels[..., 0]
    if mask.dtype != np.uint8 or not (mask == BACKGROUND).any():
        raise InputError(f"{path} is no mask: none of its pixels is {BACKGROUND}, background; {_REMEDY}")
    return mask


def canonical_coordinates(stored: np.ndarray) -> np.ndarray:
    """Canonical coordinates (..., 3) float32, in [-0.5, 0.5], of stored ones (..., 3) uint8.

    Stored are x, y and 1 - z of coordinates in [0, 1]. Rounded to float32 at each step, as the original's
    are: it changes the scale of a fit by 4e-8.
    """
    values = stored.astype(np.float32) / np.float32(255)
    values[..., 2] = 1 - values[..., 2]
    return np.clip(values, 0, 1) - np.float32(0.5)


def read_meta(path: Path) -> tuple[ListedObject, ...]:
    """The objects that a meta file lists: `instance class [synset] model` a line.

    Raises an `InputError` for other lines and for an instance that is listed twice.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {_REMEDY}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text file: {_REMEDY}") from None
    objects = [_listed(line.split(), f"{path}: {line!r}") for line in lines if line.strip()]
    if len({known.instance for known in objects}) < len(objects):
        raise InputError(f"{path} lists an instance twice: {_REMEDY}")
    return tuple(objects)


def _listed(words: list[str], where: str) -> ListedObject:
    if len(words) not in (3, 4) or not all(re.fullmatch(r"\d{1,3}", word) for word in words[:2]):
        raise InputError(f"{where} is not of the form 'instance class [synset] model': {_REMEDY}")
    if not all(_NAME.fullmatch(name) for name in words[2:]):  # which become parts of a path
        raise InputError(f"{where} names no model: {_REMEDY}")
    instance, class_id = int(words[0]), int(words[1])
    if instance >= BACKGROUND or class_id > len(CLASSES):
        raise InputError(
            f"{where} has an instance above {BACKGROUND - 1} or a class above {len(CLASSES)}: {_REMEDY}"
        )
    return ListedObject(instance, class_id, words[-1], words[2] if len(words) == 4 else None)
