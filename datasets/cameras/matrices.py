"""Camera matrices from users and files, checked: a wrong K is the usual cause of wrong poses."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import ExifTags, Image
from torch import Tensor

from picopose.utils.errors import InputError
from picopose.utils.reading import finite_numbers

LOG = logging.getLogger(__name__)
FILM_DIAGONAL = 43.27  # mm, of 36 x 24 mm
ROUNDING = 1e-6  # of a matrix's largest entry
WIDEST, LONGEST = 0.2, 100.0  # focal lengths in image sides: fields of view of 136 and 0.6 degrees
UNLIKE = 0.05  # of the focal lengths; those of real cameras differ by at most 2 %
OFF_CENTRE = 0.15  # of the image's side; about 0.05 for calibrated cameras
COMMON_SIZES = (
    *((320, 240), (640, 360), (640, 480), (720, 540), (800, 600), (848, 480), (960, 540), (1024, 768)),
    *((1280, 720), (1280, 960), (1280, 1024), (1920, 1080), (1920, 1440), (2048, 1536), (2560, 1440)),
    *((3840, 2160), (4000, 3000), (4032, 3024)),
)


def camera_matrix(values: Any, where: str) -> Tensor:
    """As `exact_camera_matrix`, in single precision."""
    return exact_camera_matrix(values, where).float()


def exact_camera_matrix(values: Any, where: str) -> Tensor:
    """K (3, 3) float64 of nine numbers, row by row: fx s cx, 0 fy cy, 0 0 1, or these times a number.

    Rounding errors become 0. Raises an `InputError` that begins with `where`.
    """
    given = torch.tensor(finite_numbers(values, 9, where), dtype=torch.float64).reshape(3, 3)
    K = given / given[2, 2] if given[2, 2] != 0 else given
    for off_diagonal in ((0, 1), (1, 0), (2, 0), (2, 1)):
        if abs(K[off_diagonal]) < ROUNDING * K.abs().max():
            K[off_diagonal] = 0
    if K[1, 0] != 0 or K[2].tolist() != [0, 0, 1]:
        raise InputError(
            f"{where} is no camera matrix {given.tolist()}: give fx 0 cx, 0 fy cy, 0 0 1, row by row"
        )
    if min(K[0, 0], K[1, 1]) <= 0:
        raise InputError(
            f"{where} has focal lengths {K[0, 0]:g}, {K[1, 1]:g} px, which must be positive: correct it"
        )
    return K


def check_camera(K: Tensor, width: int, height: int, where: str, *, cropped: bool = False) -> None:
    """Refuses a K (3, 3) that cannot belong to an image of this size, and names the likely cause.

    cropped: the image may be part of a larger one, so unusual values only cause a warning.
    """
    fx, fy, cx, cy, skew = (float(K[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2), (0, 1)))
    size = f"{width}x{height} px"
    if not (fx > WIDEST * width and fy > WIDEST * height and max(fx, fy) < LONGEST * max(width, height)):
        raise InputError(f"{where} has focal lengths {fx:g}, {fy:g} px, not those of {size}: correct it")
    if not (-width <= cx <= 2 * width and -height <= cy <= 2 * height):
        raise InputError(f"{where} has its principal point at {cx:g}, {cy:g}, far off {size}: correct it")
    stretched = abs(fx - fy) > UNLIKE * min(fx, fy) or abs(skew) > UNLIKE * fx
    off = max(abs(cx - (width - 1) / 2) / width, abs(cy - (height - 1) / 2) / height)
    if cropped and (stretched or off > OFF_CENTRE):
        LOG.warning("%s is unusual, but used: it is given for a photo of this size", where)
    elif stretched:
        raise InputError(
            f"{where} has focal lengths {fx:g}, {fy:g} and skew {skew:g} px, so its pixels are not square: "
            "give fx, fy, cx, cy in this order, of a photo that was not stretched"
        )
    elif off > OFF_CENTRE:
        raise InputError(
            f"{where} has its principal point at {cx:g}, {cy:g}, {off:.0%} of the side off the middle of "
            f"{size}: {_likely_size(cx, cy, width, height)}; of a photo that is cut out of a larger one "
            "state its width and height beside its camera"
        )


def _likely_size(cx: float, cy: float, width: int, height: int) -> str:
    """The likely image size for a principal point, for messages."""
    around = (2 * cx + 1, 2 * cy + 1)
    sizes = ((height, width), *COMMON_SIZES, *(size[::-1] for size in COMMON_SIZES))

    def distance(size: tuple[int, int]) -> float:
        return max(abs(there / side - 1) for there, side in zip(around, size, strict=True))

    nearest = min(sizes, key=distance)
    if distance(nearest) < 0.1:
        return f"it looks like that of {nearest[0]}x{nearest[1]} px, so pass this photo's"
    return "pass this very photo's camera"


def pinhole(values: Sequence[Any], where: str, *, skew: Any = 0) -> Tensor:
    """K (3, 3) of fx, fy, cx, cy in px, which may be text."""
    try:
        fx, fy, cx, cy, skew = map(float, (*values, skew))
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where}: give four numbers fx,fy,cx,cy or a file with them or cam_K") from None
    return camera_matrix([fx, skew, cx, 0, fy, cy, 0, 0, 1], where)


def resized(K: Tensor, scale: float) -> Tensor:
    """K (3, 3) after resizing the image by a factor."""
    change = K.new_tensor([[scale, 0, scale / 2 - 0.5], [0, scale, scale / 2 - 0.5], [0, 0, 1]])
    return change @ K


def camera_of_view(degrees: float, width: int, height: int) -> Tensor:
    """K (3, 3) from a horizontal field of view in degrees, with the principal point in the middle."""
    if not 1 <= degrees <= 170:
        raise InputError(f"field of view {degrees:g}: give the photo's horizontal one, 1 to 170 degrees")
    return _central(width / 2 / math.tan(math.radians(degrees) / 2), width, height)


def camera_of_photo(path: Path, width: int, height: int) -> Tensor:
    """K (3, 3) from the focal length in a photo's EXIF data, with the principal point in the middle.

    Logs the focal length. Raises an `InputError` if there is none.
    """
    try:
        with Image.open(path) as image:
            exif = image.getexif().get_ifd(ExifTags.IFD.Exif)
        focal = _focal_length(exif, width, height)
    except (OSError, ValueError, TypeError, SyntaxError, ZeroDivisionError):
        focal = None
    if not focal:
        raise InputError(f"{path} states no focal length (EXIF): give its camera or field of view")
    LOG.info("%s: focal length %.0f px, by its EXIF data; give its camera if it is calibrated", path, focal)
    return _central(focal, width, height)


def _focal_length(exif: Mapping[int, Any], width: int, height: int) -> float | None:
    """In px, from the 35 mm equivalent (by the diagonal) or the sensor's resolution."""
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
