"""Poses to begin with, as other methods' files hold them: BOP's CSV, PoseCNN's pickle or PVNet's arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from picopose.datasets.bop.results import Results, read_results
from picopose.datasets.linemod.classes import canonical, read_classes
from picopose.datasets.linemod.poses import (
    FARTHEST,
    change_of,
    in_bop_frame,
    read_frame_changes,
    rigid_pose,
)
from picopose.datasets.safe_pickle import read_npy, read_pickle
from picopose.utils.errors import MALFORMED, InputError

SUFFIXES = (".csv", ".pkl", ".npy")
FRAMES = "pose_conversion/blender2bop_RT.npy"  # beside the folder of PVNet's poses
_UNIT = 0.01  # how far a quaternion's length may be off 1
_REMEDY = "download or create it again"


def read_initial_poses(path: Path, images_of: Mapping[int, Sequence[tuple[int, int]]]) -> Results:
    """The poses of a file or, of PVNet's, a folder: with score 1 and no time, which BOP's CSV alone has.

    images_of: (scene_id, im_id) of the targets of each object, in the order of the list of targets, which is
    that of the poses of a class in PoseCNN's and PVNet's files.

    Raises:
        InputError: a file is missing or damaged, or does not hold one pose for each target.
    """
    if path.suffix.lower() == ".csv":
        return read_results(path)
    if path.suffix.lower() == ".pkl":
        poses = read_posecnn(path)
    elif path.suffix.lower() == ".npy" or path.is_dir():
        poses = read_pvnet(path)
    else:
        kinds = ", ".join(SUFFIXES)
        raise InputError(f"{path} holds no initial poses: give a file of {kinds}, or a folder of the last")
    ids = {known.obj_id: known.name for known in read_classes(path).values()}
    found = {
        obj_id: _of_class(poses, ids.get(obj_id), obj_id, images_of[obj_id], path) for obj_id in images_of
    }
    return _table(found, images_of)


def read_posecnn(path: Path) -> dict[str, np.ndarray]:
    """Poses (N, 3, 4) m by class of `linemod_posecnn_results.pkl`.

    A pose is a quaternion wxyz and a translation in m. The table holds for each class an array (N, 7), or a
    list of such rows, or of tables with the row as `pose`; which of these the original file has could not be
    checked.
    """
    content = read_pickle(path)
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} holds no table of poses by class: {_REMEDY}")
    return {canonical(str(name)): _of_quaternions(rows, f"{path}: {name}") for name, rows in content.items()}


def read_pvnet(path: Path) -> dict[str, np.ndarray]:
    """Poses (N, 3, 4) m by class, in the frame of BOP's models.

    path: folder of `{class}.npy`, or one of these files, which holds an array (N, 3, 4) or a table by class.
    The files are in the frame of PVNet's models, which `pose_conversion/blender2bop_RT.npy` beside the folder
    relates to BOP's.
    """
    folder = path if path.is_dir() else path.parent
    files = sorted(folder.glob("*.npy")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no poses ({{class}}.npy): {_REMEDY}")
    frames = folder.parent / FRAMES
    changes, poses = read_frame_changes(frames), {}
    for file in files:
        content = read_npy(file)
        table = content if isinstance(content, dict) else {file.stem: content}
        for name, values in table.items():
            given = _poses(values, f"{file}: {name}")
            changed = in_bop_frame(given, change_of(changes, str(name), frames))
            poses[canonical(str(name))] = changed[:, :3]
    return poses


def _of_class(
    poses: dict[str, np.ndarray], name: str | None, obj_id: int, images: Sequence, path: Path
) -> np.ndarray:
    """(N, 3, 4), one for each image."""
    if name not in poses:
        known = f"class {name}" if name else f"object {obj_id}"
        raise InputError(f"{path} has no poses of {known}, only of {', '.join(poses)}: choose another file")
    if len(poses[name]) != len(images):
        raise InputError(
            f"{path} has {len(poses[name])} poses of class {name}, and the list of targets has {len(images)} "
            "images of it: choose the file of these images"
        )
    return poses[name]


def _table(found: Mapping[int, np.ndarray], images_of: Mapping[int, Sequence[tuple[int, int]]]) -> Results:
    images = [image for obj_id in found for image in images_of[obj_id]]
    scene_id, im_id = np.array(images, np.int64).reshape(-1, 2).T
    obj_id = np.repeat(np.array([*found], np.int64), [len(rows) for rows in found.values()])
    poses = np.concatenate([np.zeros((0, 3, 4)), *found.values()])
    count = len(poses)
    return Results(scene_id, im_id, obj_id, np.ones(count), poses, np.full(count, -1.0))


def _of_quaternions(rows: Any, where: str) -> np.ndarray:
    """(N, 3, 4) of quaternions wxyz with translations (N, 7)."""
    if isinstance(rows, list | tuple):
        rows = [row.get("pose") if isinstance(row, dict) else row for row in rows]
    numbers = _numbers(rows, where)
    if numbers.ndim != 2 or numbers.shape[1] != 7:
        raise InputError(f"{where} has the shape {numbers.shape}, not (N, 7): {_REMEDY}")
    lengths = np.linalg.norm(numbers[:, :4], axis=1)
    if (wrong := np.flatnonzero(np.abs(lengths - 1) > _UNIT)).size:
        raise InputError(
            f"{where}, pose {wrong[0]}: a quaternion of length {lengths[wrong[0]]:.3g}: {_REMEDY}"
        )
    rotations = Rotation.from_quat(numbers[:, [1, 2, 3, 0]]).as_matrix()
    return _checked(np.concatenate([rotations, numbers[:, 4:, None]], axis=2), where)[:, :3]


def _poses(values: Any, where: str) -> np.ndarray:
    """(N, 4, 4) of matrices (N, 3, 4) or (N, 4, 4)."""
    numbers = _numbers(values, where)
    if numbers.ndim != 3 or numbers.shape[1:] not in ((3, 4), (4, 4)):
        raise InputError(f"{where} has the shape {numbers.shape}, not (N, 3, 4): {_REMEDY}")
    return _checked(numbers, where)


def _numbers(values: Any, where: str) -> np.ndarray:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except MALFORMED:
        raise InputError(f"{where} is no table of numbers: {_REMEDY}") from None
    if not np.isfinite(numbers).all():
        raise InputError(f"{where} has numbers that are not finite: {_REMEDY}")
    return numbers


def _checked(matrices: np.ndarray, where: str) -> np.ndarray:
    """(N, 4, 4) with exact rotations; some may be wrong and behind the camera, but not all in mm."""
    poses = [rigid_pose(matrix, f"{where}, pose {index}") for index, matrix in enumerate(matrices)]
    poses = np.array(poses).reshape(-1, 4, 4)
    if len(poses) and (distance := float(np.median(np.abs(poses[:, 2, 3])))) > FARTHEST:
        raise InputError(f"{where}: poses {distance:g} m before the camera: give metres, not mm")
    return poses
