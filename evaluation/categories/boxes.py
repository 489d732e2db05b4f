"""Boxes of poses with sizes: half axes, corners and turns about the y axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# The corners (8, 3) of the cube [-1, 1]^3; the last coordinate changes quickest.
SIGNS = np.stack(np.meshgrid([-1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0], indexing="ij"), axis=-1).reshape(8, 3)


@dataclass(frozen=True, eq=False)
class Boxes:
    """N boxes: centers (N, 3) in m; half_axes (N, 3, 3) in m, the columns from the centre to three faces."""

    centers: np.ndarray
    half_axes: np.ndarray

    @staticmethod
    def of(poses: np.ndarray, sizes: np.ndarray) -> Boxes:
        """Those of poses (N, 4, 4) with the scale inside and sizes (N, 3)."""
        return Boxes(poses[:, :3, 3], poses[:, :3, :3] * sizes[:, None] / 2)

    def __getitem__(self, rows: np.ndarray) -> Boxes:
        return Boxes(self.centers[rows], self.half_axes[rows])

    @property
    def corners(self) -> np.ndarray:
        """(N, 8, 3) in m, in the order of `SIGNS`."""
        return self.centers[:, None] + SIGNS @ self.half_axes.swapaxes(1, 2)

    @property
    def volumes(self) -> np.ndarray:
        """(N,) in m^3."""
        return 8 * np.abs(np.linalg.det(self.half_axes))


def turned(poses: np.ndarray, angle: float) -> np.ndarray:
    """Poses (N, 4, 4) of objects that were turned by an angle in rad about their own y axis before."""
    turn = np.eye(4)
    turn[0, 0] = turn[2, 2] = np.cos(angle)
    turn[0, 2], turn[2, 0] = np.sin(angle), -np.sin(angle)
    return poses @ turn
