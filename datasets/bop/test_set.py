"""Test images of BOP data sets, one `Frame` each, and the detections in them that the targets ask for.

The lists are read and checked at once; photos and masks are read one image at a time.
"""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from picopose.datasets import layouts
from picopose.datasets.bop.detections import Detection, Detections
from picopose.datasets.bop.objects import ObjectInfo, read_objects
from picopose.datasets.bop.scenes import open_scenes, tell_cameras
from picopose.datasets.bop.targets import Targets, find_targets, max_detections, read_targets
from picopose.datasets.cameras.matrices import check_camera
from picopose.datasets.images import read_image
from picopose.utils.errors import InputError
from picopose.utils.records import Estimates, Frame

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TargetImage:
    """One image to solve: its photo, its camera, and how many instances of which objects to find."""

    scene_id: int
    im_id: int
    path: Path
    K: Tensor  # (3, 3)
    size: tuple[int, int] | None  # width, height in px that the camera is stated for, if it is
    # obj_id: inst_count, in the order of the targets; empty: whatever is detected.
    instances: dict[int, int]


class BopTestSet:
    """The target images of a BOP data set, in the order of the targets, and what is detected in them.

    For every target the `inst_count` best detections of its object are taken; for an object without any the
    best ones of all detections of the image, under that object's id. Where the targets name images alone, all
    detections of objects that have a model are taken, as many as the challenge counts. An image without
    detections begins with none.

    Args:
        data_dir: folder of the data sets.
        name: folder of this one, `lmo` for example.
        detections: JSON file of detections; the one `layouts.find_detections` knows if not given.
        targets: JSON file of targets; the one `find_targets` knows if not given.
        task: detection makes nothing but images of a list that names objects; the list's own if not given.
        camera: of a set with several; the first one, said aloud, if not given.
        detected: whether detections are read; without them there is no `start`.
    """

    def __init__(
        self,
        data_dir: Path | str,
        name: str,
        *,
        detections: Path | str | None = None,
        targets: Path | str | None = None,
        task: str | None = None,
        camera: str | None = None,
        detected: bool = True,
    ):
        self.name = name
        self.split = layouts.bop_test_split(data_dir, name)
        folder = layouts.dataset_dir(data_dir, name)
        self.split_dir = folder / self.split
        listed = read_targets(Path(targets) if targets else find_targets(folder, task)).as_task(task)
        self.task = listed.task
        self.images = _target_images(listed, self.split_dir, camera)
        self._instances = {(image.scene_id, image.im_id): image.instances for image in self.images}
        self.places = list(self._instances)  # (scene_id, im_id) of each image
        models = layouts.models_dir(data_dir, name)
        self.objects = _target_objects(listed, models)
        self._per_object = listed.per_object
        # Of an image the number of poses that count, if not all of them do.
        self.most_poses = None if listed.per_object else max_detections(name)
        self.detections: Detections | None = None
        if detected:
            self._read_detections(Path(detections or layouts.find_detections(data_dir, name)))

    @property
    def images_of(self) -> dict[int, list[tuple[int, int]]]:
        """(scene_id, im_id) of the targets of each object, in their order; empty where they name none."""
        return {
            obj_id: [place for place, instances in self._instances.items() if obj_id in instances]
            for obj_id in self.objects
            if self._per_object
        }

    def _read_detections(self, path: Path) -> None:
        self.detections = Detections(path, images=set(self._instances))
        if self._per_object:
            self._tell_undetected()
        else:
            self._keep_detected()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Frame:
        target = self.images[index]
        rgb = read_image(target.path)
        height, width = rgb.shape[1:]
        where = f"{target.path}: its K in scene_camera.json"
        if target.size not in (None, (width, height)):
            raise InputError(
                f"{where} is of {target.size[0]}x{target.size[1]} px, the photo has {width}x{height} px: "
                "download the images of the data set again"
            )
        check_camera(target.K, width, height, where, cropped=target.size is not None)
        return Frame(rgb, target.K, scene_id=target.scene_id, im_id=target.im_id)

    def start(self, frame: Frame, before: Estimates | None = None) -> Estimates:
        """What is detected in a frame, of what its targets ask for; the frame before plays no part."""
        found = self.detections.of_image(frame.scene_id, frame.im_id)
        obj_ids, chosen = self._select(found, self._instances[frame.scene_id, frame.im_id])
        return Estimates.of(
            obj_ids,
            self.detections.masks(chosen, size=tuple(frame.rgb.shape[1:])),
            score=torch.tensor([detection.score for detection in chosen]),
            box=torch.tensor([detection.box for detection in chosen]).reshape(-1, 4),
            seconds=max((detection.seconds for detection in found), default=0.0),
        )

    def _select(
        self, found: tuple[Detection, ...], instances: dict[int, int]
    ) -> tuple[list[int], list[Detection]]:
        """Object ids and detections to solve, from the detections of an image, best first."""
        if not self._per_object:
            chosen = [detection for detection in found if detection.obj_id in self.objects][: self.most_poses]
            return [detection.obj_id for detection in chosen], chosen
        obj_ids, chosen = [], []
        for obj_id, count in instances.items():
            own = [detection for detection in found if detection.obj_id == obj_id][:count] or found[:count]
            obj_ids += [obj_id] * len(own)
            chosen += own
        return obj_ids, chosen

    def _tell_undetected(self) -> None:
        """Says where detections of other objects stand in for those that there are none of."""
        undetected: Counter[int] = Counter()
        for image in self.images:
            found = {entry.obj_id for entry in self.detections.of_image(image.scene_id, image.im_id)}
            undetected.update(obj_id for obj_id in image.instances if found and obj_id not in found)
        if undetected:
            objects = ", ".join(map(str, sorted(undetected)[:8])) + ", ..." * (len(undetected) > 8)
            _LOG.info(
                "%s: targets without a detection: %d (of objects %s); their images' best ones are tried",
                *(self.name, undetected.total(), objects),
            )

    def _keep_detected(self) -> None:
        """Of the objects keeps those that were detected; says what is detected and has no model."""
        images = (self.detections.of_image(image.scene_id, image.im_id) for image in self.images)
        counts = Counter(detection.obj_id for found in images for detection in found)
        unknown = sorted(counts.keys() - self.objects.keys())
        self.objects = {obj_id: info for obj_id, info in self.objects.items() if obj_id in counts}
        if unknown:
            _LOG.warning(
                "%s: %d detections of %d objects without a model are left out: %s",
                self.detections.path,
                sum(counts[obj_id] for obj_id in unknown),
                len(unknown),
                ", ".join(map(str, unknown[:8])) + ", ..." * (len(unknown) > 8),
            )
        if counts and not self.objects:
            raise InputError(
                f"{self.detections.path}: none of its detections is of an object that {self.name} has "
                "a model of: make the detections on this data set"
            )


def _target_images(listed: Targets, split_dir: Path, camera: str | None) -> tuple[TargetImage, ...]:
    """The images that a list of targets names, in its order, each with its K and its objects."""
    scenes = open_scenes(split_dir, (scene_id for scene_id, _ in listed.images), camera)
    if camera is None:
        tell_cameras(scenes.values())
    images = []
    for (scene_id, im_id), instances in listed.images.items():
        scene = scenes[scene_id]
        K = torch.from_numpy(scene.K(im_id)).float()
        images.append(TargetImage(scene_id, im_id, scene.photo_path(im_id), K, scene.size(im_id), instances))
    return tuple(images)


def _target_objects(listed: Targets, models: Path) -> dict[int, ObjectInfo]:
    """The objects that the targets name, by id; all that have a model where they name none."""
    known = read_objects(models)
    if not listed.per_object:
        return {obj_id: info for obj_id, info in known.items() if info.model_path is not None}
    wanted = sorted({obj_id for instances in listed.images.values() for obj_id in instances})
    for obj_id in wanted:
        if obj_id not in known:
            raise InputError(
                f"{models / 'models_info.json'} lacks object {obj_id} of {listed.path}: download the models"
            )
        if known[obj_id].model_path is None:
            raise InputError(f"model {models}/obj_{obj_id:06d}.ply not found: download the models again")
    return {obj_id: known[obj_id] for obj_id in wanted}
