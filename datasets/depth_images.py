"""Reads the depth image of a user's photo: distances along the optical axis, in any common form and unit."""

import logging
from pathlib import Path

import numpy as np

from picopose.datasets.images import DEPTH_MODES, read_stored
from picopose.datasets.nocs.frames import depth_of_channels
from picopose.utils.errors import InputError
from picopose.utils.reading import read_array

LOG = logging.getLogger(__name__)
UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001}  # in metres
NEAREST, FARTHEST = 0.1, 20.0  # m, of the middle one of an image's distances
NOTHING = 1e6  # in floats, from here on: no distance in any unit
FORMS = "a PNG file of 16 bits, a TIFF file, or an .npy file"
UNIT = "give its unit: m, cm, mm, or the values to a metre, such as 5000"


def read_depth_image(path: Path, height: int, width: int, unit: str | float = "auto") -> np.ndarray:
    """The depth (H, W) float32 in m of a photo of this size; 0 where it is not known.

    Args:
        path: PNG or TIFF file of 16 or 32 bits or of floats; NumPy's .npy file; or a PNG file of three
            channels as those of NOCS are.
        unit: see `depth_in_metres`.

    Raises:
        InputError: the file is missing, damaged, no depth image or of another size; or as `depth_in_metres`.
    """
    where = f"depth {path}"
    values = _read_npy(path) if path.suffix.lower() == ".npy" else _read_picture(path)
    if values.shape != (height, width):
        raise InputError(
            f"{where} has {_size(values.shape)} for a photo of {width}x{height} px: give one that is "
            "registered to the photo, pixel by pixel"
        )
    return depth_in_metres(values, unit, where)


def depth_in_metres(values: np.ndarray, unit: str | float, where: str) -> np.ndarray:
    """Depth (H, W) float32 in m, 0 where it is not known, of values in a unit.

    What is 0, NaN or infinite is not known, nor what renderers write for nothing, such as 1e10.

    Args:
        values: (H, W) of any integers or floats.
        unit: m, cm, mm, or how many values make a metre; "auto" is mm for integers; for floats it is m, or
            mm where m would be too far; a log message tells which.
        where: begins the errors.

    Raises:
        InputError: nothing is known, some depths are negative, or most of them are of no likely distance.
    """
    if values.dtype.kind not in "uif":
        raise InputError(f"{where} holds {values.dtype} in place of numbers: give {FORMS}")
    depth = values.astype(np.float64)
    if values.dtype.kind == "f":
        depth[~(np.abs(depth) < NOTHING)] = 0  # also NaN
    if depth.min(initial=0) < 0:
        raise InputError(
            f"{where} has negative depths, down to {depth.min():g}: give distances, and 0 for none"
        )
    known = depth[depth > 0]
    if not known.size:
        raise InputError(f"{where} is empty: none of its values is a distance; give {FORMS}")
    middle = float(np.median(known))
    name, scale = _scale(unit, values.dtype, middle, where)
    if not NEAREST <= middle * scale <= FARTHEST:
        raise InputError(
            f"{where}: the middle one of its distances would be {middle * scale:.3g} m in {name}; {UNIT}"
        )
    if unit == "auto":
        LOG.info("%s: %.3g to %.3g m, read as %s", where, known.min() * scale, known.max() * scale, name)
    return (depth * scale).astype(np.float32)


def _scale(unit: str | float, kind: np.dtype, middle: float, where: str) -> tuple[str, float]:
    """Name and metres of the unit of values of this type, with this middle one."""
    if unit == "auto":
        unit = "m" if kind.kind == "f" and middle <= FARTHEST else "mm"
    if unit in UNITS:
        return str(unit), UNITS[unit]
    try:
        count = float(unit)
    except (TypeError, ValueError):
        count = 0.0
    if not 0 < count < np.inf:
        raise InputError(f"{where}: unit {unit!r} is unknown; {UNIT}")
    return f"1/{count:g} m", 1 / count


def _read_picture(path: Path) -> np.ndarray:
    """The values (H, W) of a picture; mm of one in three channels."""
    values, mode = read_stored(path)
    if mode == "RGB" and (values[..., 2] == values[0, 0, 2]).all():  # the third one is not used
        return depth_of_channels(values)
    if mode not in DEPTH_MODES or values.dtype == np.uint8:
        kind = "8 bits" if mode == "L" else "colours"
        raise InputError(f"depth {path} is a picture of {kind}, not of distances: give {FORMS}")
    return values


def _read_npy(path: Path) -> np.ndarray:
    """The array of a file without axes of length 1."""
    try:
        return read_array(path).squeeze()
    except FileNotFoundError:
        raise InputError(f"depth {path} not found: correct the path") from None
    except (OSError, ValueError) as error:
        raise InputError(f"depth {path} cannot be read ({error}): create it again") from None


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]} px" if len(shape) == 2 else f"an array of shape {shape}"
