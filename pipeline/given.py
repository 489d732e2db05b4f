"""Photos, cameras and places in the forms in which Python programs have them, checked and made alike."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor

from picopose.datasets.cameras.matrices import exact_camera_matrix
from picopose.datasets.images import photo_of, read_image
from picopose.datasets.masks.regions import box_mask, mask_of, read_mask
from picopose.utils.errors import InputError
from picopose.utils.masks import cut_out
from picopose.utils.pixels import as_rgb, pixels_of
from picopose.utils.records import Mask

Photo = Path | str | Image.Image | np.ndarray | Tensor
Masks = Path | str | Image.Image | Mask | ArrayLike  # one of these, or several in a sequence
CHANNELS = (1, 3, 4)  # grey, RGB, RGB and alpha


def read_photo(given: Photo) -> np.ndarray:
    """RGB (H, W, 3) uint8 of a photo: grey is repeated, alpha dropped, 16 bits of files scaled to 8.

    Args:
        given: a file; a PIL image of any mode but F; an array (H, W) or (H, W, C) or a tensor, which may
            be (C, H, W) too, on any device: uint8, or floats in [0, 1]; C is 1, 3 or 4.
    """
    if isinstance(given, Path | str):
        return read_image(given, upright=True).permute(1, 2, 0).numpy()
    if isinstance(given, Image.Image):
        return photo_of(given)
    if not isinstance(given, np.ndarray | Tensor):
        raise InputError(
            f"image of type {type(given).__name__}: give a file, a PIL image, an array or a tensor"
        )
    pixels = as_array(given)
    if isinstance(given, Tensor) and pixels.ndim == 3 and pixels.shape[0] in CHANNELS:
        if pixels.shape[2] in CHANNELS:
            raise InputError(
                f"image of shape {pixels.shape}, whose colours may be the first or the last axis: give a "
                "NumPy array (H, W, 3)"
            )
        pixels = pixels.transpose(1, 2, 0)
    if pixels.size == 0 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in CHANNELS)):
        raise _unusable(pixels)
    return np.ascontiguousarray(as_rgb(_as_bytes(pixels)))


def _as_bytes(pixels: np.ndarray) -> np.ndarray:
    """uint8 of an image's numbers, which may be fractions of full brightness."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind != "f":
        raise _unusable(pixels)
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= 1):  # nor where one is NaN
        raise InputError(f"image of floats from {low:g} to {high:g}: give them in [0, 1], or give uint8")
    return np.round(255 * pixels).astype(np.uint8)


def _unusable(pixels: np.ndarray) -> InputError:
    return InputError(
        f"image of {pixels.dtype} and shape {pixels.shape}: give (H, W, 3) uint8, RGB, or floats in [0, 1]"
    )


def read_camera(K: ArrayLike) -> Tensor:
    """K (3, 3) float64 of an array, a tensor or a list: (3, 3), or fx, fy, cx, cy."""
    try:
        numbers = np.array(as_array(K), dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"K of type {type(K).__name__} holds no numbers: give (3, 3)") from None
    if numbers.shape == (4,):
        fx, fy, cx, cy = numbers
        numbers = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    if numbers.shape not in ((3, 3), (9,)):
        raise InputError(f"K of shape {numbers.shape}: give (3, 3), or fx, fy, cx, cy")
    return exact_camera_matrix(numbers.flatten().tolist(), "K")


def read_places(boxes: ArrayLike | None, masks: Masks | None, height: int, width: int) -> list[Mask] | None:
    """The places to look at in a photo of this size, of boxes or masks, one or several; None of neither."""
    if boxes is not None and masks is not None:
        raise InputError("boxes and masks given: pass one of them")
    if boxes is not None:
        return [box_mask(box, height, width) for box in _rows(boxes)]
    if masks is None:
        return None
    is_array = isinstance(masks, np.ndarray | Tensor)
    if masks.ndim == 2 if is_array else isinstance(masks, Path | str | Image.Image | Mask):
        masks = [masks]
    return [_read_mask(mask, height, width) for mask in masks]


def _rows(boxes: ArrayLike) -> list[list[float]]:
    """The numbers of each box, of one box or of several."""
    try:
        if len(boxes) == 4 and all(np.ndim(value) == 0 for value in boxes):
            boxes = [boxes]
        return [[float(value) for value in box] for box in boxes]
    except (TypeError, ValueError):
        raise InputError("boxes hold no numbers: give (left, top, right, bottom) in px for each") from None


def _read_mask(given: Masks, height: int, width: int) -> Mask:
    if isinstance(given, Mask):
        return given
    if isinstance(given, Path | str):
        return read_mask(Path(given), height, width)
    if isinstance(given, Image.Image):
        return mask_of(pixels_of(given, "mask"), height, width, "mask")
    pixels = as_array(given)
    if pixels.shape != (height, width) or not pixels.any():
        raise InputError(
            f"a mask of shape {pixels.shape}, {np.count_nonzero(pixels)} px set, for a photo of "
            f"{height}x{width}: give one of the photo's shape that is true on the object"
        )
    if ((pixels != 0) & (pixels != pixels.max())).any() and pixels.dtype.kind == "f":
        raise InputError("a mask of more than two values: compare them with a threshold")
    return cut_out(torch.from_numpy(pixels != 0))


def as_array(given: ArrayLike) -> np.ndarray:
    """An array of what may be a tensor on any device."""
    if not isinstance(given, Tensor):
        return np.asarray(given)
    given = given.detach().cpu()
    return (given.float() if given.dtype == torch.bfloat16 else given).numpy()  # NumPy has no bfloat16
