"""What the frames of a data set start from: given detections, those of a detector stage, or given poses."""

import logging
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from picopose.datasets.bop.detections import Detection
from picopose.datasets.bop.test_set import BopTestSet
from picopose.datasets.linemod.initial_poses import read_initial_poses
from picopose.datasets.masks.regions import box_mask
from picopose.model.stage import Stage, Things
from picopose.utils.errors import InputError
from picopose.utils.geometry import project, transform
from picopose.utils.reading import is_rotation
from picopose.utils.records import Estimates, Frame, Mask

LOG = logging.getLogger(__name__)


class DatasetStart(Protocol):
    """A `run.Start` for the frames of a data set; `path` and `of_image` say what it depends on."""

    path: Path

    def of_image(self, scene_id: int, im_id: int) -> tuple:
        """All that is given about an image."""

    def __call__(self, frame: Frame, before: Estimates | None = None) -> Estimates: ...


class Detected:
    """The detections of a data set."""

    def __init__(self, dataset: BopTestSet):
        self._dataset, self.path = dataset, dataset.detections.path

    def of_image(self, scene_id: int, im_id: int) -> tuple[Detection, ...]:
        return self._dataset.detections.of_image(scene_id, im_id)

    def __call__(self, frame: Frame, before: Estimates | None = None) -> Estimates:
        return self._dataset.start(frame)


class StageDetections:
    """The detections of a stage that finds the objects itself; nothing is given about an image."""

    path = Path("none")

    def __init__(self, stage: Stage, things: Things):
        self.stage = stage
        stage.prepare(things)

    def of_image(self, scene_id: int, im_id: int) -> tuple[()]:
        return ()

    def __call__(self, frame: Frame, before: Estimates | None = None) -> Estimates:
        began = time.perf_counter()
        found = self.stage(frame, Estimates.of([], [])).to("cpu")
        return replace(found, seconds=time.perf_counter() - began)


def regions_of(found: Estimates, detector: Stage) -> Estimates:
    """Detections as regions to estimate poses in: boxes where a detector's masks come from guessed poses.

    The outline of a wrong pose would lead to the same wrong pose again.
    """
    if not detector.guesses_outlines:
        return found
    return replace(found, mask=tuple(Mask(mask.box, None) for mask in found.mask))


class InitialPoses:
    """Starts frames from given poses: each becomes a detection, with the box of the object at that pose.

    Poses that cannot be used are left out with a warning: those of other objects, with invalid rotations or
    numbers that are not finite, or outside the photo.

    Args:
        path: see `datasets.linemod.initial_poses.read_initial_poses`.
        things: of the data set, with drawings.

    Raises an `InputError` for a file that cannot be read or has no usable pose, and where meshes are missing.
    """

    def __init__(self, path: Path | str, things: Things, dataset: BopTestSet):
        self.path, self._things = Path(path), things
        if things.drawings is None:
            raise InputError(
                f"{self.path}: poses to begin with need the objects' meshes: download the models"
            )
        results, images = read_initial_poses(self.path, dataset.images_of), set(dataset.places)
        known = np.isin(results.obj_id, list(things.by_id))
        finite = np.isfinite(results.score) & np.isfinite(results.cam_from_obj).all(axis=(1, 2))
        sound = finite & is_rotation(results.cam_from_obj[:, :, :3])
        self._tell("of objects that are no targets", (~known).sum())
        self._tell("with numbers that are not finite, or no rotation", (known & ~sound).sum())
        self._rows: dict[tuple[int, int], list[tuple[int, float, np.ndarray, float]]] = defaultdict(list)
        for row in np.flatnonzero(known & sound):
            image = int(results.scene_id[row]), int(results.im_id[row])
            pose = int(results.obj_id[row]), float(results.score[row]), results.cam_from_obj[row]
            if image in images:
                self._rows[image].append((*pose, max(0.0, float(results.time[row]))))
        if not self._rows:
            raise InputError(f"{self.path} has no pose in these images: is it of another data set?")

    def of_image(self, scene_id: int, im_id: int) -> tuple[tuple[int, float, np.ndarray, float], ...]:
        """Object, score, pose (3, 4) and seconds for the image, for each line of the file about an image."""
        return tuple(self._rows.get((scene_id, im_id), ()))

    def __call__(self, frame: Frame, before: Estimates | None = None) -> Estimates:
        rows = self.of_image(frame.scene_id, frame.im_id)
        poses = torch.eye(4).repeat(len(rows), 1, 1)
        for pose, (_, _, given, _) in zip(poses, rows, strict=True):
            pose[:3] = torch.from_numpy(given).float()
        masks = [self._region(obj_id, pose, frame) for (obj_id, *_), pose in zip(rows, poses, strict=True)]
        seen = [i for i, mask in enumerate(masks) if mask is not None]
        self._tell(f"not in sight of scene {frame.scene_id}, image {frame.im_id}", len(masks) - len(seen))
        score = torch.tensor([rows[i][1] for i in seen])
        seconds = max((row[3] for row in rows), default=0.0)  # BOP counts the time of the whole pipeline
        obj_ids, masks = [rows[i][0] for i in seen], [masks[i] for i in seen]
        found = Estimates.of(obj_ids, masks, score=score, seconds=seconds)
        return replace(found, cam_from_obj=poses[seen])

    def _region(self, obj_id: int, cam_from_obj: Tensor, frame: Frame) -> Mask | None:
        """The box around an object in a frame; None where it is behind the camera or outside the photo."""
        box = box_about(self._things.drawings.hull(obj_id), cam_from_obj, frame.K)
        try:
            return None if box is None else box_mask(box, *frame.rgb.shape[1:])
        except InputError:
            return None

    def _tell(self, which: str, count: int) -> None:
        if count:
            LOG.warning("%s: %d poses %s are left out", self.path, count, which)


def box_about(hull: Tensor, cam_from_obj: Tensor, K: Tensor) -> list[float] | None:
    """The box (4,) px around an object at a pose (4, 4), from the corners (N, 3) m of its hull.

    It may reach beyond the photo; None where the object is not entirely in front of the camera K (3, 3).
    """
    xyz = transform(cam_from_obj.double(), hull)
    if not (xyz[:, 2] > 0).all():
        return None
    xy = project(K.double(), xyz)
    return [*xy.amin(0).tolist(), *(xy.amax(0) + 1).tolist()]
