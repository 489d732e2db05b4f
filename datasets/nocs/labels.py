"""Rotations as DualPoseNet is taught them: one of those that look alike, as a quaternion.

Rotations here are M, from the camera's frame to the object's.
"""

from __future__ import annotations

import numpy as np

from picopose.datasets.nocs.layout import CLASSES

ROUND = tuple(CLASSES.index(name) + 1 for name in ("bottle", "bowl", "can"))  # about their y axis
_NO_TURN = 1e-12


def canonical_rotation(M: np.ndarray, class_id: int) -> np.ndarray:
    """M (3, 3) turned about the object's y axis so that its quaternion has no y part, if its class is round.

    Any turn serves an object whose y axis points straight down, which is left as it is.
    """
    a, b = M[0, 0] + M[2, 2], M[0, 2] - M[2, 0]
    length = np.hypot(a, b)
    if class_id not in ROUND or length < _NO_TURN:
        return M
    a, b = a / length, b / length
    return np.array([[a, 0, -b], [0, 1, 0], [b, 0, a]]) @ M


def quaternion(R: np.ndarray) -> np.ndarray:
    """(4,) float64 w, x, y, z of a rotation (3, 3).

    w is positive if the trace is; otherwise the largest of x, y and z is positive, and w may be negative.
    The original's labels are of this rule, so jump where the trace is 0.
    """
    trace = np.trace(R)
    twice_axis = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]])  # 4 w (x, y, z)
    if trace > 0:
        w = np.sqrt(1 + trace) / 2
        return np.array([w, *twice_axis / (4 * w)])
    i = int(np.argmax(np.diag(R)))
    largest = np.sqrt(1 - trace + 2 * R[i, i]) / 2
    vector = (R[i] + R[:, i]) / (4 * largest)
    vector[i] = largest
    return np.array([twice_axis[i] / (4 * largest), *vector])
