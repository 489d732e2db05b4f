"""What the checks of damaged files share: what a number, a rotation and a camera must be."""

from typing import Any

import numpy as np

from picopose.utils.records import Mask


def sound(truth: Any, what: str) -> None:
    if not truth:
        raise AssertionError(what)


def finite(*values: Any) -> bool:
    return all(np.isfinite(np.asarray(value, dtype=float)).all() for value in values)


def is_rotation(matrix: np.ndarray) -> bool:
    """Whether (..., 3, 3) are rotations, as exactly as files spell them."""
    matrix = np.asarray(matrix, dtype=float)
    squares = matrix @ np.swapaxes(matrix, -1, -2) - np.eye(3)
    return finite(matrix) and (np.abs(squares) < 0.05).all() and (np.linalg.det(matrix) > 0).all()


def is_camera(matrix: np.ndarray) -> bool:
    matrix = np.asarray(matrix, dtype=float)
    return finite(matrix) and min(matrix[0, 0], matrix[1, 1]) > 0 and matrix[2].tolist() == [0, 0, 1]


def check_mask(mask: Mask, height: int, width: int) -> None:
    left, top, right, bottom = mask.box.tolist()
    sound(0 <= left < right <= width and 0 <= top < bottom <= height, "an empty mask, or beyond the photo")
    sound(mask.inside is None or mask.inside.shape == (bottom - top, right - left), "a mask of another size")
    sound(mask.inside is None or mask.inside.any(), "an empty mask")
