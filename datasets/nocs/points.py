"""What DualPoseNet sees of an object: its visible points with their colours.

The camera's frame here is OpenCV's turned by 180 degrees about the optical axis: x left, y up, z ahead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

SAMPLED = 1024  # points that the decoders see

_FROM_OPENCV = np.array([-1.0, -1.0, 1.0])
_MEAN_COLOUR = np.array([123.7, 116.8, 103.9])


@dataclass(frozen=True)
class ColouredPoints:
    """The points of one object, in the row-major order of their pixels."""

    xyz: np.ndarray  # (N, 3) float64, m, in the camera's frame
    rgb: np.ndarray  # (N, 3) uint8

    def __len__(self) -> int:
        return len(self.xyz)

    def __getitem__(self, chosen: np.ndarray) -> Self:
        """Some of the points, by truth values or indices."""
        return type(self)(self.xyz[chosen], self.rgb[chosen])


def masked_points(rgb: np.ndarray, depth: np.ndarray, mask: np.ndarray, K: np.ndarray) -> ColouredPoints:
    """The points of the pixels in a mask (H, W) bool that have a depth (H, W) in m, 0 where it is not known.

    Args:
        rgb: (H, W, 3) uint8.
        K: (3, 3).
    """
    v, u = np.nonzero(mask & (depth > 0))
    z = depth[v, u].astype(np.float64)
    x, y = (u - K[0, 2]) * z / K[0, 0], (v - K[1, 2]) * z / K[1, 1]
    return ColouredPoints(np.stack([x, y, z], axis=1) * _FROM_OPENCV, rgb[v, u])


def normalised_colours(rgb: np.ndarray) -> np.ndarray:
    """Colours (..., 3) float64 about 0, from -0.49 to 0.6, of colours in uint8."""
    return (rgb - _MEAN_COLOUR) / 255


def sample_indices(count: int, random: np.random.RandomState) -> np.ndarray:
    """(SAMPLED,) indices of points, different ones if there are more points than are asked for."""
    return random.choice(count, SAMPLED, replace=count <= SAMPLED)
