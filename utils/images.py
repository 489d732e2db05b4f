"""Reads photos of any kind that the data sets hold: PNG, JPEG and grey TIFF of 8 or 16 bits."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from utils.errors import InputError

PHOTOS = {".jpg", ".jpeg", ".png"}


def read_image(path: Path | str) -> Tensor:
    """RGB (3, H, W) uint8 of an image file; grey is repeated, 16 bits are scaled to 8, alpha is dropped."""
    pixels = torch.from_numpy(_to_rgb(read_pixels(path), Path(path)))
    return pixels.permute(2, 0, 1).contiguous()


def read_pixels(path: Path | str) -> np.ndarray:
    """An image file's own pixels, (H, W) or (H, W, channels), uint8 or uint16.

    Raises an `InputError` where the file is missing, damaged or no image.
    """
    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)  # as viewers show it, and as boxes are read off
            if image.mode in ("1", "P", "PA", "CMYK", "YCbCr"):
                image = image.convert("RGB")
            pixels = np.array(image)
    except FileNotFoundError:
        raise InputError(f"image {path} not found: correct the path or download it again") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"image {path} cannot be read ({error}): download or create it again") from None
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(f"image {path} has pixels of type {pixels.dtype}: save it with 8 or 16 bits")
    return pixels


def _to_rgb(pixels: np.ndarray, path: Path) -> np.ndarray:
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    channels = pixels.shape[2]
    if channels in (1, 2):  # grey, grey with alpha
        return pixels[..., :1].repeat(3, axis=2)
    if channels in (3, 4):
        return pixels[..., :3]
    raise InputError(f"image {path} has {channels} channels: save it as RGB or grey")


def find_photos(folder: Path | str, option: str) -> list[Path]:
    """The photos of a folder and of those below it, sorted; an `InputError` names the option if none is."""
    found = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in PHOTOS)
    if not found:
        raise InputError(f"{option}{folder}: no {' or '.join(sorted(PHOTOS))} in it; pass another")
    return found
