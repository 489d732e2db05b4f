"""What Pillow does not tell of TIFF files: previews in place of RAW photos, bits, and which end is white."""

import numpy as np
from PIL import Image, TiffImagePlugin

from picopose.utils.errors import InputError

DNG_VERSION, SUBFILE_TYPE = 50706, 254  # tags: of Adobe's RAW format; 1 for a preview
UNSIGNED = 1  # numbers, as a SAMPLEFORMAT


def check_tiff(image: Image.Image, where: str) -> None:
    """Refuses a TIFF file whose first picture is a preview, or whose numbers Pillow gives as others."""
    if _tag(image, DNG_VERSION, 0) or _tag(image, SUBFILE_TYPE, 0) & 1:
        raise InputError(f"{where} is a RAW photo, of which only a preview can be read: convert it to JPEG")
    if _tag(image, TiffImagePlugin.SAMPLEFORMAT, UNSIGNED) != UNSIGNED:
        raise InputError(f"{where} has signed or fractional pixels: save it with 8 or 16 bits")


def in_full_range(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """Grey uint16 from 0, black, to 65535, white, of a TIFF file's own; of other pictures as it is."""
    pixels = stretch(pixels, min(_tag(image, TiffImagePlugin.BITSPERSAMPLE, 16), 16))
    white_is_zero = _tag(image, TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 1) == 0
    return 65535 - pixels if white_is_zero else pixels


def stretch(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Pixels uint16 of so many bits, scaled to 16."""
    if bits == 16:
        return pixels
    return (pixels.astype(np.uint32) * 65535 // ((1 << bits) - 1)).astype(np.uint16)


def _tag(image: Image.Image, tag: int, default: int) -> int:
    """A number of a TIFF picture, the largest where there is one for each channel; else the default."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return default
    value = image.tag_v2.get(tag, default)
    return max(value) if isinstance(value, tuple) else value
