"""What `CategoryEstimator` returns for each object in a photo."""

from dataclasses import dataclass

import numpy as np

from picopose.pipeline.posed import Posed
from picopose.pipeline.verdict import verdict


@dataclass(frozen=True, eq=False, repr=False)
class CategoryPose(Posed):
    """Where an object of a category is in a photo, and how large it is."""

    name: str  # of the category
    # (4, 4) float64, m: camera (x right, y down, z forward) from the middle of the object's box, whose y axis
    # points up where the object stands; the identity where nothing is found.
    cam_from_obj: np.ndarray
    size: np.ndarray  # (3,) m: sides of the box along the object's axes
    support: float  # of the pose, larger is better: minus the loss between what both decoders say of it
    inlier_ratio: float  # in [0, 1]: share of the points that the pose rests on; 0 if nothing is found
    points: int  # pixels of the mask whose depth is known
    box: np.ndarray  # (4,) px: left, top, right, bottom of the mask
    # In [0, 1]: probability that it is right, to 10 degrees (of round objects: of their axis) and 5 cm; None
    # where it is not known for the network.
    confidence: float | None = None

    @property
    def found(self) -> bool:
        """Whether there were points enough to say anything."""
        return self.inlier_ratio > 0

    @property
    def verdict(self) -> str | None:
        """The confidence in a word: `good`, `doubtful` or `wrong`."""
        return None if self.confidence is None else verdict(self.confidence)

    @property
    def size_text(self) -> str:
        """`122 x 95 x 83 mm`."""
        return " x ".join(f"{1000 * side:.0f}" for side in self.size) + " mm"

    def to_dict(self) -> dict:
        """Everything, ready for `json.dumps`; lengths in m, the box in px; None for what is not found."""
        pose = {
            "cam_from_obj": self.cam_from_obj.tolist(),
            "quaternion_xyzw": self.quaternion_xyzw.tolist(),
            "translation": self.translation.tolist(),
            "size": self.size.tolist(),
            "support": self.support,
            "confidence": self.confidence,
            "verdict": self.verdict,
        }
        return {
            "category": self.name,
            "found": self.found,
            **(pose if self.found else dict.fromkeys(pose)),
            "inlier_ratio": self.inlier_ratio,
            "points": self.points,
            "box": self.box.tolist(),
        }

    def __str__(self) -> str:
        if not self.found:
            return f"{self.name}: not found, as {self.points} points with a depth are too few"
        x, y, z = self.translation
        if self.confidence is None:
            belief = f"{100 * self.inlier_ratio:.0f} % of {self.points} points fit"
        else:
            belief = f"{self.verdict}, {100 * self.confidence:.0f} % sure"
        return f"{self.name} at {x:.3f} {y:.3f} {z:.3f} m, {self.size_text}: {belief}"

    def __repr__(self) -> str:
        return f"<CategoryPose {self}>"
