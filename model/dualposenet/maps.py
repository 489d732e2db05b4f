"""Points and their colours as maps on the sphere around their centroid: what DualPoseNet's encoder reads."""

from typing import NamedTuple

import numpy as np

from picopose.model.dualposenet.quirks import MENDED, Quirks

CHANNEL_MEANS = (123.7, 116.8, 103.9)  # of red, green and blue
_TINY = np.float32(1e-10)  # added to squared distances


class SphericalMaps(NamedTuple):
    """What a centroid sees in every direction, zero where it sees nothing.

    Attributes:
        distances: (n, n, 1) float32 by azimuth and polar angle, in metres.
        colours: (n, n, 3) float32.
    """

    distances: np.ndarray
    colours: np.ndarray


def normalised(colours: np.ndarray) -> np.ndarray:
    """Colours (..., 3) of RGB values in 0..255 as the network reads them."""
    return (colours - np.array(CHANNEL_MEANS)) / 255


def spherical_maps(
    points: np.ndarray, colours: np.ndarray, side: int, quirks: Quirks = MENDED
) -> SphericalMaps:
    """The farthest point in every direction, and its colour.

    Angles are computed in float32, as the original does. Of equally far points the last one counts.

    Args:
        points: (N, 3) in metres, centred.
        colours: (N, 3), see `normalised`.
        side: number n of cells by azimuth, and by polar angle.
    """
    x, y, z = points.astype(np.float32).T
    distances = np.sqrt(x * x + y * y + z * z + _TINY)
    order = np.argsort(distances, kind="stable")  # the last to be written stays
    azimuth = _azimuth_cells(x, y, side, quirks)[order]
    polar = _polar_cells(z / distances, side, quirks)[order]
    maps = SphericalMaps(np.zeros((side, side, 1), np.float32), np.zeros((side, side, 3), np.float32))
    maps.distances[azimuth, polar, 0] = distances[order]
    maps.colours[azimuth, polar] = colours[order]
    return maps


def _azimuth_cells(x: np.ndarray, y: np.ndarray, side: int, quirks: Quirks) -> np.ndarray:
    angles = np.arctan2(y, x)
    angles = np.where(y < 0, angles + np.float32(2 * np.pi), angles)
    if quirks.flat_azimuth:
        angles = np.where(y == 0, np.float32(0), angles)
    return np.round(angles / np.float32(2 * np.pi / side)).astype(np.int64) % side


def _polar_cells(cosines: np.ndarray, side: int, quirks: Quirks) -> np.ndarray:
    """The grid has a row at the north pole, but none at the south pole."""
    cells = np.round(np.arccos(cosines) / np.float32(np.pi / side)).astype(np.int64)
    return cells % side if quirks.wrapped_pole else np.minimum(cells, side - 1)
