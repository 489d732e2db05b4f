"""Cameras that come from outside, read and checked: most wrong poses begin with a wrong K."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import ExifTags, Image
from torch import Tensor

from utils.errors import InputError
from utils.files import finite_numbers, read_json

LOG = logging.getLogger(__name__)
FILM_DIAGONAL = 43.27  # mm, of 36 x 24 mm


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


def read_camera(given: str, width: int, height: int) -> Tensor:
    """K (3, 3) for width x height px, of `fx,fy,cx,cy` or of a JSON file with these, `cam_K` or `K`.

    A file that states the size of its images, by `width` and `height` or `resolution` (height, width), is
    brought to this one's.
    """
    where = f"--camera {given}"
    if not given.endswith(".json"):
        return pinhole(given.split(","), where)
    content = read_json(Path(given), remedy="write cam_K or fx, fy, cx, cy into it")
    content = content if isinstance(content, dict) else {}
    rows = content.get("cam_K", content.get("K"))
    if rows is None:
        K = pinhole([content.get(key) for key in ("fx", "fy", "cx", "cy")], where)
    else:
        nested = isinstance(rows, list) and all(isinstance(row, list) for row in rows)
        K = camera_matrix([value for row in rows for value in row] if nested else rows, where)
    size = content.get("resolution", [content.get("height"), content.get("width")])
    if size == [None, None]:
        return K
    height_there, width_there = finite_numbers(size, 2, f"{where}: its images' size")
    scale = width / max(width_there, 1.0)
    if abs(height_there * scale - height) > 1:
        raise InputError(
            f"{where} is of images of {width_there:g}x{height_there:g} px, not {width}x{height} px: "
            "pass this image's camera"
        )
    if scale != 1:
        LOG.info("%s: scaled by %.3g to the photo's %dx%d px", given, scale, width, height)
    return resized(K, scale)


def pinhole(values: Sequence[Any], where: str) -> Tensor:
    """K (3, 3) of fx, fy, cx, cy in px, which may be text."""
    try:
        fx, fy, cx, cy = map(float, values)
    except (TypeError, ValueError):
        raise InputError(
            f"{where}: give four numbers fx,fy,cx,cy or a JSON file with them or cam_K"
        ) from None
    return camera_matrix([fx, 0, cx, 0, fy, cy, 0, 0, 1], where)


def resized(K: Tensor, scale: float) -> Tensor:
    """The camera (3, 3) of an image that was resized by a factor."""
    change = K.new_tensor([[scale, 0, scale / 2 - 0.5], [0, scale, scale / 2 - 0.5], [0, 0, 1]])
    return change @ K


def camera_of_view(degrees: float, width: int, height: int) -> Tensor:
    """K (3, 3) of an image that is so many degrees wide, with its principal point in the middle."""
    if not 1 <= degrees <= 170:
        raise InputError(f"--fov {degrees:g}: give the photo's horizontal field of view, 1 to 170 degrees")
    return _central(width / 2 / math.tan(math.radians(degrees) / 2), width, height)


def camera_of_photo(path: Path, width: int, height: int) -> Tensor:
    """K (3, 3) by the focal length in a photo's EXIF data, with its principal point in the middle; says so.

    Raises an `InputError` where there is none.
    """
    try:
        with Image.open(path) as image:
            exif = image.getexif().get_ifd(ExifTags.IFD.Exif)
        focal = _focal_length(exif, width, height)
    except (OSError, ValueError, TypeError, SyntaxError, ZeroDivisionError):
        focal = None
    if not focal:
        raise InputError(f"{path} states no focal length (EXIF): pass its --camera, --K or --fov")
    LOG.info("%s: focal length %.0f px, as its EXIF data say; pass --camera if it is calibrated", path, focal)
    return _central(focal, width, height)


def _focal_length(exif: Mapping[int, Any], width: int, height: int) -> float | None:
    """px, of the equivalent on 35 mm film (by the diagonal) or of the sensor's resolution."""
    equivalent = float(exif.get(ExifTags.Base.FocalLengthIn35mmFilm, 0))
    if equivalent > 0:
        return equivalent / FILM_DIAGONAL * math.hypot(width, height)
    per_unit = float(exif.get(ExifTags.Base.FocalPlaneXResolution, 0))
    millimetres = {2: 25.4, 3: 10.0, 4: 1.0}.get(exif.get(ExifTags.Base.FocalPlaneResolutionUnit, 2))
    full = float(exif.get(ExifTags.Base.ExifImageWidth, 0)), float(exif.get(ExifTags.Base.ExifImageHeight, 0))
    if per_unit <= 0 or millimetres is None or min(full) <= 0:
        return None
    # The photo may have been resized, and turned upright, since.
    scale = max(width, height) / max(full)
    return scale * float(exif.get(ExifTags.Base.FocalLength, 0)) * per_unit / millimetres


def _central(focal: float, width: int, height: int) -> Tensor:
    return torch.tensor([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
