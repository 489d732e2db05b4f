"""The masks of annotated objects that lie beside the images of a BOP data set."""

import numpy as np

from picopose.datasets.bop.scenes import TRUTH_REMEDY, Scene
from picopose.datasets.images import read_pixels
from picopose.utils.errors import InputError


def read_mask(scene: Scene, im_id: int, index: int, size: tuple[int, int], *, visible: bool) -> np.ndarray:
    """(H, W) bool of the object of this index in an image of `size` (height, width).

    visible: what is seen of it alone. Raises an `InputError` if the file is missing, no image or of another
    size.
    """
    path = scene.mask_dir(visible=visible) / f"{im_id:06d}_{index:06d}.png"
    pixels = read_pixels(path)
    if pixels.shape[:2] != size:
        raise InputError(f"{path} is not of its photo's size, {size[1]}x{size[0]} px: {TRUTH_REMEDY}")
    return pixels.reshape(*size, -1).any(axis=2)
