"""COCO polygons, as labelling tools write masks, rasterised by COCO's own rule."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.mask import decode, frPyObjects, merge

from picopose.utils.errors import InputError
from picopose.utils.reading import finite_numbers

Polygons = tuple[tuple[float, ...], ...]  # each x, y, x, y, ... in px; a pixel covers x to x + 1
_LEAST = 6  # numbers: three points


def read_polygons(segmentation: list, where: str) -> Polygons:
    """The polygons of a `segmentation`: a list of lists, or one list for a single polygon.

    Raises an `InputError` that begins with `where`.
    """
    lists: list[Any] = segmentation if isinstance(segmentation[0], list) else [segmentation]
    for numbers in lists:
        if not isinstance(numbers, list) or len(numbers) < _LEAST or len(numbers) % 2:
            raise InputError(f"{where}: a polygon needs x, y of three points and more: make the file again")
    return tuple(tuple(finite_numbers(numbers, len(numbers), where)) for numbers in lists)


def fill(polygons: Polygons, size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """The mask (height, width) of the union of the polygons.

    Raises an `InputError` for points farther outside than the image is large.
    """
    height, width = size
    for polygon in polygons:
        x, y = np.array(polygon[::2]), np.array(polygon[1::2])
        if min(x.min() + width, y.min() + height) < 0 or x.max() > 2 * width or y.max() > 2 * height:
            raise InputError(
                f"{where}: a polygon reaches far out of the photo of {width}x{height} px: "
                "make the detections on this photo"
            )
    codes = frPyObjects([list(polygon) for polygon in polygons], height, width)
    return decode(merge(codes)).astype(bool)


def extent(polygons: Sequence[Sequence[float]]) -> tuple[float, float, float, float]:
    """The bounding box of polygons: left, top, right, bottom in px."""
    x, y = (np.concatenate([polygon[start::2] for polygon in polygons]) for start in (0, 1))
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())
