"""PVNet's fused photos: objects pasted together on photos, with their poses in the frame of its own models.

{number}.jpg, {number}_depth.npy (m), {number}_params.pkl {RT, K, bbox}, {number}_mask_visb.png
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from picopose.datasets.cameras.matrices import check_camera, exact_camera_matrix
from picopose.datasets.images import read_pixels
from picopose.datasets.linemod.classes import find_class, find_folder, read_classes
from picopose.datasets.linemod.photos import check_there, names_in, observation
from picopose.datasets.linemod.poses import camera_pose, change_of, in_bop_frame, read_frame_changes
from picopose.datasets.safe_pickle import read_npy, read_pickle
from picopose.utils.errors import InputError
from picopose.utils.records import Observation

_ENDS = ("_depth.npy", "_params.pkl", "_mask_visb.png")
_REMEDY = "download the set again"


class FusePhotos:
    """The photos of a class; depths are those of what is seen of it.

    Args:
        root: folder `fuse_formatted`.
        changes: file `blender2bop_RT.npy`.

    Raises:
        InputError: a file is missing or damaged.
    """

    def __init__(self, root: Path, name: str, changes: Path):
        shown = find_class(read_classes(root), name)
        self._folder = find_folder(root, shown.name)
        self._change = change_of(read_frame_changes(changes), name, changes)
        photos = (name for name in names_in(self._folder) if name.endswith(".jpg"))
        self._numbers = sorted(name.removesuffix(".jpg") for name in photos)
        if not self._numbers:
            raise InputError(f"{self._folder} holds no photos (*.jpg): {_REMEDY}")
        check_there(self._folder, (number + end for number in self._numbers for end in _ENDS))

    def __len__(self) -> int:
        return len(self._numbers)

    def name(self, index: int) -> str:
        return str(self._folder / f"{self._numbers[index]}.jpg")

    def photo(self, index: int) -> Observation:
        photo = self._folder / f"{self._numbers[index]}.jpg"
        depth, params, mask = (photo.with_name(photo.stem + end) for end in _ENDS)
        K, pose = _read_params(params)
        seen = _read_mask(mask)
        distance = _read_depth(depth)
        if distance.shape != seen.shape:
            sizes = [f"{shape[1]}x{shape[0]} px" for shape in (distance.shape, seen.shape)]
            raise InputError(f"{depth} has {sizes[0]}, and its mask {sizes[1]}: {_REMEDY}")
        check_camera(torch.from_numpy(K), *seen.shape[::-1], f"{params}: K", cropped=True)
        return observation(photo, np.where(seen, distance, 0), K, in_bop_frame(pose, self._change))


def _read_params(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """K (3, 3) and the pose (4, 4) m in the frame of PVNet's models."""
    content = read_pickle(path)
    if not isinstance(content, dict) or not {"RT", "K"} <= content.keys():
        raise InputError(f"{path} holds no table with RT and K: {_REMEDY}")
    K = content["K"]
    numbers = K.ravel().tolist() if isinstance(K, np.ndarray) else K
    return exact_camera_matrix(numbers, f"{path}: K").numpy(), camera_pose(content["RT"], f"{path}: RT")


def _read_depth(path: Path) -> np.ndarray:
    """(H, W) float32 m."""
    depth = read_npy(path)
    if not isinstance(depth, np.ndarray) or depth.ndim != 2 or depth.dtype.kind not in "fiu":
        raise InputError(f"{path} holds no depth image: {_REMEDY}")
    if not (np.isfinite(depth) & (depth >= 0)).all():
        raise InputError(f"{path} has depths that are negative, NaN or infinite: {_REMEDY}")
    return depth.astype(np.float32)


def _read_mask(path: Path) -> np.ndarray:
    """(H, W) bool."""
    pixels = read_pixels(path)
    return (pixels if pixels.ndim == 2 else pixels[..., :3].max(axis=-1)) > 0
