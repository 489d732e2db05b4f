"""What is compared: the annotated and the estimated instances of a set of images.

Poses are (4, 4) float64 [s R | t] from canonical to camera coordinates, t in m: the scale s is the diagonal
of the box in m. Sizes are its extents as shares of that diagonal.
"""

from dataclasses import dataclass

import numpy as np

from picopose.datasets.nocs.labels import ROUND
from picopose.datasets.nocs.layout import CLASSES

_MUG = 1 + CLASSES.index("mug")


@dataclass(frozen=True, eq=False)
class Truths:
    """G annotated instances.

    Attributes:
        image (G,) int: number of the image. classes (G,) int: from 1. poses (G, 4, 4), sizes (G, 3).
        handle_visible (G,) bool: heeded for mugs alone.
    """

    image: np.ndarray
    classes: np.ndarray
    poses: np.ndarray
    sizes: np.ndarray
    handle_visible: np.ndarray

    @property
    def turns_freely(self) -> np.ndarray:
        """Whether (G,) any turn about the y axis looks the same: round classes, mugs with hidden handles."""
        return np.isin(self.classes, ROUND) | ((self.classes == _MUG) & ~self.handle_visible.astype(bool))


@dataclass(frozen=True, eq=False)
class Estimates:
    """N estimated instances: as `Truths`, and scores (N,)."""

    image: np.ndarray
    classes: np.ndarray
    poses: np.ndarray
    sizes: np.ndarray
    scores: np.ndarray
