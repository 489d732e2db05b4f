"""Holds a pose still that only trembles, and follows one that moves without lagging behind."""

import numpy as np

from picopose.utils.motion import moved, step

MEMORY = 0.1  # weight of the newest difference in the two means


class Steady:
    """Smooths poses by as much as they tremble: exponential smoothing that adapts its rate.

    Trigg and Leach, "Exponential smoothing with an adaptive response rate", 1967: the rate is the size of the
    mean difference between new and smoothed values over the mean size of it. Noise cancels in the former, so
    that little of it passes; a motion does not, and passes whole. The differences are those of points of the
    object in the photo, in px, since poses that look the same are told from one another by noise alone.

    Args:
        points: (N, 3) m of a centred object.
        K: (3, 3) camera.
    """

    def __init__(self, points: np.ndarray, K: np.ndarray):
        self._points, self._K = points, K
        self._pose: np.ndarray | None = None

    def __call__(self, pose: np.ndarray) -> np.ndarray:
        """The smoothed pose (4, 4) after a new one."""
        if self._pose is None:
            self._pose, self._mean, self._size = pose, np.zeros(2 * len(self._points)), 0.0
            return pose
        difference = (self._project(pose) - self._project(self._pose)).ravel()
        self._mean += MEMORY * (difference - self._mean)
        self._size += MEMORY * (float(np.linalg.norm(difference)) - self._size)
        rate = min(1.0, float(np.linalg.norm(self._mean)) / max(self._size, 1e-9))
        self._pose = moved(self._pose, rate * step(self._pose, pose))
        return self._pose

    def _project(self, pose: np.ndarray) -> np.ndarray:
        """(N, 2) px"""
        xyw = (self._points @ pose[:3, :3].T + pose[:3, 3]) @ self._K.T
        return xyw[:, :2] / xyw[:, 2:]
