"""Converts Pillow images of any mode to grey or RGB arrays of 8 or 16 bits."""

import warnings

import numpy as np
from PIL import Image, ImageCms, TiffImagePlugin

from picopose.utils.errors import InputError

MAX_PIXELS = 150_000_000  # of a picture; below Pillow's own bound
CONVERTED = ("CMYK", "HSV", "P", "PA", "RGBX", "YCbCr")  # modes that Pillow converts to RGB
DNG_VERSION, SUBFILE_TYPE = 50706, 254  # tags: of Adobe's RAW format; 1 for a preview
UNSIGNED = 1  # numbers, as a SAMPLEFORMAT
RESAVE = "save it as grey or RGB with 8 or 16 bits"

# Pillow warns from half of its limit on; `MAX_PIXELS` raises an error instead.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def rgb_of(image: Image.Image, where: str) -> np.ndarray:
    """RGB (H, W, 3) uint8 of a picture of any mode: grey is repeated, 16 bits are scaled to 8, alpha dropped.

    Transparent pixels show their stored colours.

    Raises an `InputError` that begins with `where` for a damaged picture or an unknown mode.
    """
    return as_rgb(pixels_of(image, where))


def pixels_of(image: Image.Image, where: str) -> np.ndarray:
    """Pixels uint8 or uint16: grey (H, W), grey and alpha (H, W, 2), RGB (H, W, 3) or RGBA (H, W, 4).

    Raises an `InputError` as `rgb_of` does.
    """
    check_size(image, where)
    try:
        _check_tiff(image, where)
        has_16_bits = _has_16_bits(image)  # known only before decoding
        image.load()
        pixels = np.array(_in_known_mode(image, where))
    except InputError:
        raise
    except Exception as error:  # Pillow's readers raise all kinds of errors on damaged data
        raise damaged(where, error) from None
    if has_16_bits and pixels.dtype == np.uint8 and pixels.max() < 64:
        raise InputError(
            f"{where} has 16-bit colours of which only the darkest quarter is used, as of a camera of fewer "
            "bits: stretch them to 16 bits"
        )
    if pixels.dtype == bool:
        return pixels * np.uint8(255)
    return pixels if pixels.dtype == np.uint8 else _in_full_range(_as_16_bits(pixels, where), image)


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    """RGB (H, W, 3) uint8 of pixels as `pixels_of` gives them."""
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return pixels[..., :1].repeat(3, axis=2) if pixels.shape[2] < 3 else pixels[..., :3]


def check_size(image: Image.Image, where: str) -> None:
    """Refuses too large a picture before its pixels are read."""
    if image.width * image.height > MAX_PIXELS:
        raise too_large(where)


def too_large(where: str) -> InputError:
    return InputError(f"{where} has more than {MAX_PIXELS / 1e6:.0f} million pixels: shrink it")


def damaged(where: str, error: Exception) -> InputError:
    return InputError(f"{where} cannot be read ({error}): download or create it again")


def _has_16_bits(image: Image.Image) -> bool:
    """Whether a picture's file has 16 bits; it must not be decoded yet, as Pillow keeps 8 bits of colours."""
    for tile in getattr(image, "tile", ()):
        of_ppm = image.format == "PPM" and isinstance(tile.args, tuple) and tile.args[1] > 255
        if ";16" in str(tile.args) or of_ppm:
            return True
    return False


def _in_known_mode(image: Image.Image, where: str) -> Image.Image:
    """The picture in a mode whose numbers are grey or RGB."""
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if image.mode in ("La", "RGBa"):
        return image.convert(image.mode[:-1] + "A")
    if image.mode in CONVERTED:
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode not in ("1", "I", "L", "LA", "RGB", "RGBA") and not image.mode.startswith("I;16"):
        raise InputError(f"{where} has pixels of mode {image.mode}: {RESAVE}")
    return image


def _as_16_bits(pixels: np.ndarray, where: str) -> np.ndarray:
    """uint16 of the integers of Pillow's mode I, as which it reads 16-bit PGM files."""
    if pixels.min() < 0 or pixels.max() > 65535:
        raise InputError(f"{where} has pixels from {pixels.min()} to {pixels.max()}: {RESAVE}")
    return pixels.astype(np.uint16)


def _check_tiff(image: Image.Image, where: str) -> None:
    """Refuses a TIFF file whose first picture is a preview, or whose numbers Pillow misreads."""
    if _tag(image, DNG_VERSION, 0) or _tag(image, SUBFILE_TYPE, 0) & 1:
        raise InputError(f"{where} is a RAW photo, of which only a preview can be read: convert it to JPEG")
    if _tag(image, TiffImagePlugin.SAMPLEFORMAT, UNSIGNED) != UNSIGNED:
        raise InputError(f"{where} has signed or fractional pixels: save it with 8 or 16 bits")


def _in_full_range(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """A TIFF file's grey values scaled to 0 (black) to 65535 (white); other pictures unchanged."""
    pixels = stretch(pixels, min(_tag(image, TiffImagePlugin.BITSPERSAMPLE, 16), 16))
    white_is_zero = _tag(image, TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 1) == 0
    return 65535 - pixels if white_is_zero else pixels


def stretch(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Pixels uint16 that use `bits` bits, scaled to 16."""
    if bits == 16:
        return pixels
    return (pixels.astype(np.uint32) * 65535 // ((1 << bits) - 1)).astype(np.uint16)


def _tag(image: Image.Image, tag: int, default: int) -> int:
    """The value of a TIFF tag, the largest of its channels; the default if it is missing."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return default
    value = image.tag_v2.get(tag, default)
    return max(value) if isinstance(value, tuple) else value
