"""COCO's run-length masks, plain and compressed: detections and training masks are stored so.

Our own decoder because pycocotools fills the rest of a mask whose runs end too early with stray memory;
here the runs must add up to the image.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.errors import InputError


def run_lengths(segmentation: Any, where: str) -> tuple[NDArray[np.uint32], tuple[int, int]]:
    """Runs (alternating 0 and 1, down the columns) and (height, width) of a COCO `{"counts", "size"}`.

    `counts` is a list, or a string in COCO's compressed form. `where` begins the `InputError` of a bad one.
    """
    try:
        height, width = (int(side) for side in segmentation["size"])
        counts = segmentation["counts"]
        runs = np.asarray(_expand(counts) if isinstance(counts, str | bytes) else counts)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where} is no run-length mask ({error!r}): make the file again") from None
    whole = runs.ndim == 1 and (runs.dtype.kind in "iu" or runs.size == 0)
    if min(height, width) < 1 or not whole or (runs < 0).any() or int(runs.sum()) != height * width:
        raise InputError(f"{where}: the runs do not fill its size {width}x{height}: make the file again")
    return runs.astype(np.uint32), (height, width)


def decode(runs: NDArray[np.uint32], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (height, width) of runs that fill it."""
    height, width = size
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


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
