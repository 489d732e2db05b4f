"""What DualPoseNet sees of an object: its visible points with their colours.

The camera's frame here is OpenCV's turned by 180 degrees about the optical axis: x left, y up, z ahead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

_FROM_OPENCV = np.array([-1.0, -1.0, 1.0])


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
