"""Closed solids as textured triangle soups: the geometry of the procedural objects.

Everything is a rounded box or a loft (a tube of rings); `painting` colours them and makes meshes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

SECTIONS = 48  # corners of a circle


@dataclass(frozen=True)
class Solid:
    """A closed surface of F triangles, each belonging to one of several paintable surfaces."""

    corners: np.ndarray  # (F, 3, 3) m, counter-clockwise seen from outside
    uv: np.ndarray  # (F, 3, 2) in [0, 1] over the triangle's surface; u to the right, v up seen from outside
    surface: np.ndarray  # (F,) int, 0 ... n_surfaces - 1

    @property
    def n_surfaces(self) -> int:
        return int(self.surface.max()) + 1

    def moved(self, offset: Sequence[float] = (0, 0, 0), turn: Sequence[float] = (0, 0, 0)) -> Solid:
        """Turned about the fixed x, y and z axes in this order (degrees), then shifted (m)."""
        rotation = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
        return Solid(self.corners @ rotation.T + np.asarray(offset, float), self.uv, self.surface)

    def stretched(self, x: float = 1, y: float = 1, z: float = 1) -> Solid:
        """Scaled along the axes by positive factors."""
        return Solid(self.corners * np.array([x, y, z]), self.uv, self.surface)


def circle(radius: float, sections: int = SECTIONS) -> np.ndarray:
    """(sections, 2) points, counter-clockwise."""
    angle = np.arange(sections) * (2 * np.pi / sections)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def superellipse(width: float, depth: float, exponent: float, sections: int = SECTIONS) -> np.ndarray:
    """(sections, 2) points of |2x/width|^e + |2y/depth|^e = 1: an ellipse (2) to nearly a rectangle (8)."""
    unit = circle(1.0, sections)
    radius = (np.abs(unit) ** exponent).sum(axis=1) ** (-1 / exponent)
    return unit * radius[:, None] * np.array([width / 2, depth / 2])


def _triangulate(outline: np.ndarray) -> np.ndarray:
    """Triangles (T, 3, 2) of a simple counter-clockwise polygon (M, 2): a fan, or else ear clipping."""
    following = np.roll(outline, -1, axis=0)
    centre = outline.mean(axis=0)
    fan = np.stack([np.broadcast_to(centre, outline.shape), outline, following], axis=1)
    if (_area(fan) > 0).all():
        return fan
    remaining, triangles = list(range(len(outline))), []
    while len(remaining) > 3:
        ear = _best_ear(outline[remaining])
        around = [remaining[ear - 1], remaining[ear], remaining[(ear + 1) % len(remaining)]]
        triangles.append(outline[around])
        del remaining[ear]
    return np.array([*triangles, outline[remaining]])


def _area(triangles: np.ndarray) -> np.ndarray:
    """Signed areas (T,) of (T, 3, 2)."""
    a, b = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    return (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2


def _best_ear(polygon: np.ndarray) -> int:
    """The corner of a polygon (M, 2) that can be cut off and leaves the best-shaped triangle."""
    before, after = np.roll(polygon, 1, axis=0), np.roll(polygon, -1, axis=0)
    ears = np.stack([before, polygon, after], axis=1)  # (M, 3, 2)
    edges = np.roll(ears, -1, axis=1) - ears
    to_point = polygon[None, None] - ears[:, :, None]  # (M, 3, M, 2)
    side = edges[:, :, None, 0] * to_point[..., 1] - edges[:, :, None, 1] * to_point[..., 0]
    own = (np.abs(polygon[None, None] - ears[:, :, None]).sum(-1) < 1e-9).any(axis=1)
    blocked = ((side > -1e-12).all(axis=1) & ~own).any(axis=1)
    quality = _area(ears) / (edges**2).sum(axis=(1, 2))
    return int(np.argmax(np.where(blocked, -1.0, quality)))


def _cap(ring: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (T, 3, 3) and uv of the flat face in a planar ring (M, 3), counter-clockwise from outside."""
    normal = np.cross(ring, np.roll(ring, -1, axis=0)).sum(axis=0)
    normal = normal / np.linalg.norm(normal)
    right = np.eye(3)[0 if abs(normal[0]) < 0.9 else 1]
    right = right - (right @ normal) * normal
    axes = np.stack([right / np.linalg.norm(right), np.cross(normal, right / np.linalg.norm(right))])
    centre = ring.mean(axis=0)
    flat = (ring - centre) @ axes.T
    low, extent = flat.min(axis=0), np.ptp(flat, axis=0).max()
    triangles = _triangulate(flat)
    margin = (1 - np.ptp(flat, axis=0) / extent) / 2
    # Corners are looked up, not rotated back, so that the seam to the walls is exact.
    known = {tuple(key): point for key, point in zip(flat, ring, strict=True)}
    corners = [known.get(tuple(xy), centre) for xy in triangles.reshape(-1, 2)]
    return np.array(corners).reshape(-1, 3, 3), (triangles - low) / extent + margin


def _join(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Solid:
    corners, uv, surface = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    proper = np.linalg.norm(cross, axis=1) > 1e-13  # m^2; collapsed quads at poles are left out
    return Solid(corners[proper], uv[proper].clip(0, 1), surface[proper])


def loft(
    rings: np.ndarray, *, surfaces: Sequence[int] | None = None, caps: bool = True, closed: bool = False
) -> Solid:
    """A tube through rings (N, M, 3) that run counter-clockwise about the direction of travel.

    `surfaces` (one per band between rings) names the paintable surface of each band; the flat caps at the
    first and last ring become two surfaces more. `closed`: the last ring joins the first; no caps.
    """
    if closed:
        rings = np.concatenate([rings, rings[:1]])
    bands = np.zeros(len(rings) - 1, int) if surfaces is None else np.asarray(surfaces)
    length = np.linalg.norm(np.diff(rings, axis=0), axis=-1).mean(axis=1)
    v = np.zeros((2, len(bands)))
    for index in np.unique(bands):
        mine = bands == index
        ends = np.cumsum(length[mine])
        v[:, mine] = np.stack([ends - length[mine], ends]) / max(ends[-1], 1e-12)
    grid = np.concatenate([rings, rings[:, :1]], axis=1)  # the seam, twice
    u = np.cumsum(np.linalg.norm(np.diff(grid, axis=1), axis=-1).mean(axis=0))
    u = np.concatenate([[0.0], u]) / u[-1]
    quads = np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], axis=2)
    u, v = np.broadcast_arrays(u[None, :], v[:, :, None])  # (2, N-1, M+1)
    low, high = np.stack([u[0], v[0]], axis=-1), np.stack([u[1], v[1]], axis=-1)
    quad_uv = np.stack([low[:, :-1], low[:, 1:], high[:, 1:], high[:, :-1]], axis=2)
    halves = [0, 1, 2, 0, 2, 3]
    corners, uv = quads[:, :, halves].reshape(-1, 3, 3), quad_uv[:, :, halves].reshape(-1, 3, 2)
    parts = [(corners, uv, np.repeat(bands, 2 * rings.shape[1]))]
    if caps and not closed:
        for k, ring in enumerate((rings[0, ::-1], rings[-1])):
            face, face_uv = _cap(ring)
            parts.append((face, face_uv, np.full(len(face), bands.max() + 1 + k)))
    return _join(parts)


def _at_heights(outlines: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Rings (N, M, 3) from outlines (N, M, 2) at heights (N,)."""
    z = np.broadcast_to(np.asarray(heights, float)[:, None, None], (*outlines.shape[:2], 1))
    return np.concatenate([outlines, z], axis=2)


def revolve(
    profile: np.ndarray,
    *,
    outline: np.ndarray | None = None,
    surfaces: Sequence[int] | None = None,
) -> Solid:
    """A profile (N, 2) of (radius, height) swept about z; outside parts run upwards, inside ones downwards.

    `outline` (M, 2) replaces the unit circle as the cross-section. Ends off the axis are capped.
    """
    profile = np.asarray(profile, float)
    outline = circle(1.0) if outline is None else outline
    rings = _at_heights(outline[None] * profile[:, 0, None, None], profile[:, 1])
    solid = loft(rings, surfaces=surfaces, caps=False)
    if (profile[[0, -1], 0] < 1e-9).all():
        return solid
    parts = [(solid.corners, solid.uv, solid.surface)]
    for ring in (rings[0, ::-1], rings[-1]):
        if np.ptp(ring[:, 0]) > 1e-9:
            face, uv = _cap(ring)
            parts.append((face, uv, np.full(len(face), parts[-1][2].max() + 1)))
    return _join(parts)


def extrude(outline: np.ndarray, height: float, bevel: float = 0.0) -> Solid:
    """A prism over a simple counter-clockwise polygon (M, 2), from z = 0; surfaces: side, bottom, top."""
    outline = np.asarray(outline, float)
    if bevel <= 0:
        return loft(_at_heights(np.stack([outline, outline]), np.array([0, height])))
    small = inset(outline, bevel)
    outlines = np.stack([small, outline, outline, small])
    return loft(_at_heights(outlines, np.array([0, bevel, height - bevel, height])))


def inset(outline: np.ndarray, distance: float) -> np.ndarray:
    """A counter-clockwise polygon (M, 2) with every edge moved inwards by `distance` (mitred corners)."""
    edge = np.roll(outline, -1, axis=0) - outline
    normal = np.stack([-edge[:, 1], edge[:, 0]], axis=1) / np.linalg.norm(edge, axis=1, keepdims=True)
    other = np.roll(normal, 1, axis=0)
    return outline + distance * (normal + other) / (1 + (normal * other).sum(axis=1, keepdims=True)).clip(0.3)


def frame(outer: np.ndarray, inner: np.ndarray, height: float) -> Solid:
    """A prism with one hole, from outlines (M, 2) of equal length; surfaces: outside, top, hole, bottom."""
    outlines = np.stack([outer, outer, inner, inner])
    rings = _at_heights(outlines, np.array([0, height, height, 0]))
    return loft(rings, surfaces=[0, 1, 2, 3], closed=True)


def sweep(
    path: np.ndarray, outline: np.ndarray, *, scale: np.ndarray | float = 1.0, closed: bool = False
) -> Solid:
    """An outline (M, 2) carried along a path (N, 3) without twist, scaled by (N,) factors."""
    path = np.asarray(path, float)
    along = np.roll(path, -1, axis=0) - np.roll(path, 1, axis=0) if closed else np.gradient(path, axis=0)
    tangents = along / np.linalg.norm(along, axis=1, keepdims=True)
    right = np.eye(3)[np.argmin(np.abs(tangents[0]))]
    scale = np.broadcast_to(scale, len(path))
    rings = []
    for point, tangent, factor in zip(path, tangents, scale, strict=True):
        right = right - (right @ tangent) * tangent
        right = right / np.linalg.norm(right)
        axes = np.stack([right, np.cross(tangent, right)])
        rings.append(point + factor * outline @ axes)
    return loft(np.array(rings), closed=closed)


def superquadric(size: Sequence[float], north: float, east: float, sections: int = SECTIONS) -> Solid:
    """A superquadric of full size (3,) about the origin (Barr 1981); exponents: 1 round, towards 0 boxy."""

    def power(x: np.ndarray, exponent: float) -> np.ndarray:
        return np.sign(x) * np.abs(x).clip(1e-12) ** exponent

    latitude = np.linspace(-np.pi / 2, np.pi / 2, sections // 2 + 1)
    around = power(circle(1.0, sections), east)
    radius = power(np.cos(latitude), north)
    radius[[0, -1]] = 0
    rings = _at_heights(around[None] * radius[:, None, None], power(np.sin(latitude), north))
    return loft(rings * np.asarray(size) / 2, caps=False)


# The box's faces seen from outside: normal and upward direction. Their order is the order of the surfaces.
_BOX_FACES = ((0, 1, 2), (0, -1, 2), (1, 1, 2), (1, -1, 2), (2, 1, 1), (2, -1, 1))
BOX_RIGHT, BOX_LEFT, BOX_BACK, BOX_FRONT, BOX_TOP, BOX_BOTTOM = range(6)  # +x -x +y -y +z -z


def box(size: Sequence[float], radius: float = 0.0) -> Solid:
    """A box of full size (3,) about the origin, its edges rounded; surfaces in the order of BOX_*."""
    half = np.asarray(size, float) / 2
    radius = min(radius, half.min() * 0.999)
    bends = radius * np.tan(np.pi / 4 * np.linspace(0, 1, 3))
    inner = half - radius
    parts = []
    for index, (axis, sign, up) in enumerate(_BOX_FACES):
        normal, upward = sign * np.eye(3)[axis], np.eye(3)[up]
        rightward = np.cross(upward, normal)
        s, t = (_box_lines(abs(direction) @ half, radius, bends) for direction in (rightward, upward))
        t, s = np.meshgrid(t, s, indexing="ij")
        points = s[..., None] * rightward + t[..., None] * upward + normal * half
        core = points.clip(-inner, inner)
        if radius > 0:
            away = points - core
            points = core + radius * away / np.linalg.norm(away, axis=-1, keepdims=True)
        uv = np.stack([s / np.ptp(s), t / np.ptp(t)], axis=-1) + 0.5
        grids = [np.stack([g[:-1, :-1], g[:-1, 1:], g[1:, 1:], g[1:, :-1]], axis=2) for g in (points, uv)]
        corners, face_uv = (g[:, :, [0, 1, 2, 0, 2, 3]].reshape(-1, 3, g.shape[-1]) for g in grids)
        parts.append((corners, face_uv, np.full(len(corners), index)))
    return _join(parts)


def _box_lines(half: float, radius: float, bends: np.ndarray) -> np.ndarray:
    """Grid lines across a face: its ends and, for round edges, where the rounding bends."""
    if radius <= 0:
        return np.array([-half, half])
    positive = half - radius + bends
    return np.concatenate([-positive[::-1], positive])


def smooth(points: np.ndarray, steps: int = 8) -> np.ndarray:
    """A Catmull-Rom curve through points (N, d): (steps (N - 1) + 1, d)."""
    points = np.asarray(points, float)
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    a, b, c, d = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = (np.arange(steps) / steps)[:, None, None]
    curve = b + t / 2 * ((c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * (3 * (b - c) + d - a)))
    return np.concatenate([curve.swapaxes(0, 1).reshape(-1, points.shape[1]), points[-1:]])
