"""Checks of rotation matrices from files."""

import numpy as np

_SKEWED = 0.01  # how far a rotation's entries may be off


def is_rotation(matrices: np.ndarray) -> np.ndarray:
    """Whether matrices (..., 3, 3) turn without mirroring or stretching: (...) bool, False for NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.abs(matrices @ np.swapaxes(matrices, -1, -2) - np.eye(3)).max(axis=(-2, -1))
        return (error <= _SKEWED) & (np.linalg.det(matrices) > 0)
