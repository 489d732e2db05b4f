"""Corners and edges of a box along the axes."""

import numpy as np

_PICKS = np.stack(np.meshgrid(*[[0, 1]] * 3, indexing="ij"), axis=-1).reshape(8, 3)
# Pairs of corners that an edge joins.
EDGES = [(i, j) for i in range(8) for j in range(i) if np.abs(_PICKS[i] - _PICKS[j]).sum() == 1]


def corners(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(8, 3) of the box from corner `low` (3,) to `high` (3,)."""
    return np.where(_PICKS, high, low)
