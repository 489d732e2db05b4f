"""The shapes of the six categories, each a family with random sizes, proportions and looks.

Lengths are metres. Here z is up and a front faces -y; `objects` turns them to NOCS's frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from picopose.rendering.procedural import solids
from picopose.rendering.procedural.painting import Paint
from picopose.rendering.procedural.prints import label, random_texture
from picopose.rendering.procedural.solids import Solid
from picopose.rendering.procedural.textures import random_colour
from tools.category_set.panels import keyboard, screen

Rng = np.random.Generator
Painted = tuple[Solid, list[Paint]]  # with one paint, or one for each surface

SECTIONS = 36  # of bodies of revolution
METAL = (190, 190, 195)


@dataclass(frozen=True)
class Shape:
    """The parts of an object; a mug's handle is apart, as its visibility matters."""

    body: list[Painted]
    handle: list[Painted] = field(default_factory=list)


def bottle(rng: Rng) -> Shape:
    """Body, shoulder and neck in one profile; most have a cap, and a label about the body."""
    height = rng.uniform(0.13, 0.3)
    radius = height * rng.uniform(0.12, 0.2)
    neck = radius * rng.uniform(0.28, 0.6)
    shoulder, neck_starts = np.cumsum([rng.uniform(0.5, 0.72), rng.uniform(0.1, 0.22)])
    waist = 1 + rng.uniform(-0.12, 0.06) * np.sin(np.linspace(0, np.pi, 9)) ** 2
    body = np.stack([radius * waist, np.linspace(0.015, shoulder, 9) * height], axis=1)
    fall = (0.5 + 0.5 * np.cos(np.linspace(0, np.pi, 9)[1:])) ** rng.uniform(0.5, 1.8)
    heights = np.linspace(shoulder, neck_starts, 9)[1:] * height
    curve = np.stack([neck + (radius - neck) * fall, heights], axis=1)
    capped = rng.random() < 0.75
    top = height * (rng.uniform(0.88, 0.95) if capped else 1)
    profile = np.concatenate([[(0.9 * radius, 0)], body, curve, [(neck, top)]])
    bands = np.zeros(len(profile) - 1, int)
    bands[slice(*sorted(rng.choice(np.arange(1, 9), 2, replace=False)))] = 1
    ground, lid = random_colour(rng), random_colour(rng)
    wrap = label(rng, 160, 384) if rng.random() < 0.75 else random_colour(rng)
    parts: list[Painted] = [(_revolved(profile, bands), [ground, wrap, ground, (25, 25, 25)])]
    if capped:
        wide = neck * rng.uniform(1.05, 1.45)
        cap = np.array([(wide, rng.uniform(0.8, 0.97) * top), (wide * rng.uniform(0.8, 1), height)])
        parts.append((_revolved(cap), [lid]))
    return Shape(parts)


def bowl(rng: Rng) -> Shape:
    """A hollow half of an egg, flat at its foot: from a saucer's curve to a deep basin's."""
    radius = rng.uniform(0.05, 0.11)
    height, foot = radius * rng.uniform(0.4, 0.95), radius * rng.uniform(0.3, 0.6)
    wall, rise = rng.uniform(0.003, 0.007), np.linspace(0, 1, 12)
    outer = np.stack([foot + (radius - foot) * rise ** rng.uniform(0.3, 0.8), height * rise], axis=1)
    return Shape([(_hollow(outer, wall), _inside_and_outside(rng))])


def can(rng: Rng) -> Shape:
    """A cylinder between two rims, flat as a tin of fish or tall as one of a drink, with a print."""
    radius = rng.uniform(0.026, 0.05)
    height = float(np.clip(radius * rng.uniform(1.2, 4.6), 0.045, 0.19))
    tapers, rim = rng.uniform(0, 0.16) * radius, rng.uniform(0.001, 0.003)
    narrow, low, high = radius - tapers, rng.uniform(0.03, 0.1), rng.uniform(0.88, 0.97)
    profile = [(narrow, 0), (radius, low * height), (radius, high * height), (narrow, height)]
    profile += [(narrow - rim, height), (narrow - rim, height - 0.004), (0, height - 0.004)]
    metal = METAL if rng.random() < 0.7 else random_colour(rng)
    image = label(rng, 192, 384) if rng.random() < 0.8 else random_texture(rng, 192, 256)
    return Shape([(_revolved(np.array(profile), [1, 0, 1, 1, 1, 1]), [image, metal, metal])])


def mug(rng: Rng) -> Shape:
    """A hollow cylinder, cone or barrel, with a handle towards +x."""
    radius = rng.uniform(0.032, 0.052)
    height, wall = radius * rng.uniform(1.6, 2.8), rng.uniform(0.003, 0.005)
    rise = np.linspace(0, 1, 10)
    radii = radius * (
        1 + rng.uniform(-0.3, 0.08) * (1 - rise) + rng.uniform(-0.08, 0.14) * np.sin(np.pi * rise)
    )
    outer = np.stack([radii, height * rise], axis=1)
    paints = _inside_and_outside(rng)
    low, high = rng.uniform(0.12, 0.3) * height, rng.uniform(0.68, 0.92) * height
    near = [np.interp(z, outer[:, 1], radii) - wall / 2 for z in (low, high)]
    far = max(near) + radius * rng.uniform(0.35, 0.85)
    bend = rng.uniform(0, 0.25) * (high - low)
    knots = [(near[0], 0, low), (far, 0, low + bend), (far, 0, high - bend), (near[1], 0, high)]
    thick = rng.uniform(0.006, 0.012, 2)
    ring = solids.sweep(solids.smooth(np.array(knots), 6), solids.superellipse(*thick, 2.5, 12))
    own = paints[1] if rng.random() < 0.8 else random_colour(rng)
    return Shape([(_hollow(outer, wall), paints)], [(ring, [own])])


def camera(rng: Rng) -> Shape:
    """A body with a lens in front, a hump for the viewfinder, a button and sometimes a grip."""
    width = rng.uniform(0.09, 0.15)
    height, depth = width * rng.uniform(0.52, 0.8), width * rng.uniform(0.22, 0.5)
    skin = rng.choice([rng.uniform(15, 60), rng.uniform(150, 215)]) * np.ones(3)
    skin = random_colour(rng) if rng.random() < 0.3 else skin
    trim = skin if rng.random() < 0.5 else np.full(3, rng.uniform(15, 220))
    body = solids.box((width, depth, height), rng.uniform(0.05, 0.3) * min(depth, height))
    parts: list[Painted] = [(body, [skin])]
    lens_radius = height * rng.uniform(0.27, 0.46)
    aside = rng.uniform(-0.12, 0.12) * width
    tube = _lens(rng, lens_radius, width * rng.uniform(0.08, 0.6))
    place = (aside, -0.48 * depth, rng.uniform(-0.06, 0.02) * height)
    parts.append((tube.moved(turn=(90, 0, 0)).moved(place), [trim, (18, 20, 35), trim]))
    hump = np.array([rng.uniform(0.2, 0.42) * width, rng.uniform(0.5, 0.9) * depth])
    rise = rng.uniform(0.1, 0.26) * height
    prism = solids.loft(np.stack([_rectangle(hump * grow, z) for grow, z in ((1, 0), (0.7, rise))]))
    across = aside if rng.random() < 0.6 else -rng.uniform(0.2, 0.3) * width
    parts.append((prism.moved((across, 0, 0.495 * height)), [trim]))
    button = _revolved(np.array([(0.055 * width, 0), (0.055 * width, rng.uniform(0.03, 0.09) * height)]))
    parts.append((button.moved((0.36 * width, 0, 0.495 * height)), [METAL]))
    if rng.random() < 0.5:
        grip = solids.box((0.17 * width, rng.uniform(0.2, 0.5) * depth, 0.85 * height), 0.03 * width)
        parts.append((grip.moved((-0.39 * width, -0.5 * depth, -0.04 * height)), [skin * 0.8]))
    return Shape(parts)


def laptop(rng: Rng) -> Shape:
    """A slab with keys, and a lid with a screen that is open by 85 to 135 degrees."""
    width = rng.uniform(0.25, 0.38)
    depth = width * rng.uniform(0.6, 0.76)
    base, lid = rng.uniform(0.01, 0.026), rng.uniform(0.004, 0.01)
    skin = rng.choice([rng.uniform(20, 70), rng.uniform(140, 220)]) * np.ones(3)
    skin = random_colour(rng) if rng.random() < 0.2 else skin
    inside = skin if rng.random() < 0.6 else np.full(3, rng.uniform(15, 90))
    keys, shown = keyboard(rng, inside, 176, 256), screen(rng, 160, 256)
    lower = solids.box((width, depth, base), 0.3 * base).moved((0, 0, base / 2))
    long = depth * rng.uniform(0.9, 1)
    upper = solids.box((width, lid, long), 0.3 * lid).moved((0, -lid / 2, long / 2))
    upper = upper.moved(turn=(90 - rng.uniform(85, 135), 0, 0)).moved((0, depth / 2, 0.9 * base))
    looks: list[list[Paint]] = [[skin] * 6, [skin] * 6]
    looks[0][solids.BOX_TOP], looks[1][solids.BOX_FRONT] = keys, shown
    return Shape([(lower, looks[0]), (upper, looks[1])])


FAMILIES: tuple[Callable[[Rng], Shape], ...] = (bottle, bowl, camera, can, laptop, mug)  # as NOCS's classes


def _revolved(profile: np.ndarray, surfaces: np.ndarray | list[int] | None = None) -> Solid:
    return solids.revolve(profile, outline=solids.circle(1.0, SECTIONS), surfaces=surfaces)


def _hollow(outer: np.ndarray, wall: float) -> Solid:
    """A vessel of an outer profile (N, 2) and a wall's thickness; surfaces: outside, rim and inside."""
    inner = np.stack([outer[:, 0] - wall, outer[:, 1].clip(wall)], axis=1)[::-1]
    profile = np.concatenate([[(0, 0)], outer, inner, [(0, wall)]])
    return _revolved(profile, [1] + [0] * (len(outer) - 1) + [1] * (len(outer) + 1))


def _inside_and_outside(rng: Rng) -> list[Paint]:
    """Paints of a vessel: half have a pattern or a print outside."""
    inside = np.full(3, rng.uniform(200, 245)) if rng.random() < 0.4 else random_colour(rng)
    if rng.random() < 0.5:
        return [random_texture(rng, 128, 384), inside]
    return [inside if rng.random() < 0.5 else random_colour(rng), inside]


def _lens(rng: Rng, radius: float, length: float) -> Solid:
    """A tube along +z, narrower or wider in steps, with a hollow front; surfaces: tube, glass, back."""
    steps = int(rng.integers(1, 4))
    radii = radius * np.concatenate([[1], rng.uniform(0.8, 1, steps - 1)])
    ends = length * np.linspace(0, 1, steps + 1)
    tube = [(r, z) for r, span in zip(radii, pairwise(ends), strict=True) for z in span]
    rim, deep = 0.85 * radii[-1], length * rng.uniform(0.75, 0.95)
    glass = [(rim, length), (0.8 * rim, deep), (0.4 * rim, deep + 0.03 * length), (0, deep + 0.04 * length)]
    return _revolved(np.array(tube + glass), [0] * len(tube) + [1] * 3)


def _rectangle(size: np.ndarray, z: float) -> np.ndarray:
    """(4, 3) corners about the axis."""
    return np.array([[x * size[0] / 2, y * size[1] / 2, z] for x, y in ((1, 1), (-1, 1), (-1, -1), (1, -1))])
