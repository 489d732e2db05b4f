"""Masks of photos from boxes and from mask images."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from picopose.datasets.images import read_pixels
from picopose.utils.errors import InputError
from picopose.utils.masks import cut_out
from picopose.utils.records import Mask


def box_mask(box: Sequence[float], height: int, width: int) -> Mask:
    """The mask of a box: left, top, right, bottom in px, the last two exclusive, clipped to the photo.

    Raises an `InputError` if nothing is left.
    """
    given = " ".join(f"{value:g}" for value in box)
    if len(box) != 4 or not all(map(math.isfinite, box)):
        raise InputError(f"box {given}: not four numbers; give left top right bottom in px")
    left, top, right, bottom = (round(float(value)) for value in box)
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if left >= right or top >= bottom:
        raise InputError(f"box {given}: nothing of {width}x{height} px; give left top right bottom in px")
    return Mask(torch.tensor([left, top, right, bottom]), None)


def read_mask(path: Path, height: int, width: int) -> Mask:
    """The mask in an image file, which is not 0 on the object.

    Raises an `InputError` if it is empty or not of the photo's size.
    """
    return mask_of(read_pixels(path, upright=True), height, width, f"mask {path}")  # as its photo is


def mask_of(pixels: np.ndarray, height: int, width: int, where: str) -> Mask:
    """As `read_mask`, of a picture's pixels (H, W) or (H, W, channels); `where` begins the error."""
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    has_alpha = pixels.shape[-1] in (2, 4)
    # The alpha channel of a cut-out object is the mask, unless it is constant.
    by_alpha = has_alpha and pixels[..., -1].min() != pixels[..., -1].max()
    colours = pixels[..., -1:] if by_alpha else pixels[..., : pixels.shape[-1] - has_alpha]
    mask = torch.from_numpy(colours.any(axis=-1))
    if mask.shape != (height, width):
        size = f"{mask.shape[1]}x{mask.shape[0]}"
        raise InputError(f"{where}: {size} px for a photo of {width}x{height} px; give one of the same size")
    if not mask.any():
        raise InputError(f"{where} is empty: it must be other than 0 on the object")
    return cut_out(mask)
