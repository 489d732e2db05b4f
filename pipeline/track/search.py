"""Where to search for a lost object: around its last place first, then all over the photo."""

import itertools
from collections.abc import Iterator

import numpy as np

NEAR = (1.0, 1.5)  # sides of the boxes around the last place, in sides of the last box
WINDOW, STRIDE = 1.0, 0.5  # side of a window, in sides of the last box; step between windows, in windows
SHARES = (1.0, 0.5, 0.3)  # sides of windows, in the photo's shorter side, where the size is unknown


def regions(box: np.ndarray | None, width: int, height: int) -> Iterator[np.ndarray]:
    """Boxes (4,) px in a photo of this size, one after the other, without end.

    box: (4,) px, where the object was last; None: unknown.
    """
    whole = np.array([0, 0, width, height], float)
    if box is None:
        middle, near = whole[2:] / 2, [whole]
        sides = [share * min(width, height) for share in SHARES]
    else:
        middle, side = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max())
        near = [_square(middle, factor * side) for factor in NEAR]
        sides = [min(WINDOW * side, width, height)]
    windows = [window for side in sides for window in _windows(side, width, height)]
    windows.sort(key=lambda window: float(np.linalg.norm((window[:2] + window[2:]) / 2 - middle)))
    for window, about in zip(itertools.cycle(windows), itertools.cycle(near)):
        yield np.concatenate([about[:2].clip(0, whole[2:]), about[2:].clip(0, whole[2:])])
        yield window


def _windows(side: float, width: int, height: int) -> list[np.ndarray]:
    """Squares that cover a photo, overlapping by half."""
    columns, rows = (
        np.linspace(side / 2, length - side / 2, 1 + int(np.ceil((length - side) / (STRIDE * side))))
        for length in (width, height)
    )
    return [_square(np.array([x, y]), side) for y in rows for x in columns]


def _square(middle: np.ndarray, side: float) -> np.ndarray:
    return np.concatenate([middle - side / 2, middle + side / 2])
