"""Photos of one object of a BOP data set whose images are annotated: train_pbr, train_real or test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from picopose.datasets.bop.entries import Instance, instance_of
from picopose.datasets.bop.scenes import Scene, open_scenes
from picopose.datasets.cameras.matrices import check_camera
from picopose.datasets.images import read_depth, read_pixels
from picopose.datasets.layouts import names_in
from picopose.datasets.linemod.photos import observation
from picopose.datasets.linemod.poses import camera_pose
from picopose.utils.errors import InputError
from picopose.utils.records import Observation

_REMEDY = "download the images of the data set again"


class BopPhotos:
    """Every instance of an object that is seen well enough; depths are those of what is seen of it.

    Args:
        split: such as `lmo/train_pbr`.
        visible: share of an instance that must be seen.

    Raises:
        InputError: a file is missing or damaged, or the object is nowhere.
    """

    def __init__(self, split: Path, obj_id: int, *, visible: float = 0.1):
        numbers = [int(path.name) for path in split.glob("*") if path.name.isdecimal()]
        if not numbers:
            raise InputError(f"{split} holds no scenes: name a split of a BOP data set ({names_in(split)})")
        self._entries: list[tuple[int, int, int, np.ndarray]] = []  # scene, image, index, pose
        self._scenes: dict[int, Scene] = {}
        for scene_id, scene in open_scenes(split, sorted(numbers)).items():
            for im_id in scene.image_ids:
                for index, instance in _instances(scene, im_id, obj_id):
                    if instance.visibility >= visible:
                        self._entries.append((scene_id, im_id, index, instance.cam_from_obj))
            self._scenes[scene_id] = replace(scene)  # without its tables, which are large
        if not self._entries:
            raise InputError(f"{split} shows object {obj_id} nowhere: name another split or object")

    def __len__(self) -> int:
        return len(self._entries)

    def name(self, index: int) -> str:
        scene_id, im_id, own, _ = self._entries[index]
        return f"{self._scenes[scene_id].folder}: image {im_id}, object {own}"

    def photo(self, index: int) -> Observation:
        scene_id, im_id, own, pose = self._entries[index]
        scene = self._scenes[scene_id]
        depth, seen = _depth(scene, im_id), _mask(scene, im_id, own)
        if depth.shape != seen.shape:
            sizes = [f"{shape[1]}x{shape[0]} px" for shape in (depth.shape, seen.shape)]
            raise InputError(
                f"{self.name(index)}: a depth of {sizes[0]}, and a mask of {sizes[1]}: {_REMEDY}"
            )
        pose, K = camera_pose(pose, self.name(index)), scene.K(im_id)
        check_camera(torch.from_numpy(K), *seen.shape[::-1], f"{self.name(index)}: K", cropped=True)
        return observation(scene.photo_path(im_id), np.where(seen, depth, 0), K, pose)


def _instances(scene: Scene, im_id: int, obj_id: int) -> Iterator[tuple[int, Instance]]:
    """The instances of an object in an image, with their indices; others are not looked at."""
    for index, (truth, info) in enumerate(scene.annotations(im_id)):
        if truth.get("obj_id") == obj_id:
            yield index, instance_of(truth, info, f"{scene.table('gt')}: image {im_id}, object {index}")


def _depth(scene: Scene, im_id: int) -> np.ndarray:
    """(H, W) float32 m."""
    path = scene.depth(im_id)
    if path is None:
        raise InputError(f"{scene.folder / 'depth' / f'{im_id:06d}.png'} not found: {_REMEDY}")
    return read_depth(path) * np.float32(scene.depth_scale(im_id))


def _mask(scene: Scene, im_id: int, index: int) -> np.ndarray:
    """(H, W) bool, what is seen of an instance."""
    pixels = read_pixels(scene.folder / "mask_visib" / f"{im_id:06d}_{index:06d}.png")
    return (pixels if pixels.ndim == 2 else pixels[..., 0]) > 0
