"""Errors of poses by category: degrees, centimetres, and the shift as a share of the object's diagonal."""

import numpy as np

from picopose.evaluation.categories.instances import Estimates, Truths


def degrees(estimates: Estimates, truths: Truths, pairs: np.ndarray) -> np.ndarray:
    """Error of rotation (M,) in degrees of pairs (M, 2) of rows; NaN where a pose has no scale.

    The angle between the y axes where any turn about them looks the same, else that of the whole rotation.
    Cosines are clipped: the original's rounding gives NaN for exactly equal axes.
    """
    estimated = _rotations(estimates.poses[pairs[:, 0]])
    true = _rotations(truths.poses[pairs[:, 1]])
    products = (estimated * true).sum(axis=1)  # (M, 3): of the columns
    cosines = np.where(truths.turns_freely[pairs[:, 1]], products[:, 1], (products.sum(axis=1) - 1) / 2)
    return np.degrees(np.arccos(np.clip(cosines, -1, 1)))


def centimetres(estimates: Estimates, truths: Truths, pairs: np.ndarray) -> np.ndarray:
    """Error of translation (M,) in cm of pairs (M, 2) of rows."""
    shift = estimates.poses[pairs[:, 0], :3, 3] - truths.poses[pairs[:, 1], :3, 3]
    return 100 * np.linalg.norm(shift, axis=1)


def relative_shifts(estimates: Estimates, truths: Truths, pairs: np.ndarray) -> np.ndarray:
    """Error of translation (M,) of pairs (M, 2) of rows, as a share of the true box's diagonal."""
    diagonals = np.cbrt(np.linalg.det(truths.poses[pairs[:, 1], :3, :3]))
    return centimetres(estimates, truths, pairs) / 100 / diagonals


def _rotations(poses: np.ndarray) -> np.ndarray:
    """The rotations (M, 3, 3) of poses with the scale inside; NaN where that is 0."""
    scales = np.cbrt(np.linalg.det(poses[:, :3, :3]))
    return poses[:, :3, :3] / np.where(scales == 0, np.nan, scales)[:, None, None]
