"""Prediction of an object's pose by constant velocity about its centre."""

import numpy as np

from picopose.utils.motion import moved, step

BRAKE = 0.9  # factor of the velocity for each frame without the object
NEWEST = 0.5  # weight of the newest step in the velocity


class ConstantVelocity:
    """Predicts an object's pose from earlier ones; `time` may have any unit, and increases.

    Attributes:
        pose: (4, 4) m, the last one; time: of that pose.
    """

    def __init__(self, pose: np.ndarray, time: float):
        self.pose, self.time = pose, time
        self._velocity = np.zeros(6)

    def predict(self, time: float) -> np.ndarray:
        """The pose (4, 4) at a time."""
        return moved(self.pose, (time - self.time) * self._velocity)

    def see(self, pose: np.ndarray, time: float) -> None:
        """Updates the motion with a new pose (4, 4)."""
        if time > self.time:
            velocity = step(self.pose, pose) / (time - self.time)
            self._velocity += NEWEST * (velocity - self._velocity)
        self.pose, self.time = pose, time

    def brake(self) -> None:
        """Lowers the velocity, as what has not been seen may have stopped."""
        self._velocity *= BRAKE
