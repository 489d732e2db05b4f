"""Prediction of an object's pose by constant velocity about its centre."""

import numpy as np

from picopose.utils.motion import moved, step

BRAKE = 0.9  # what is left of the velocity after a frame without the object
NEWEST = 0.5  # weight of the newest step in the velocity


class ConstantVelocity:
    """Predicts an object's pose from those before; `time` is in any unit that goes forward.

    Attributes:
        pose: (4, 4) m, the last one that was seen; time: of it.
    """

    def __init__(self, pose: np.ndarray, time: float):
        self.pose, self.time = pose, time
        self._velocity = np.zeros(6)

    def predict(self, time: float) -> np.ndarray:
        """The pose (4, 4) at a time."""
        return moved(self.pose, (time - self.time) * self._velocity)

    def see(self, pose: np.ndarray, time: float) -> None:
        """Goes on with a pose (4, 4) that was seen."""
        if time > self.time:
            velocity = step(self.pose, pose) / (time - self.time)
            self._velocity += NEWEST * (velocity - self._velocity)
        self.pose, self.time = pose, time

    def brake(self) -> None:
        """Lowers the velocity, as what has not been seen may have stopped."""
        self._velocity *= BRAKE
