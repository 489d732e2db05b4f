"""Poses as the files of LINEMOD hold them, checked, and brought to the frame of BOP's models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from picopose.datasets.linemod.classes import canonical
from picopose.datasets.safe_pickle import read_npy
from picopose.utils.errors import MALFORMED, InputError
from picopose.utils.geometry import nearest_rotation
from picopose.utils.reading import is_rotation

FARTHEST = 20.0  # m; what is farther away is in mm
_REMEDY = "download or create it again"


def rigid_pose(values: Any, where: str) -> np.ndarray:
    """(4, 4) float64 of a pose (3, 4) or (4, 4) in m with an exact rotation; `where` begins the `InputError`.

    The rotation is the nearest one, R (R^T R)^(-1/2): those of the files are off by up to 2e-4.
    """
    try:
        given = np.asarray(values, dtype=np.float64)
    except MALFORMED:
        raise InputError(f"{where} is no matrix of numbers: {_REMEDY}") from None
    if given.shape not in ((3, 4), (4, 4)):
        raise InputError(f"{where} has the shape {given.shape}, not that of a pose, 3 x 4: {_REMEDY}")
    if not np.isfinite(given).all():
        raise InputError(f"{where} has numbers that are not finite: {_REMEDY}")
    if not is_rotation(given[:3, :3]):
        raise InputError(f"{where} has no rotation in its first three columns: {_REMEDY}")
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = nearest_rotation(torch.from_numpy(given[:3, :3])).numpy(), given[:3, 3]
    return pose


def camera_pose(values: Any, where: str) -> np.ndarray:
    """As `rigid_pose`, of an object before the camera; an `InputError` for one behind it or in mm."""
    pose = rigid_pose(values, where)
    if not 0 < pose[2, 3] <= FARTHEST:
        raise InputError(f"{where} is {pose[2, 3]:g} m before the camera: give metres, as LINEMOD's files do")
    return pose


def read_pose(path: Path) -> np.ndarray:
    """The pose (4, 4) of a `-pose.txt`: a line that is not read, then the rows of [R | t] in m."""
    try:
        lines = path.read_text(encoding="ascii").split("\n")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {_REMEDY}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text file: {_REMEDY}") from None
    lines = [line.split() for line in lines if line.strip()]
    if len(lines) != 4 or len(lines[0]) == 4:
        raise InputError(f"{path} has not one header line and three rows of a pose: {_REMEDY}")
    try:
        rows = [[float(word) for word in line] for line in lines[1:]]
    except ValueError as error:
        raise InputError(f"{path} has no three rows of a pose ({error}): {_REMEDY}") from None
    if any(len(row) != 4 for row in rows):
        raise InputError(f"{path} has not four numbers in each row of its pose: {_REMEDY}")
    return camera_pose(rows, str(path))


def read_frame_changes(path: Path) -> dict[str, np.ndarray]:
    """bop_from_blender (4, 4) m by class: from the frame of PVNet's models to that of BOP's."""
    content = read_npy(path)
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} holds no table of frames by class: {_REMEDY}")
    return {canonical(str(name)): rigid_pose(value, f"{path}: {name}") for name, value in content.items()}


def in_bop_frame(cam_from_blender: np.ndarray, bop_from_blender: np.ndarray) -> np.ndarray:
    """cam_from_bop (..., 4, 4): R <- R B_R', t <- t - R_new B_t."""
    return cam_from_blender @ np.linalg.inv(bop_from_blender)


def change_of(changes: dict[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    """That of a class, or an `InputError`."""
    if canonical(name) not in changes:
        raise InputError(f"{path} lacks the frame of class {name}: {_REMEDY}")
    return changes[canonical(name)]
