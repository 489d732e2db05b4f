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
    confidence: float  # in [0, 1]: probability that it is right, to a tenth of the object's diameter
    inlier_ratio: float  # in [0, 1]: share of the correspondences that agree; 0 if none were solved
    template: int  # index of the view that it starts from among the object's; -1: of none
    matches: np.ndarray  # (M, 4) px, of some that agree: x, y in the photo, x, y in `PoseEstimator.compared`
    box: np.ndarray  # (4,) px: left, top, right, bottom of where it was looked for
    drawn: bool = True  # whether matches are those of the object drawn at its pose, not of a template
    track: int = -1  # the number of the object among those followed in a video; -1: of a single photo

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
