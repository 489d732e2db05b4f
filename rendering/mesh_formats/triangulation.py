"""Cuts the polygons of a mesh file into triangles."""

import itertools

import numpy as np

FLAT = 1e-9  # of a polygon's area; less is rounding
MAX_CONCAVE = 1000  # corners; the time grows with the square


def triangulate(
    vertices: np.ndarray, corners: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Triangulates polygons, which may be concave; the triangles of a polygon are consecutive.

    Args:
        vertices: (V, 3).
        corners: (N,) vertex of each corner, polygon by polygon.
        sizes: (P,) corners of each polygon, 3 or more.

    Returns:
        (F, 3) indices into `corners`, and (F,) the polygon of each triangle.
    """
    if not np.isfinite(vertices).all():
        raise ValueError("it has vertices that are NaN or infinite")
    if len(corners) and (corners.min() < 0 or corners.max() >= len(vertices)):
        raise ValueError("a face has a vertex that does not exist")
    if (sizes < 3).any():
        raise ValueError("a face has fewer than three corners")
    starts = np.cumsum(sizes) - sizes
    counts = sizes - 2
    owner = np.repeat(np.arange(len(sizes)), counts)
    step = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    first = starts[owner]
    triangles = np.stack([first, first + step + 1, first + step + 2], axis=1)
    if (sizes == 3).all():
        return triangles, owner
    for polygon in np.unique(owner[_turned(vertices[corners[triangles]], owner, sizes)]):
        own = starts[polygon] + np.arange(sizes[polygon])
        begin = np.searchsorted(owner, polygon)
        triangles[begin : begin + counts[polygon]] = own[_cut(vertices[corners[own]])]
    return triangles, owner


def _turned(points: np.ndarray, owner: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which triangles (F,) of a fan (F, 3, 3) face against their polygon, so it is concave."""
    normals = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
    whole = np.stack([np.bincount(owner, axis, len(sizes)) for axis in normals.T], axis=1)
    return (normals * whole[owner]).sum(axis=1) < -FLAT * np.square(whole[owner]).sum(axis=1)


def _cut(points: np.ndarray) -> np.ndarray:
    """Triangles (N - 2, 3) of a concave polygon (N, 3)."""
    if len(points) == 4:
        return np.array([[1, 2, 3], [1, 3, 0]])  # along the other diagonal
    if len(points) > MAX_CONCAVE:
        raise ValueError(f"a concave face has {len(points)} corners")
    return _ears(_flat(points))


def _flat(points: np.ndarray) -> np.ndarray:
    """A polygon's corners (N, 3) projected along its dominant axis (N, 2), counter-clockwise."""
    middle = points - points[0]
    normal = np.cross(middle[:-1], middle[1:]).sum(axis=0)
    axis = np.abs(normal).argmax()
    across = [(axis + 1) % 3, (axis + 2) % 3]
    return middle[:, across if normal[axis] > 0 else across[::-1]]


def _ears(points: np.ndarray) -> np.ndarray:
    """Triangles (N - 2, 3) of a simple polygon (N, 2), counter-clockwise, by cutting off its ears."""
    places = [complex(x, y) for x, y in points.tolist()]  # plain Python: most polygons have few corners
    left, triangles, start = list(range(len(points))), [], 0
    while len(left) > 3:
        for i in [*range(start, len(left)), *range(start)]:  # on from the last one
            ear = [left[i - 1], left[i], left[(i + 1) % len(left)]]
            if _is_ear(places, ear, left):
                break
        else:  # it crosses itself: no result is right
            return np.array(triangles + [[left[0], b, c] for b, c in itertools.pairwise(left[1:])])
        triangles.append(ear)
        del left[i]
        start = i
    return np.array([*triangles, left])


def _is_ear(places: list[complex], ear: list[int], left: list[int]) -> bool:
    """Whether a triangle of neighbours lies inside the polygon of the corners that are left."""
    a, b, c = corners = [places[k] for k in ear]
    if b in (a, c):
        return True  # a repeated corner
    if _side(a, b, c) <= 0:
        return False
    return not any(
        _side(a, b, other) >= 0 and _side(b, c, other) >= 0 and _side(c, a, other) >= 0
        for other in (places[k] for k in left)
        if other not in corners  # a bridge to a hole has corners twice
    )


def _side(start: complex, end: complex, point: complex) -> float:
    """Positive where a point lies left of a line."""
    return ((end - start).conjugate() * (point - start)).imag
