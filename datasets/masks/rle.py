"""COCO's run-length masks, plain and compressed, as in detections and training data.

pycocotools' decoder fills the rest of a mask whose runs end early with stray memory; here the runs must add
up to the image.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.mask import frPyObjects

from picopose.utils.errors import InputError
from picopose.utils.reading import integer

MOST_PIXELS = 1 << 28


def compress(segmentation: Any, where: str) -> tuple[bytes, tuple[int, int]]:
    """COCO's compressed code and the (height, width) of a mask `{"counts", "size"}`, plain or compressed.

    Raises an `InputError` that begins with `where` if runs are malformed or do not fill the mask.
    """
    if not isinstance(segmentation, dict) or not {"counts", "size"} <= segmentation.keys():
        raise InputError(f"{where} is no run-length mask with counts and size: make the file again")
    height, width = mask_size(segmentation["size"], where)
    counts = segmentation["counts"]
    try:
        runs = _expand(counts) if isinstance(counts, str | bytes) else np.asarray(counts)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where}: its counts are no run lengths: make the file again") from None
    whole = runs.ndim == 1 and runs.dtype.kind in "iu" and runs.size > 0
    # Each run is checked first: a sum of numbers like 2**62 would wrap around.
    fits = whole and runs.min() >= 0 and runs.max() <= height * width and int(runs.sum()) == height * width
    if not fits:
        raise InputError(f"{where}: the runs do not fill its size {width}x{height}: make the file again")
    if isinstance(counts, str | bytes):
        return counts.encode() if isinstance(counts, str) else counts, (height, width)
    return frPyObjects({"counts": counts, "size": [height, width]}, height, width)["counts"], (height, width)


def mask_size(value: Any, where: str) -> tuple[int, int]:
    """The height and width of a mask in px; an `InputError` for impossible sizes."""
    sides = value if isinstance(value, list | tuple) else [value]
    if len(sides) != 2:
        raise InputError(f"{where}: its size must be height and width: make the file again")
    height, width = (integer(side, f"{where}: its size") for side in sides)
    if not 0 < height * width <= MOST_PIXELS:
        raise InputError(f"{where} claims {width}x{height} px: make the file again")
    return height, width


def decode(code: bytes, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (height, width) of a code made by `compress`."""
    height, width = size
    runs = _expand(code)  # alternately of 0 and 1, column by column
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def runs_of(mask: NDArray[np.bool_]) -> list[int]:
    """COCO's plain run lengths of a mask (height, width): alternately of 0 and 1, column by column."""
    pixels = mask.ravel(order="F")
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    runs = np.diff(edges, prepend=0, append=pixels.size).tolist()
    return [0, *runs] if pixels[0] else runs


def _expand(text: str | bytes) -> NDArray[np.int64]:
    """Runs of COCO's compressed form: digits of 5 bits, lowest first, the sign in the last digit's top bit.

    From the fourth run on, a number is the difference to the run two before.
    """
    codes = np.frombuffer(text.encode("ascii") if isinstance(text, str) else text, dtype=np.uint8)
    codes = codes.astype(np.int64) - 48
    if codes.size == 0 or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("not a compressed mask")
    last = codes & 32 == 0
    first = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    place = np.arange(codes.size) - np.repeat(first, np.diff(first, append=codes.size))
    if place.max() > 7:
        raise ValueError("a run too long")
    numbers = np.add.reduceat((codes & 31) << (5 * place), first)
    negative = codes[last] & 16 != 0
    numbers = numbers - (negative << (5 * (place[last] + 1)))
    for parity in (1, 2):
        numbers[parity::2] = np.cumsum(numbers[parity::2])
    return numbers
