"""Interprets the tables in camera files: K, lens distortion, image size.

The names of BOP, ROS, OpenCV, RealSense, Open3D and MegaPose are known. Unknown entries that would change a
camera are refused, never ignored.
"""

import logging
import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from picopose.datasets.cameras.lens import UNDISTORT, Lens
from picopose.datasets.cameras.matrices import camera_matrix, pinhole, resized
from picopose.utils.errors import InputError
from picopose.utils.reading import finite_numbers, integer

LOG = logging.getLogger(__name__)
REMEDY = "write cam_K or fx, fy, cx, cy into it"

# Keys, reduced to lower-case letters and digits.
# Keys whose value may be a nested camera table.
WITHIN = ("intrinsic", "intrinsics", "camera", "cameraintrinsics")
MATRICES = ("camk", "k", "kmatrix", "cameramatrix", "intrinsicmatrix", *WITHIN)
PINHOLE = (("fx", "flx"), ("fy", "fly"), ("cx", "ppx"), ("cy", "ppy"))
PROJECTION, RECTIFICATION = ("p", "projectionmatrix"), ("r", "rectificationmatrix")
SIZE = (("height", "h", "imageheight"), ("width", "w", "imagewidth"))
COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
LISTS = ("d", "coeffs", "distortion", "distcoeff", "distcoeffs", "distcoefs")
LISTS += ("distortioncoefficients", "distortioncoeffs", "distortioncoefs", "coefficients")
MODEL = ("cameramodel", "model", "projectionmodel", "cameratype")

MATRIX = {"rows", "cols", "dt", "data"}  # of a matrix in OpenCV's and ROS's form

COUNTS = (4, 5, 8, 12, 14)  # of OpenCV's coefficients
# Names of OpenCV's lens model.
MODELS = ("", "brown", "brownconrady", "fullopencv", "opencv", "perspective", "pinhole", "plumbbob")
MODELS += ("radialtangential", "radtan", "rationalpolynomial")
# In names of models that are no pinhole even if all coefficients are zero.
WIDE = ("equi", "fish", "fov", "ftheta", "kannala", "omni", "panoram", "spherical", "unified")
# RealSense's model names by number.
REALSENSE = ("none", "modifiedbrownconrady", "inversebrownconrady", "ftheta", "brownconrady")
REALSENSE += ("kannalabrandt4",)

Entry = dict[str, Any]


@dataclass(frozen=True)
class Camera:
    """A photo's camera."""

    K: Tensor  # (3, 3)
    lens: Lens | None = None  # None: no distortion
    states_size: bool = False  # whether an image size is given, so photos may be cropped


def camera_of_table(table: Any, where: str, width: int, height: int) -> Camera:
    """The camera in a table, scaled to a photo of width x height px if the table states a size."""
    if not isinstance(table, Mapping):
        raise InputError(f"{where} holds no camera: {REMEDY}")
    entry = _entry(table)
    K, lens, size = _one_K(entry, where), _lens(entry, where), _size(entry, where)
    _check_part_of_sensor(entry, where)
    _tell_rectification(entry, K, where)
    if lens and K[0, 1] != 0:
        raise InputError(f"{where} has distortion and a skew of {K[0, 1]:g}: {UNDISTORT}")
    if size is None:
        return Camera(K, lens)
    return Camera(_brought_to_size(K, size, width, height, where), lens, states_size=True)


def camera_of_numbers(numbers: list[float], where: str) -> Camera:
    """The camera in a text file of numbers."""
    return Camera(_matrix(numbers, where))


def _entry(table: Mapping) -> Entry:
    """The table with plain keys, and with nested tables of camera and distortion merged."""
    entry = {_plain(key): value for key, value in table.items()}
    for key in (*WITHIN, *LISTS):
        if isinstance(entry.get(key), Mapping) and not _is_matrix(entry[key]):
            entry |= {_plain(inner): value for inner, value in entry.pop(key).items()}
    return entry


def _is_matrix(table: Mapping) -> bool:
    """Whether it is a matrix in OpenCV's and ROS's form, perhaps without its numbers."""
    return "data" in table or (len(table) > 0 and table.keys() <= MATRIX)


def _plain(name: Any) -> str:
    """A key reduced to lower-case letters and digits."""
    return re.sub("[^a-z0-9]", "", str(name).lower())


def _first(entry: Entry, keys: Sequence[str]) -> Any:
    """The value of the first of these keys that exists, else None."""
    return next((entry[key] for key in keys if entry.get(key) is not None), None)


def _one_K(entry: Entry, where: str) -> Tensor:
    """The K (3, 3) in a table, given in one form or equally in several."""
    matrices = {key: entry[key] for key in MATRICES if isinstance(entry.get(key), list | Mapping)}
    found = {key: _matrix(value, where) for key, value in matrices.items()}
    values = [_first(entry, keys) for keys in PINHOLE]
    if any(value is not None for value in values):
        found["fx, fy, cx, cy"] = pinhole(values, where, skew=entry.get("skew", 0))
    projection = _first(entry, PROJECTION)
    if not found and projection is not None:
        found["P"] = _matrix(projection, where)
    if not found:
        raise InputError(f"{where} holds no camera that is known: {REMEDY}")
    (name, K), *others = found.items()
    for other, K_there in others:
        if not torch.allclose(K, K_there, rtol=1e-3, atol=0.1):
            raise InputError(f"{where} states two cameras, by {name} and by {other}: leave the photo's")
    return K


def _flat(value: Any, where: str) -> list:
    """The entries of a flat list, a list of rows, or a matrix in OpenCV's and ROS's form."""
    content = value.get("data") if isinstance(value, Mapping) else value
    rows = content if isinstance(content, list) else [content]
    entries = [entry for row in rows for entry in (row if isinstance(row, list) else [row])]
    if isinstance(value, Mapping):
        sides = [integer(value[side], f"{where}: {side}") for side in ("rows", "cols") if side in value]
        expected = math.prod(sides)
        if sides and (
            expected == 0 or len(entries) % expected or (len(sides) == 2 and len(entries) != expected)
        ):
            raise InputError(
                f"{where} has a matrix of {len(entries)} numbers, not of its rows and cols: copy it again"
            )
    return entries


def _matrix(value: Any, where: str) -> Tensor:
    """K (3, 3) from fx, fy, cx, cy or from a 3x3, 3x4 or 4x4 matrix, flat or in rows."""
    numbers = _flat(value, where)
    if len(numbers) == 4:
        return pinhole(numbers, where)
    if len(numbers) not in (9, 12, 16):
        raise InputError(
            f"{where} has a matrix of {len(numbers)} numbers: give 9, row by row, or fx,fy,cx,cy"
        )
    matrix = torch.tensor(finite_numbers(numbers, len(numbers), where), dtype=torch.float64)
    matrix = matrix.reshape(3, 3) if len(numbers) == 9 else matrix.reshape(-1, 4)
    if matrix.shape[1] == 4 and (matrix[:3, 3].any() or (matrix[3:] != torch.eye(4)[3:]).any()):
        raise InputError(
            f"{where} has a projection with the shift {matrix[:3, 3].tolist()}, not K alone: give K, 3x3"
        )
    K = matrix[:3, :3]
    by_columns = K[2, :2].any() and not K[:2, 2].any()  # as Open3D and MATLAB store it
    return camera_matrix((K.T if by_columns else K).flatten().tolist(), where)


def _lens(entry: Entry, where: str) -> Lens | None:
    """The lens; None if there is no distortion or all its coefficients are zero."""
    model = _model(entry)
    values = _coefficients(entry, where)
    if any(part in model for part in WIDE) or (any(values) and model not in MODELS):
        raise InputError(f"{where} has the distortion model {reprlib.repr(model)}: {UNDISTORT}")
    if not any(values):
        return None
    if len(values) not in COUNTS:
        raise InputError(f"{where} has {len(values)} coefficients of distortion, not 4, 5 or 8: {UNDISTORT}")
    return Lens(tuple(values), where)


def _model(entry: Entry) -> str:
    """The plain name of the distortion model."""
    named = [value for key, value in entry.items() if key.startswith("dist") and isinstance(value, str)]
    model = _first(entry, MODEL) if not named else named[0]
    if isinstance(model, int) and 0 <= model < len(REALSENSE):
        return REALSENSE[model]
    return _plain(str(model or "").split(".")[-1]).removeprefix("rs2distortion")


def _coefficients(entry: Entry, where: str) -> list[float]:
    """k1 k2 p1 p2 [k3 [k4 k5 k6 ...]], given by name or as a list."""
    named = [entry.get(name, 0.0) for name in COEFFICIENTS]
    named = finite_numbers(named, len(named), f"{where}: k1, k2, p1, p2, k3 ...")
    if named[5] and not any(named[2:4] + named[6:]):
        raise InputError(f"{where} has k1 to k4 alone, as of a fisheye: {UNDISTORT}")
    found = [named[: 8 if any(named[5:]) else 5]] if any(named) else []
    for key, value in entry.items():
        is_list = key in LISTS or (key.startswith("dist") and not key.startswith("distance"))
        if not is_list or value is None or isinstance(value, str):
            continue
        numbers = _flat(value, f"{where}: {key}")
        numbers = finite_numbers(numbers, len(numbers), f"{where}: {key}")
        if any(numbers) and key not in LISTS:
            raise InputError(f"{where} has {key}, which is not known: {UNDISTORT}")
        found += [numbers] if any(numbers) else []
    if any(other != found[0] for other in found[1:]):
        raise InputError(f"{where} states two distortions: leave the photo's")
    return found[0] if found else []


def _check_part_of_sensor(entry: Entry, where: str) -> None:
    """Refuses ROS cameras whose K is for the whole sensor while the photo is binned or cropped."""
    roi = entry.get("roi")
    corner = [roi.get("x_offset", 0), roi.get("y_offset", 0)] if isinstance(roi, Mapping) else []
    binning = [entry.get(key, 1) for key in ("binningx", "binningy")]
    if any(corner) or any(value not in (None, 0, 1) for value in binning):
        raise InputError(f"{where} is of a sensor with binning or roi: pass the camera of this very photo")


def _tell_rectification(entry: Entry, K: Tensor, where: str) -> None:
    """Warns that the photo is taken to be raw if a ROS camera has another K for rectified ones."""
    projection, turn = (_flat(_first(entry, keys), where) for keys in (PROJECTION, RECTIFICATION))
    unlike = False
    if len(projection) == 12 and any(projection):
        P = torch.tensor(finite_numbers(projection, 12, f"{where}: P")).reshape(3, 4)
        unlike = not torch.allclose(P[:, :3], K, rtol=1e-3, atol=0.1)
    turned = len(turn) == 9 and any(turn) and turn != torch.eye(3).flatten().tolist()
    if unlike or turned:
        LOG.warning(
            "%s: K is taken, as of a raw photo; for a rectified one (image_rect) pass fx,fy,cx,cy of its P",
            where,
        )


def _size(entry: Entry, where: str) -> tuple[float, float] | None:
    """(height, width) px of the images; None if not given."""
    size = entry.get("resolution", [_first(entry, keys) for keys in SIZE])
    if size == [None, None]:
        return None
    height, width = finite_numbers(size, 2, f"{where}: its images' size")
    if min(height, width) < 1:
        raise InputError(f"{where} is of images of {width:g}x{height:g} px: correct its width and height")
    return height, width


def _brought_to_size(K: Tensor, size: tuple[float, float], width: int, height: int, where: str) -> Tensor:
    height_there, width_there = size
    scale = width / width_there
    if abs(height_there * scale - height) > 1:
        raise InputError(
            f"{where} is of images of {width_there:g}x{height_there:g} px, not {width}x{height} px: "
            "pass this image's camera"
        )
    if scale != 1:
        LOG.info("%s: scaled by %.3g to the photo's %dx%d px", where, scale, width, height)
    return resized(K, scale)
