"""Symmetric objects: chooses which of their equivalent poses to report.

It is the pose whose rotation is nearest to a reference: the identity for a canonical pose, or the pose in the
previous frame of a video, so that poses do not jump.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from picopose.utils.errors import InputError

_TURN = re.compile(r"([xyz])(\d{0,4})")
_MAX_GROUP = 120  # motions: the icosahedron has 60


@dataclass(frozen=True, eq=False)
class Symmetry:
    """Motions that leave an object's look unchanged; none if it has no symmetry."""

    discrete: np.ndarray  # (N, 4, 4) m, object from object; the identity may be left out
    axes: tuple[tuple[np.ndarray, np.ndarray], ...] = ()  # (direction (3,), a point (3,) m): turns freely

    def nearest(self, cam_from_obj: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """The equivalent of a pose (4, 4) whose rotation is nearest to that of `reference` (4, 4)."""
        poses = [cam_from_obj, *(cam_from_obj @ motion for motion in self.discrete)]
        if len(self.axes) == 1:
            poses = [pose @ _best_turn(pose, reference, *self.axes[0]) for pose in poses]
        elif self.axes:  # a ball: two axes reach every rotation
            poses = [pose @ about(pose[:3, :3].T @ reference[:3, :3], self.axes[0][1]) for pose in poses]
        return max(poses, key=lambda pose: float(np.sum(pose[:3, :3] * reference[:3, :3])))

    def canonical(self, cam_from_obj: np.ndarray) -> np.ndarray:
        """The equivalent of a pose (4, 4) that turns the object least against the camera's axes."""
        return self.nearest(cam_from_obj, np.eye(4))


def parse_symmetry(text: str, centre: Sequence[float]) -> Symmetry:
    """Parses a symmetry such as `z` (turns freely), `z4` (quarter turns) or `z,x2` (a cylinder).

    The axes run through `centre` (3,) m. Raises an `InputError` for anything else.
    """
    turns, axes = [], []
    if text.lower() == "none":
        return Symmetry(np.zeros((0, 4, 4)))
    for part in text.lower().replace(" ", ",").split(","):
        found = _TURN.fullmatch(part)
        if not found or (found[2] and not 2 <= int(found[2]) <= _MAX_GROUP):
            raise InputError(f"symmetry {text}: write e.g. z (turns freely), z4 (quarter turns) or z,x2")
        direction = np.eye(3)["xyz".index(found[1])]
        if found[2]:
            turn = Rotation.from_rotvec(2 * np.pi / int(found[2]) * direction).as_matrix()
            turns.append(about(turn, np.asarray(centre, float)))
        else:
            axes.append((direction, np.asarray(centre, float)))
    return Symmetry(_group(turns, text), tuple(axes))


def _group(generators: list[np.ndarray], text: str) -> np.ndarray:
    """All products (N, 4, 4) of some motions, including the identity."""
    found = [np.eye(4)]
    for motion in found:  # grows until nothing new is found
        for generator in generators:
            product = motion @ generator
            if not any(np.allclose(product, known, atol=1e-6) for known in found):
                found.append(product)
        if len(found) > _MAX_GROUP:
            raise InputError(f"symmetry {text}: more than {_MAX_GROUP} equivalent poses; name fewer turns")
    return np.stack(found)


def about(rotation: np.ndarray, point: np.ndarray) -> np.ndarray:
    """(4, 4) motion that turns about a point (3,)."""
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = rotation, point - rotation @ point
    return motion


def _best_turn(pose: np.ndarray, reference: np.ndarray, axis: np.ndarray, point: np.ndarray) -> np.ndarray:
    """The turn about an axis that brings a pose's rotation nearest to the reference's.

    Of trace(A turn) = a + b cos(angle) + c sin(angle), with A = reference^T pose, the angle of the maximum.
    """
    between = reference[:3, :3].T @ pose[:3, :3]
    cross = np.cross(np.eye(3), axis)  # cross @ v = axis x v
    angle = np.arctan2(np.trace(between @ cross), np.trace(between) - axis @ between @ axis)
    return about(Rotation.from_rotvec(angle * axis).as_matrix(), point)
