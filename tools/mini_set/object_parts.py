"""Parts shared by several named objects: vessels, handles, caps and printed faces."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from picopose.rendering.mesh import Mesh
from picopose.rendering.procedural import solids
from picopose.rendering.procedural.solids import Solid

WHITE, BLACK, STEEL = (242, 240, 235), (28, 28, 30), (150, 153, 158)


@dataclass(frozen=True)
class Model:
    """A mesh with its symmetries about the centre of its bounding box."""

    mesh: Mesh
    turns: tuple[tuple[float, float, float], ...] = ()  # rotation vectors in degrees
    axes: tuple[tuple[float, float, float], ...] = ()  # of continuous symmetries


def vessel(outer: Sequence[tuple[float, float]], wall: float, sections: int = solids.SECTIONS) -> Solid:
    """An open vessel from its outer profile (radius, height); surfaces: outside, bottom, rim, inside."""
    outer = np.asarray(outer, float)
    inner = np.stack([outer[:, 0] - wall, outer[:, 1].clip(outer[0, 1] + wall)], axis=1)[::-1]
    profile = np.concatenate([[(0, outer[0, 1])], outer, inner, [(0, outer[0, 1] + wall)]])
    n = len(outer)
    surfaces = [1] + [0] * (n - 1) + [2] + [3] * n
    return solids.revolve(profile, outline=solids.circle(1.0, sections), surfaces=surfaces)


def handle(knots: Sequence[Sequence[float]], width: float, thickness: float) -> Solid:
    """A strap of rounded cross-section through knots (N, 3)."""
    return solids.sweep(solids.smooth(np.asarray(knots), 6), solids.superellipse(width, thickness, 3, 16))


def rod(radius: float, height: float, sections: int = 32) -> Solid:
    """A cylinder from z = 0 upwards; surfaces: side, bottom, top."""
    return solids.revolve(np.array([(radius, 0), (radius, height)]), outline=solids.circle(1.0, sections))


def turned(profile: Sequence[tuple[float, float]], sections: int = 32) -> Solid:
    """A solid of revolution from a smoothed profile (radius, height), upwards."""
    curve = solids.smooth(np.asarray(profile, float), 5)
    curve[:, 0] = curve[:, 0].clip(1e-4)
    return solids.revolve(curve, outline=solids.circle(1.0, sections))
