"""Quirks of the original program that its released weights were trained with, each of which can be mended."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quirks:
    """Which of the original's quirks are kept; none by default, since newly trained weights need none."""

    # Points within half a cell of the south pole fall into the cells of the north pole.
    wrapped_pole: bool = False
    # Points with y = 0 exactly get azimuth 0, also those with negative x.
    flat_azimuth: bool = False
    # Refinement alone: Adam's moments and count of steps of one object serve the next.
    carried_moments: bool = False


MENDED = Quirks()
RELEASED = Quirks(**dict.fromkeys(Quirks.__dataclass_fields__, True))
