"""Random procedural objects for training without downloads.

Each family has random sizes and proportions; `random_shape` picks one and paints it.
"""

from collections.abc import Callable

import numpy as np

from picopose.rendering.mesh import Mesh
from picopose.rendering.procedural import solids, textures
from picopose.rendering.procedural.painting import Paint, paint
from picopose.rendering.procedural.prints import label, random_texture
from picopose.rendering.procedural.solids import Solid

MIN_SIZE, MAX_SIZE = 0.05, 0.28  # m, the largest extent of a random shape
TEXTURE_PX = 256

Rng = np.random.Generator


def random_shape(rng: Rng) -> Mesh:
    """A closed object of 4 to 30 cm with a random form and look, its origin near its centre."""
    family = FAMILIES[rng.integers(len(FAMILIES))]
    parts = family(rng)
    points = np.concatenate([part.corners.reshape(-1, 3) for part in parts])
    low, high = points.min(axis=0), points.max(axis=0)
    scale = rng.uniform(MIN_SIZE, MAX_SIZE) / (high - low).max()
    # Real models have their origin near the bottom or the middle.
    origin = (low + high) / 2 + rng.normal(0, 0.03, 3) * (high - low)
    parts = [part.moved(-origin).stretched(scale, scale, scale) for part in parts]
    return paint(list(zip(parts, _paints(rng, parts), strict=True)))


# Families: shapes in arbitrary units, z up.


def _outline(rng: Rng) -> np.ndarray:
    """A unit cross-section: mostly round, else oval, squarish, fluted or a regular polygon."""
    kind = rng.random()
    if kind < 0.5:
        return solids.circle(1.0)
    if kind < 0.75:
        return solids.superellipse(2, 2 * rng.uniform(0.4, 1), rng.uniform(2, 7))
    if kind < 0.85:
        points = solids.circle(1.0)
        angle = np.arange(len(points)) * 2 * np.pi / len(points)
        return points * (1 + rng.uniform(0.02, 0.1) * np.cos(rng.integers(3, 12) * angle))[:, None]
    return solids.circle(1.0, int(rng.integers(3, 9)))


def _box(rng: Rng) -> list[Solid]:
    size = rng.uniform(0.15, 1, 3)
    return [solids.box(size, rng.choice([0, rng.uniform(0.02, 0.4)]) * size.min())]


def _can(rng: Rng) -> list[Solid]:
    radius, height, lip = 1.0, rng.uniform(0.4, 4), rng.uniform(0, 0.08)
    profile = [(1 - lip, 0), (radius, lip), (radius, height - lip), (1 - lip, height)]
    return [solids.revolve(np.array(profile), outline=_outline(rng), surfaces=[1, 0, 1])]


def _bottle(rng: Rng) -> list[Solid]:
    """A surface of revolution: a smooth random profile, often with a neck and a cap."""
    heights = np.linspace(0, rng.uniform(1.5, 5), 6)
    radii = 1 + rng.uniform(0, 0.5) * rng.normal(size=6).clip(-1.2, 1.2)
    radii = (radii * np.linspace(1, rng.uniform(0.3, 1.1), 6)).clip(0.15)
    profile = solids.smooth(np.stack([radii, heights], axis=1), steps=4)
    profile[:, 0] = profile[:, 0].clip(0.1)
    body = solids.revolve(profile, outline=_outline(rng))
    if rng.random() < 0.5:
        return [body]
    radius, height = radii[-1] * rng.uniform(0.6, 1.2), rng.uniform(0.2, 0.8)
    cap = solids.revolve(np.array([(radius, 0), (radius * rng.uniform(0.6, 1), height)]))
    return [body, cap.moved((0, 0, heights[-1] - 0.02))]


def _bowl(rng: Rng) -> list[Solid]:
    """A vessel with a wall: cup, bowl, pot or vase; a handle makes it a mug."""
    height, wall = rng.uniform(0.5, 2.6), rng.uniform(0.06, 0.15)
    n = 9
    z = np.linspace(0, height, n)
    radius = 1 + rng.uniform(-0.4, 0.5) * (z / height - 1) + rng.uniform(-0.2, 0.2) * np.sin(3 * z / height)
    outer = np.stack([radius, z], axis=1)
    inner = np.stack([radius - wall, z.clip(wall)], axis=1)[::-1]
    profile = np.concatenate([[(0, 0)], outer, inner, [(0, wall)]])
    surfaces = [1] + [0] * (n - 1) + [2] + [1] * n
    parts = [
        solids.revolve(profile, outline=_outline(rng) if rng.random() < 0.3 else None, surfaces=surfaces)
    ]
    if rng.random() < 0.6:
        reach, low, high = rng.uniform(0.4, 0.9), rng.uniform(0.1, 0.3), rng.uniform(0.6, 0.9)
        r_low, r_high = np.interp([low * height, high * height], z, radius) - wall / 2
        knots = [(r_low, 0, low * height), (r_low + reach, 0, (low + 0.1) * height)]
        knots += [(r_high + reach, 0, (high - 0.1) * height), (r_high, 0, high * height)]
        thick = rng.uniform(0.06, 0.14)
        parts.append(solids.sweep(solids.smooth(np.array(knots), 6), solids.circle(thick, 12)))
    return parts


def _prism(rng: Rng) -> list[Solid]:
    return [solids.extrude(_flat_outline(rng), rng.uniform(0.1, 1.2), rng.choice([0, 0.03]))]


def _flat_outline(rng: Rng) -> np.ndarray:
    """A polygon of about unit size: regular, star, gear, L, U, or a wobbly blob."""
    kind = rng.integers(6)
    if kind == 0:
        return solids.circle(1.0, int(rng.integers(3, 9)))
    if kind == 1:
        n = int(rng.integers(4, 9))
        return solids.circle(1.0, 2 * n) * np.tile([1.0, rng.uniform(0.45, 0.8)], n)[:, None]
    if kind == 2:
        n = int(rng.integers(6, 14))
        return solids.circle(1.0, 4 * n) * np.tile([1.0, 1.0, 0.8, 0.8], n)[:, None]
    if kind == 3:
        width, (a, b) = rng.uniform(0.7, 2), rng.uniform(0.2, 0.6, 2)
        return np.array([(0, 0), (width, 0), (width, a), (b, a), (b, 1), (0, 1)])
    if kind == 4:
        a, b, c = rng.uniform(0.2, 0.35), rng.uniform(0.2, 0.4), rng.uniform(0.6, 1.2)
        return np.array([(0, 0), (1, 0), (1, c), (1 - a, c), (1 - a, b), (a, b), (a, c), (0, c)])
    angle = np.arange(40) * (2 * np.pi / 40)
    radius = 1 + sum(rng.uniform(-0.15, 0.15) * np.cos(k * angle + rng.uniform(0, 6)) for k in (2, 3, 4, 5))
    return solids.circle(1.0, 40) * radius[:, None]


def _ring(rng: Rng) -> list[Solid]:
    """A torus, nut, frame or tape roll."""
    if rng.random() < 0.4:
        path = np.pad(solids.circle(1.0, 40) * [1, rng.uniform(0.6, 1)], ((0, 0), (0, 1)))
        tube = solids.superellipse(*rng.uniform(0.2, 0.7, 2), rng.uniform(2, 5), 20)
        return [solids.sweep(path, tube, closed=True)]
    outer = solids.circle(1.0, 48) if rng.random() < 0.5 else _ngon(6, 48)
    inner = solids.circle(1.0, 48) if rng.random() < 0.7 else _ngon(4, 48)
    return [solids.frame(outer, inner * rng.uniform(0.4, 0.65), rng.uniform(0.2, 1.5))]


def _ngon(sides: int, sections: int) -> np.ndarray:
    """A regular polygon of `sides` corners, sampled at equal angles."""
    angle = np.arange(sections) * (2 * np.pi / sections)
    half = np.pi / sides
    return solids.circle(1.0, sections) * (np.cos(half) / np.cos((angle % (2 * half)) - half))[:, None]


def _superquadric(rng: Rng) -> list[Solid]:
    north, east = rng.uniform(0.3, 1.6, 2)
    return [solids.superquadric(rng.uniform(0.4, 1, 3), north, east, 40)]


def _bent_tube(rng: Rng) -> list[Solid]:
    """A tube along a random curve whose girth changes: fruit, horns, hooks, hoses."""
    knots = np.cumsum(rng.normal([1, 0, 0], [0.1, 0.45, 0.45], (5, 3)), axis=0)
    path = solids.smooth(knots, 7)
    girth = solids.smooth(rng.uniform(0.5, 1.2, (5, 1)), 7)[:, 0]
    taper = np.sqrt(np.sin(np.linspace(0.12, np.pi - 0.12, len(path)))) if rng.random() < 0.6 else 1.0
    outline = solids.superellipse(*rng.uniform(0.3, 0.8, 2), rng.uniform(2, 4), 24)
    return [solids.sweep(path, outline, scale=girth * taper)]


def _tool(rng: Rng) -> list[Solid]:
    """A handle with a head at its end: hammers, brushes, spoons, screwdrivers, torches."""
    length, thick = rng.uniform(2, 4), rng.uniform(0.12, 0.3)
    heights = np.linspace(0, length, 6)
    radii = thick * rng.uniform(0.7, 1.2, 6)
    profile = solids.smooth(np.stack([radii, heights], axis=1), 3)
    handle = solids.revolve(profile, outline=_outline(rng))
    head_kind = [_box, _can, _superquadric, _prism, _ring][rng.integers(5)]
    turn = (90, 0, 90 * rng.integers(4)) if rng.random() < 0.7 else (0, 0, 0)
    head = [part.moved(turn=turn) for part in head_kind(rng)]
    points = np.concatenate([part.corners.reshape(-1, 3) for part in head])
    scale = rng.uniform(0.6, 1.4) / np.ptp(points, axis=0).max()
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    head = [p.moved(-centre).stretched(scale, scale, scale).moved((0, 0, length)) for p in head]
    return [handle, *head]


def _assembly(rng: Rng) -> list[Solid]:
    """Two to five simple parts grown onto each other: toys, fittings, appliances."""
    kinds = [_box, _can, _superquadric, _prism, _box]
    parts: list[Solid] = []
    for _ in range(int(rng.integers(2, 6))):
        part = kinds[rng.integers(len(kinds))](rng)[0]
        points = part.corners.reshape(-1, 3)
        centre, scale = points.mean(axis=0), rng.uniform(0.4, 1) / np.ptp(points, axis=0).max()
        turn = 90.0 * rng.integers(4, size=3) if rng.random() < 0.8 else rng.uniform(0, 360, 3)
        part = part.moved(-centre).stretched(scale, scale, scale).moved(turn=turn)
        if parts:  # centred on the surface so far
            surface = np.concatenate([p.corners for p in parts])
            face = surface[rng.integers(len(surface))]
            part = part.moved(rng.dirichlet(np.ones(3)) @ face)
        parts.append(part)
    return parts


def _bracket(rng: Rng) -> list[Solid]:
    """Plates at right angles, some with a stiffener or pegs."""
    width, thick = rng.uniform(0.3, 1), rng.uniform(0.06, 0.15)
    base = solids.box((1, width, thick))
    wall_height = rng.uniform(0.4, 1.2)
    wall = solids.box((thick, width, wall_height)).moved((-0.5 + thick / 2, 0, wall_height / 2))
    parts = [base, wall]
    for _ in range(int(rng.integers(0, 4))):
        peg = solids.revolve(np.array([(0.08, 0), (0.08, rng.uniform(0.1, 0.5))]), outline=_outline(rng))
        parts.append(peg.moved((rng.uniform(-0.3, 0.4), rng.uniform(-0.35, 0.35) * width, thick / 4)))
    if rng.random() < 0.6:
        rib = solids.extrude(np.array([(0, 0), (0.6, 0), (0, 0.8 * wall_height)]), thick)
        side = rng.uniform(-0.4, 0.4) * width
        parts.append(rib.moved(turn=(90, 0, 0)).moved((-0.5, side, 0)))
    return parts


FAMILIES: tuple[Callable[[Rng], list[Solid]], ...] = (
    *(_box, _box, _can, _can, _bottle, _bottle, _bowl, _bowl),  # twice, as the most common goods
    *(_prism, _ring, _superquadric, _bent_tube, _tool, _tool, _assembly, _assembly, _bracket),
)


def _paints(rng: Rng, parts: list[Solid]) -> list[list[Paint]]:
    """Paints for all parts: plain colours for a fifth of the objects, otherwise images on most surfaces."""
    if rng.random() < 0.2:
        shared = textures.random_colour(rng)
        alike = rng.random() < 0.5
        return [[shared if alike else textures.random_colour(rng)] for _ in parts]
    one_image = random_texture(rng, TEXTURE_PX, TEXTURE_PX)
    one_for_all = rng.random() < 0.3
    return [_surface_paints(rng, part, one_image if one_for_all else None) for part in parts]


def _surface_paints(rng: Rng, part: Solid, image: np.ndarray | None) -> list[Paint]:
    """Paints for one part: one image all over, or each surface its own print or colour."""
    if image is not None:
        return [image]
    base = textures.random_colour(rng)
    paints: list[Paint] = []
    for surface in range(part.n_surfaces):
        kind = rng.random() - (0.3 if surface == 0 else 0)
        if kind < 0.3:
            height, width = _image_size(part, surface)
            maker = label if rng.random() < 0.4 else random_texture
            paints.append(maker(rng, height, width))
        elif kind < 0.5:
            paints.append(random_texture(rng, TEXTURE_PX // 2, TEXTURE_PX // 2))
        else:
            paints.append(base)
    return paints


def _image_size(part: Solid, surface: int) -> tuple[int, int]:
    """Height and width (px) of an image with about the surface's own proportions."""
    mine = part.surface == surface
    corners, uv = part.corners[mine], part.uv[mine]
    edges, spans = np.roll(corners, -1, axis=1) - corners, np.roll(uv, -1, axis=1) - uv
    length = np.linalg.norm(edges, axis=-1)
    per_u = (length * np.abs(spans[..., 0])).sum() / (spans[..., 0] ** 2).sum().clip(1e-9)
    per_v = (length * np.abs(spans[..., 1])).sum() / (spans[..., 1] ** 2).sum().clip(1e-9)
    ratio = np.clip(per_u / max(per_v, 1e-9), 0.34, 3)
    side = TEXTURE_PX / np.sqrt(ratio)
    return round(side), round(side * ratio)
