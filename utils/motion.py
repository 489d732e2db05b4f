"""Motions of an object about its centre, between two poses."""

import numpy as np
from scipy.spatial.transform import Rotation


def step(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The motion (6,) between two poses (4, 4) of a centred object: its turn (rad) and its shift (m).

    Both are along the camera's axes, and the turn is about the object's centre: in a twist about the camera's
    centre the two would depend on each other.
    """
    turn = Rotation.from_matrix(after[:3, :3] @ before[:3, :3].T).as_rotvec()
    return np.concatenate([turn, after[:3, 3] - before[:3, 3]])


def moved(pose: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """The pose (4, 4) after a motion (6,), see `step`."""
    after = pose.copy()
    after[:3, :3] = Rotation.from_rotvec(motion[:3]).as_matrix() @ pose[:3, :3]
    after[:3, 3] += motion[3:]
    return after
