"""Checks of a camera matrix that comes from outside: most wrong poses begin with a wrong K."""

from typing import Any

import torch
from torch import Tensor

from utils.errors import InputError
from utils.files import finite_numbers


def camera_matrix(values: Any, where: str) -> Tensor:
    """K (3, 3) of nine numbers, row by row: fx s cx, 0 fy cy, 0 0 1.

    Raises an `InputError` that begins with `where`.
    """
    K = torch.tensor(finite_numbers(values, 9, where), dtype=torch.float64).reshape(3, 3)
    if K[1, 0] != 0 or K[2].tolist() != [0, 0, 1]:
        raise InputError(
            f"{where} is no camera matrix {K.tolist()}: give fx 0 cx, 0 fy cy, 0 0 1, row by row"
        )
    if min(K[0, 0], K[1, 1]) <= 0:
        raise InputError(
            f"{where} has focal lengths {K[0, 0]:g}, {K[1, 1]:g} px, which must be positive: correct it"
        )
    return K.float()


def check_camera(K: Tensor, width: int, height: int, where: str) -> None:
    """Refuses a K (3, 3) that cannot belong to an image of this size: field of view or principal point."""
    fx, fy, cx, cy = (float(K[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    # 0.05 widths is a field of view of 169 degrees, as a K in other units than pixels would give.
    if not (0.05 * width < fx and 0.05 * height < fy and max(fx, fy) < 100 * max(width, height)):
        raise InputError(
            f"{where} has focal lengths {fx:g}, {fy:g} px, not those of {width}x{height} px: correct it"
        )
    if not (-width <= cx <= 2 * width and -height <= cy <= 2 * height):
        raise InputError(
            f"{where} has its principal point at {cx:g}, {cy:g}, far off {width}x{height} px: correct it"
        )
