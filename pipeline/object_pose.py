"""What `PoseEstimator` returns for each object in a photo."""

from dataclasses import dataclass

import numpy as np

from picopose.pipeline.posed import Posed
from picopose.pipeline.verdict import verdict


@dataclass(frozen=True, eq=False, repr=False)
class ObjectPose(Posed):
    """Where an object is in a photo."""

    name: str  # of the object
    cam_from_obj: np.ndarray  # (4, 4) float64, m: camera (x right, y down, z forward) from the mesh's frame
    confidence: float  # in [0, 1]: probability that its error is below a tenth of the diameter
    inlier_ratio: float  # in [0, 1]: share of the correspondences that agree; 0 if none did
    template: int  # index of the object's view that it started from; -1: none
    matches: np.ndarray  # (M, 4) px, some that agree: x, y in the photo, x, y for `PoseEstimator.compared`
    box: np.ndarray  # (4,) px: left, top, right, bottom of the region it was estimated in
    drawn: bool = True  # whether matches are those of the object drawn at its pose, not of a template
    track: int = -1  # number of the object's track in a video; -1: in a single photo

    @property
    def verdict(self) -> str:
        """The confidence in a word: `good`, `doubtful` or `wrong`."""
        return verdict(self.confidence)

    def to_dict(self) -> dict:
        """Everything but the matches, ready for `json.dumps`; lengths in m, the box in px."""
        return {
            "object": self.name,
            "cam_from_obj": self.cam_from_obj.tolist(),
            "quaternion_xyzw": self.quaternion_xyzw.tolist(),
            "translation": self.translation.tolist(),
            "confidence": self.confidence,
            "verdict": self.verdict,
            "inlier_ratio": self.inlier_ratio,
            "template": self.template,
            "box": self.box.tolist(),
        }

    def __str__(self) -> str:
        x, y, z = self.translation
        return f"{self.name} at {x:.3f} {y:.3f} {z:.3f} m: {self.verdict}, {100 * self.confidence:.0f} % sure"

    def __repr__(self) -> str:
        return f"<ObjectPose {self}>"
