"""Spherical maps of points about the origin: how far the surface is in each direction, and its colour.

Lin et al., DualPoseNet, ICCV 2021, section 3.1.
"""

from __future__ import annotations

import numpy as np

SIDE = 64  # cells along the azimuth and along the polar angle


def spherical_maps(points: np.ndarray, colours: np.ndarray, n: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Distances (n, n, 1) and colours (n, n, 3) float32 by azimuth and polar angle; empty cells are 0.

    The farthest point of a cell is kept, of equally far ones the last. As in the original the south pole
    falls into the north pole's row, and y = 0 has azimuth 0 on both sides.

    Args:
        points: (N, 3), m.
        colours: (N, 3).
    """
    x, y, z = points.astype(np.float32).T
    r = np.sqrt(x * x + y * y + z * z + np.float32(1e-10))
    azimuth = np.arctan2(y, x)
    azimuth = np.where(y == 0, np.float32(0), np.where(y < 0, azimuth + np.float32(2 * np.pi), azimuth))
    column = np.round(azimuth / np.float32(2 * np.pi / n)).astype(np.int64) % n
    row = np.round(np.arccos(z / r) / np.float32(np.pi / n)).astype(np.int64) % n
    cell = column * n + row
    order = np.argsort(r, kind="stable")
    farthest = np.full(n * n, -1)
    np.maximum.at(farthest, cell[order], np.arange(len(order)))
    seen = farthest >= 0
    kept = order[farthest[seen]]
    distances, seen_colours = np.zeros((n * n, 1), np.float32), np.zeros((n * n, 3), np.float32)
    distances[seen, 0], seen_colours[seen] = r[kept], colours[kept]
    return distances.reshape(n, n, 1), seen_colours.reshape(n, n, 3)
