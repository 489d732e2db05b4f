"""The unit of a mesh file, which hardly any format states: guessed from sizes, and checked against the photo.

Most wrong poses begin with a wrong unit, so what is guessed is said and what cannot be is refused.
"""

import math
from collections.abc import Sequence

import numpy as np

from picopose.utils.errors import InputError

UNITS = {"mm": 1e-3, "cm": 1e-2, "m": 1.0}  # in metres
NAMES = {"mm": "millimetres", "cm": "centimetres", "m": "metres"}
TYPICAL_SIZE, TYPICAL_DISTANCE = 0.15, 0.6  # m, of objects in photos that are taken for their pose
RARITY = {"mm": 0.0, "cm": 0.7, "m": 0.0}  # in powers of ten that sizes have to speak for a unit
NEAREST, FARTHEST = 0.05, 100.0  # m, of an object from a camera that sees it sharply and at all
WIDEST_DEG = 120.0  # angle that a single object may fill


def apparent_distance(diameter: float, box: Sequence[float], K: np.ndarray) -> float:
    """About how far (unit of the diameter) an object is that fills a box (4,) px seen through K (3, 3)."""
    return diameter * float(K[0][0]) / _extent(box)


def guess_unit(diameter: float, distance: float | None = None) -> str:
    """The unit, of `UNITS`, in which an object's diameter and distance are most like those of usual photos.

    diameter: in the file's unit; distance: the `apparent_distance` in the same, where a box is known.
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
            "degrees wide: pass the camera of this very image"
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
