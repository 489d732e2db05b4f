"""One object in a video: where it is, how it moves, and whether it is lost."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from picopose.pipeline.object_pose import ObjectPose
from picopose.pipeline.prepared_object import PreparedObject
from picopose.pipeline.track.motion import ConstantVelocity
from picopose.pipeline.track.steady import Steady

LOG = logging.getLogger(__name__)
DOUBTS = 15  # consecutive frames with a doubtful pose before the object counts as lost


class Track:
    """An object that is followed.

    Args:
        number: of the track.
        hull: (N, 3) m, corners of the object's hull, relative to its centre.
        K: (3, 3) camera.
        search: the boxes (4,) px where to look for it first.

    Attributes:
        last: the last pose that was accepted; None before the first.
        search: where to look for the object while it is lost; None while it is followed.
    """

    def __init__(
        self, number: int, obj: PreparedObject, hull: np.ndarray, K: np.ndarray, search: Iterator[np.ndarray]
    ):
        self.number, self.obj, self.hull = number, obj, hull
        self.last: ObjectPose | None = None
        self.search: Iterator[np.ndarray] | None = search
        self._K, self._doubts = K, 0

    @property
    def lost(self) -> bool:
        return self.search is not None

    def predict(self, time: float) -> np.ndarray:
        """The pose (4, 4) m of the object's centre at a time."""
        return self._motion.predict(time)

    def guesses(self, time: float) -> list[np.ndarray]:
        """Possible poses (4, 4) m of the object's centre at a time, most likely first."""
        if self.last is None:
            return []
        if self.lost:
            return [self._motion.pose]
        return [self.predict(time), self._motion.pose] if self._doubts else [self.predict(time)]

    def see(self, pose: ObjectPose, time: float) -> ObjectPose:
        """Accepts a pose, and returns it smoothed."""
        last = () if self.last is None else (self.last,)
        seen = self.obj.cam_from_centre(self.obj.equivalent(pose, last))
        if self.lost:
            self._motion = ConstantVelocity(seen, time)
            self._steady = Steady(self.hull, self._K)
            self.search = None
        smooth = self._steady(seen)
        self._motion.see(smooth, time)
        self._doubts = 0
        self.last = replace(pose, cam_from_obj=self.obj.cam_from_file(smooth), track=self.number)
        return self.last

    def doubt(self) -> bool:
        """Continues for a frame without a pose; returns whether the object now counts as lost."""
        self._doubts += 1
        self._motion.brake()
        return self._doubts > DOUBTS
