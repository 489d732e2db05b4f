"""What a run on a data set begins with: detections, given poses, or nothing."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from picopose.datasets.bop.detections import Detection
from picopose.datasets.bop.results import read_results
from picopose.datasets.bop.test_set import BopTestSet
from picopose.datasets.masks.regions import box_mask
from picopose.model.stage import Things
from picopose.utils.errors import InputError
from picopose.utils.geometry import project, transform
from picopose.utils.reading import is_rotation
from picopose.utils.records import Estimates, Frame, Mask


class DatasetStart(Protocol):
    """A start of frames of a data set; `path` and `of_image` tell what it depends on."""

    path: Path

    def of_image(self, scene_id: int, im_id: int) -> tuple:
        """All that is given of an image."""

    def __call__(self, frame: Frame, before: Estimates | None = None) -> Estimates: ...


class Detected:
    """The detections of a data set."""

    def __init__(self, dataset: BopTestSet):
        self._dataset, self.path = dataset, dataset.detections.path

    def of_image(self, scene_id: int, im_id: int) -> tuple[Detection, ...]:
        return self._dataset.detections.of_image(scene_id, im_id)

    def __call__(self, frame: Frame, before: Estimates | None = None) -> Estimates:
        return self._dataset.start(frame)


class Nothing:
    """The start of frames in which the first stage detects the objects itself."""

    path = Path("none")

    def of_image(self, scene_id: int, im_id: int) -> tuple[()]:
        return ()

    def __call__(self, frame: Frame, before: Estimates | None = None) -> Estimates:
        return Estimates.of([], [])


class InitialPoses:
    """The start of frames from given poses: each is a detection whose box is that of the object at the pose.

    Args:
        things: with drawings.

    Raises an `InputError` for a file that cannot be read, or that holds what is no pose of these things.
    """

    def __init__(self, path: Path | str, things: Things):
        self.path, self._things = Path(path), things
        if things.drawings is None:
            raise InputError(
                f"{self.path}: poses to begin with need the objects' meshes: download the models"
            )
        results = read_results(self.path)
        self._rows: dict[tuple[int, int], list[tuple[int, float, np.ndarray]]] = defaultdict(list)
        for row in range(len(results)):
            obj_id, score, pose = (
                int(results.obj_id[row]),
                float(results.score[row]),
                results.cam_from_obj[row],
            )
            where = f"{self.path}: pose {row + 1}"
            if obj_id not in things.by_id:
                raise InputError(f"{where} is of object {obj_id}, which is none of the targets: leave it out")
            if not (np.isfinite(score) and np.isfinite(pose).all() and is_rotation(pose[:, :3]).all()):
                raise InputError(f"{where} holds no rotation, or numbers that are not finite: correct it")
            if not pose[2, 3] > 0:
                raise InputError(f"{where} lies behind the camera: correct it")
            image = int(results.scene_id[row]), int(results.im_id[row])
            self._rows[image].append((obj_id, score, pose))

    def of_image(self, scene_id: int, im_id: int) -> tuple[tuple[int, float, np.ndarray], ...]:
        """Object, score and pose (3, 4) of each line about an image."""
        return tuple(self._rows.get((scene_id, im_id), ()))

    def __call__(self, frame: Frame, before: Estimates | None = None) -> Estimates:
        rows = self.of_image(frame.scene_id, frame.im_id)
        pose = torch.eye(4).repeat(len(rows), 1, 1)
        for i, (_, _, given) in enumerate(rows):
            pose[i, :3] = torch.from_numpy(given).float()
        masks = [self._region(obj_id, p, frame) for (obj_id, _, _), p in zip(rows, pose, strict=True)]
        score = torch.tensor([score for _, score, _ in rows])
        found = Estimates.of([obj_id for obj_id, _, _ in rows], masks, score=score)
        return replace(found, cam_from_obj=pose)

    def _region(self, obj_id: int, cam_from_obj: torch.Tensor, frame: Frame) -> Mask:
        """The box about an object in a frame; an `InputError` where none of it is seen."""
        xyz = transform(cam_from_obj.double(), self._things.drawings.hull(obj_id))
        xy = project(frame.K.double(), torch.cat([xyz[:, :2], xyz[:, 2:].clamp(min=1e-6)], dim=1))
        low, high = xy.amin(0), xy.amax(0) + 1
        try:
            return box_mask([*low.tolist(), *high.tolist()], *frame.rgb.shape[1:])
        except InputError:
            raise InputError(
                f"{self.path}: object {obj_id} at its pose is not in sight of scene {frame.scene_id}, image "
                f"{frame.im_id}: leave it out"
            ) from None
