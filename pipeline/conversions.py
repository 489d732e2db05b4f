"""Converts what callers pass, such as photos, cameras and masks, to the types that the program uses."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor

from picopose.datasets.cameras.matrices import check_camera, exact_camera_matrix
from picopose.datasets.depth_images import depth_in_metres, read_depth_image
from picopose.datasets.images import photo_of, read_image
from picopose.datasets.masks.regions import box_mask, mask_of, read_mask
from picopose.utils.device import choose_device
from picopose.utils.errors import InputError
from picopose.utils.masks import cut_out
from picopose.utils.pixels import as_rgb, pixels_of
from picopose.utils.records import Frame, Mask

Photo = Path | str | Image.Image | np.ndarray | Tensor
AnyMask = Path | str | Image.Image | Mask | ArrayLike  # an array is (H, W), nonzero on the object
AnyDepth = Path | str | ArrayLike  # an array is (H, W)
CHANNELS = (1, 3, 4)  # grey, RGB, RGBA


def as_device(given: torch.device | str | None) -> torch.device:
    """The device to compute on; None: a GPU if there is one."""
    try:
        return choose_device(None) if given is None else torch.device(given)
    except RuntimeError as error:
        raise InputError(f"device {given}: {str(error).splitlines()[0]}") from None


def as_frame(image: Photo, K: ArrayLike, *, cropped: bool) -> Frame:
    """A photo with its camera, which must suit it; see `as_photo` and `as_camera`.

    cropped: the photo may be cut out of a larger one, so the principal point may be anywhere.
    """
    pixels = torch.from_numpy(as_photo(image).transpose(2, 0, 1).copy())
    height, width = pixels.shape[1:]
    camera = as_camera(K).float()
    check_camera(camera, width, height, "K", cropped=cropped)
    return Frame(pixels, camera)


def as_photo(given: Photo) -> np.ndarray:
    """A photo as RGB (H, W, 3) uint8: grey is repeated, alpha dropped, 16 bits in files scaled to 8.

    Args:
        given: a file; a PIL image of any mode but F; an array (H, W) or (H, W, C), or a tensor on any device,
            also (C, H, W), with C 1, 3 or 4 channels: uint8, or floats in [0, 1].
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
                f"image of shape {pixels.shape}: its first or its last axis may be the channels; give "
                "a NumPy array (H, W, 3)"
            )
        pixels = pixels.transpose(1, 2, 0)
    if pixels.size == 0 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in CHANNELS)):
        raise _unusable(pixels)
    return np.ascontiguousarray(as_rgb(_as_bytes(pixels)))


def _as_bytes(pixels: np.ndarray) -> np.ndarray:
    """Pixels, uint8 or floats in [0, 1], as uint8."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind != "f":
        raise _unusable(pixels)
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= 1):  # false for NaN
        raise InputError(f"image of floats from {low:g} to {high:g}: give them in [0, 1], or give uint8")
    return np.round(255 * pixels).astype(np.uint8)


def _unusable(pixels: np.ndarray) -> InputError:
    return InputError(
        f"image of {pixels.dtype} and shape {pixels.shape}: give (H, W, 3) uint8, RGB, or floats in [0, 1]"
    )


def as_depth(given: AnyDepth, height: int, width: int, unit: str | float) -> Tensor:
    """The depth (H, W) float32 in m of a photo of this size, 0 where it is not known.

    See `datasets.depth_images` for the files and units.
    """
    if isinstance(given, Path | str):
        return torch.from_numpy(read_depth_image(Path(given), height, width, unit))
    values = as_array(given)
    if values.shape != (height, width):
        raise InputError(
            f"depth of shape {values.shape} for a photo of {height}x{width}: give one of its shape"
        )
    return torch.from_numpy(depth_in_metres(values, unit, "depth"))


def as_camera(K: ArrayLike) -> Tensor:
    """A camera matrix (3, 3) float64 of an array, tensor or list (3, 3), or of fx, fy, cx, cy."""
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


def as_masks(
    boxes: ArrayLike | None, masks: AnyMask | Sequence[AnyMask] | None, height: int, width: int
) -> list[Mask] | None:
    """One or several boxes or masks in a photo of this size; None if there are neither."""
    if boxes is not None and masks is not None:
        raise InputError("boxes and masks given: pass one of them")
    if boxes is not None:
        return [box_mask(box, height, width) for box in _box_rows(boxes)]
    if masks is None:
        return None
    is_array = isinstance(masks, np.ndarray | Tensor)
    if masks.ndim == 2 if is_array else isinstance(masks, Path | str | Image.Image | Mask):
        masks = [masks]
    return [_as_mask(mask, height, width, f"masks[{index}]") for index, mask in enumerate(masks)]


def _box_rows(boxes: ArrayLike) -> list[list[float]]:
    """The numbers of each box, where one box may stand without a list."""
    try:
        if len(boxes) == 4 and all(np.ndim(value) == 0 for value in boxes):
            boxes = [boxes]
        return [[float(value) for value in box] for box in boxes]
    except (TypeError, ValueError):
        raise InputError("boxes: not numbers; give (left, top, right, bottom) in px for each") from None


def _as_mask(given: AnyMask, height: int, width: int, where: str) -> Mask:
    if isinstance(given, Mask):
        left, top, right, bottom = given.box.tolist()
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise InputError(f"{where} is empty or lies outside a photo of {height}x{width}: give another")
        return given
    if isinstance(given, Path | str):
        return read_mask(Path(given), height, width)
    if isinstance(given, Image.Image):
        return mask_of(pixels_of(given, where), height, width, where)
    pixels = as_array(given)
    if pixels.shape != (height, width) or not pixels.any():
        raise InputError(
            f"{where} of shape {pixels.shape}, {np.count_nonzero(pixels)} px set, for a photo of "
            f"{height}x{width}: give one of the photo's shape that is true on the object"
        )
    if pixels.dtype.kind == "f" and ((pixels != 0) & (pixels != pixels.max())).any():
        raise InputError(f"{where} has more than two values: apply a threshold")
    return cut_out(torch.from_numpy(pixels != 0))


def as_array(given: ArrayLike) -> np.ndarray:
    """A NumPy array of an array, a list or a tensor on any device."""
    if not isinstance(given, Tensor):
        return np.asarray(given)
    given = given.detach().cpu()
    return (given.float() if given.dtype == torch.bfloat16 else given).numpy()  # NumPy has no bfloat16
