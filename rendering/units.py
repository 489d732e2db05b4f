"""Guesses the unit of mesh files, which few formats state, and checks it against the photo.

A wrong unit is a common cause of wrong poses, so guesses are logged and implausible units refused.
"""

import math
from collections.abc import Sequence

import numpy as np

from picopose.utils.errors import InputError

UNITS = {"mm": 1e-3, "cm": 1e-2, "m": 1.0}  # in metres
NAMES = {"mm": "millimetres", "cm": "centimetres", "m": "metres"}
TYPICAL_SIZE, TYPICAL_DISTANCE = 0.15, 0.6  # m, of objects in typical photos
RARITY = {"mm": 0.0, "cm": 0.7, "m": 0.0}  # penalty in powers of ten
NEAREST, FARTHEST = 0.05, 100.0  # m, plausible distances from the camera
WIDEST_DEG = 120.0  # largest angle that an object may fill


def apparent_distance(diameter: float, box: Sequence[float], K: np.ndarray) -> float:
    """Approximate distance, in the diameter's unit, of an object that fills a box (4,) px for K (3, 3)."""
    return diameter * float(K[0][0]) / _extent(box)


def guess_unit(diameter: float, distance: float | None = None) -> str:
    """The unit of `UNITS` that makes an object's diameter and distance most typical.

    diameter: in the file's unit; distance: `apparent_distance` in the same unit, if a box is known.
    Raises an `InputError` for a diameter of 0.
    """
    if not diameter > 0:
        raise InputError("all vertices of the mesh lie in one point: export it again")

    def strangeness(unit: str) -> float:
        size = abs(math.log10(diameter * UNITS[unit] / TYPICAL_SIZE))
        far = abs(math.log10(distance * UNITS[unit] / TYPICAL_DISTANCE)) if distance else 0.0
        return size + far + RARITY[unit]

    return min(UNITS, key=strangeness)


def describe(diameter: float, unit: str | float) -> str:
    """`diameter 143 mm, read as mm`; diameter in metres; unit of `UNITS`, or in metres."""
    name = unit if unit in UNITS else f"units of {unit:g} m"
    return f"diameter {diameter / UNITS.get(unit, unit):.3g} {name}, read as {name}"


def check_plausible(
    where: str, diameter: float, unit: str | float, box: Sequence[float], K: np.ndarray
) -> None:
    """Refuses a diameter (m, read in `unit`) that contradicts the box (4,) px and the camera (3, 3).

    Raises an `InputError` that begins with `where` and names the likely cause.
    """
    angle = 2 * math.degrees(math.atan(_extent(box) / (2 * float(K[0][0]))))
    if angle > WIDEST_DEG:
        raise InputError(
            f"{where}: a box of {_extent(box):.0f} px at a focal length of {K[0][0]:.0f} px is {angle:.0f} "
            "degrees wide: pass the camera of this image"
        )
    distance = apparent_distance(diameter, box, K)
    if NEAREST <= distance <= FARTHEST:
        return
    scale = UNITS.get(unit, unit)
    likely = guess_unit(diameter / scale, distance / scale)
    cause = (
        f"mesh looks like {NAMES[likely]}: give unit {likely}"
        if likely != unit
        else "correct the box, the camera or the scale of the mesh"
    )
    raise InputError(
        f"{where}: {describe(diameter, unit)}, would be {distance:.3g} m from the camera in its box of "
        f"{_extent(box):.0f} px; {cause}"
    )


def _extent(box: Sequence[float]) -> float:
    left, top, right, bottom = map(float, box)
    return max(right - left, bottom - top, 1.0)
