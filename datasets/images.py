"""Reads photos, masks and depth images, either as stored (data sets) or upright (users' photos)."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from picopose.utils.errors import InputError
from picopose.utils.pixels import as_rgb, check_size, damaged, pixels_of, stretch, too_large

LOG = logging.getLogger(__name__)
PHOTOS = {".jpg", ".jpeg", ".png"}
RAW_SUFFIXES = {".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw"}
SEVERAL_OF_ONE = ("MPO", "PSD")  # formats that store copies or layers of a photo after it
# Bytes from the fifth on, of formats that Pillow does not read.
KINDS = {
    b"ftyphe": "HEIC",
    b"ftypmif1": "HEIC",
    b"ftypmsf1": "HEIC",
    b"ftypav": "AVIF",
    b"ftypcrx": "RAW",
    b"JXL ": "JPEG XL",
}
USED_BITS = (8, 10, 12, 14)  # of cameras that store their values in 16 bits unscaled
DEPTH_MODES = ("L", "I", "F", "I;16", "I;16L", "I;16B")


def read_image(path: Path | str, *, upright: bool = False) -> Tensor:
    """RGB (3, H, W) uint8 of an image file; grey is repeated, 16 bits are scaled to 8, alpha is dropped.

    Args:
        upright: rotate the photo as its EXIF data say, with a log message. Data sets use the stored pixels.
    """
    rgb = as_rgb(_bright(read_pixels(path, upright=upright), f"image {path}"))
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))


def photo_of(image: Image.Image, where: str = "image") -> np.ndarray:
    """RGB (H, W, 3) uint8 of a PIL image, the same as `read_image(..., upright=True)` of its file."""
    return as_rgb(_bright(_turned_pixels(image, where, upright=True), where))


def read_pixels(path: Path | str, *, upright: bool = False) -> np.ndarray:
    """An image file's own pixels, (H, W) or (H, W, channels), uint8 or uint16.

    Raises an `InputError` if the file is missing, damaged or no image.
    """
    with _opened(Path(path)) as image:
        return _turned_pixels(image, f"image {path}", upright=upright)


def image_size(path: Path | str) -> tuple[int, int]:
    """Width and height in px of an image file, as stored."""
    with _opened(Path(path)) as image:
        return image.size


def read_depth(path: Path | str) -> np.ndarray:
    """The values (H, W) float32 of a depth image, in counts of the file: 8, 16 or 32 bits, or floats.

    Raises an `InputError` as `read_pixels` does, and for values that are no distances.
    """
    counts, mode = read_stored(path)
    if mode not in DEPTH_MODES:
        raise InputError(f"image {path} has pixels of mode {mode}, so is no depth image: download it again")
    counts = counts.astype(np.float32)
    if not (np.isfinite(counts) & (counts >= 0)).all():
        raise InputError(f"image {path} has depths that are negative, NaN or infinite: download it again")
    return counts


def read_stored(path: Path | str) -> tuple[np.ndarray, str]:
    """An image file's values as stored, (H, W) or (H, W, channels) of any type, and Pillow's mode of them.

    Raises an `InputError` as `read_pixels` does.
    """
    where = f"image {path}"
    with _opened(Path(path)) as image:
        check_size(image, where)
        try:
            return np.array(image), image.mode
        except Exception as error:  # as in `pixels_of`
            raise damaged(where, error) from None


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    where = f"image {path}"
    if path.suffix.lower() in RAW_SUFFIXES:
        raise InputError(f"{where} is a RAW photo: convert it to JPEG")
    try:
        image = Image.open(path)
    except FileNotFoundError:
        raise InputError(f"{where} not found: correct the path or download it again") from None
    except Image.DecompressionBombError:
        raise too_large(where) from None
    except UnidentifiedImageError as error:
        raise _unknown(path, error) from None
    except Exception as error:  # as in `pixels_of`
        raise damaged(where, error) from None
    with image:
        yield image


def kind_of(path: Path) -> str | None:
    """The name of a format that Pillow does not read, such as HEIC; None for others."""
    with path.open("rb") as file:
        start = file.read(12)
    return next((kind for mark, kind in KINDS.items() if start[4:].startswith(mark)), None)


def _unknown(path: Path, error: Exception) -> InputError:
    """Why Pillow cannot tell what a file is."""
    if kind := kind_of(path):
        return InputError(f"image {path} is a {kind} photo: convert it to JPEG")
    if not path.stat().st_size:
        return InputError(f"image {path} is empty: download or create it again")
    return damaged(f"image {path}", error)


def _turned_pixels(image: Image.Image, where: str, *, upright: bool) -> np.ndarray:
    """The pixels from `pixels_of`, rotated as the EXIF data say if `upright`."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        count = 1 if image.format in SEVERAL_OF_ONE else getattr(image, "n_frames", 1)
    except Exception as error:  # as in `pixels_of`
        raise damaged(where, error) from None
    if count > 1:
        LOG.warning("%s holds %d pictures: the first is taken", where, count)
    pixels = pixels_of(image, where)
    turned_by_pillow = isinstance(image, TiffImagePlugin.TiffImageFile)
    if turned_by_pillow and not upright:
        return turned(pixels, {6: 8, 8: 6}.get(orientation, orientation))
    if upright and not turned_by_pillow:
        pixels = turned(pixels, orientation)
    if upright and orientation in range(2, 9):
        height, width = pixels.shape[:2]
        LOG.warning(
            "%s is turned upright (%dx%d), as its EXIF data say: K, boxes and masks must be of that",
            *(where, width, height),
        )
    return pixels


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels (H, W, ...) rotated upright by the EXIF orientation, 1 to 8; others are ignored."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _bright(pixels: np.ndarray, where: str) -> np.ndarray:
    """A photo's pixels; 16-bit ones of a camera with fewer bits are scaled up, as they would look black."""
    top = int(pixels.max()) if pixels.dtype == np.uint16 else 0
    bits = next((bits for bits in USED_BITS if 0 < top < 1 << bits), 16)
    if bits == 16:
        return pixels
    LOG.warning("%s has 16 bits, but no value above %d: read as %d bits", where, top, bits)
    return stretch(pixels, bits)


def find_photos(folder: Path | str, option: str) -> list[Path]:
    """The photos in a folder and its subfolders, sorted; an `InputError` that names the option if none."""
    found = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in PHOTOS)
    if not found:
        raise InputError(f"{option}{folder}: no {' or '.join(sorted(PHOTOS))} in it; pass another")
    return found
