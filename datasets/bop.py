"""Test images of BOP data sets, one `Observation` per image, with the detections that its targets ask for.

The lists are read and checked at once; photos and masks are read one image at a time.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets.detections import Detection, Detections
from datasets.objects import ObjectInfo, read_objects
from utils import layouts
from utils.cameras import camera_matrix, check_camera
from utils.errors import InputError
from utils.files import read_json
from utils.images import read_image
from utils.structs import Observation


@dataclass(frozen=True)
class TargetImage:
    """One image to solve: its photo, its camera, and how many instances of which objects to find."""

    scene_id: int
    im_id: int
    path: Path
    K: Tensor  # (3, 3)
    instances: dict[int, int]  # obj_id -> inst_count, in the order of the targets


class BopTestSet(Dataset):
    """The target images of a BOP data set as `Observation`s, in the order of the targets.

    For every target the `inst_count` best detections of its object are taken; for an object without any the
    best ones of all detections of the image, under that object's id. An image without detections gives an
    observation with none.

    Args:
        data_dir: folder of the data sets.
        name: folder of this one, `lmo` for example.
        detections: JSON file of detections; the one `layouts.find_detections` knows if not given.
        targets: JSON file of targets; `test_targets_bop19.json` of the data set if not given.
    """

    def __init__(
        self,
        data_dir: Path | str,
        name: str,
        *,
        detections: Path | str | None = None,
        targets: Path | str | None = None,
    ):
        self.name = name
        self.split = layouts.bop_test_split(data_dir, name)
        self.split_dir = layouts.dataset_dir(data_dir, name) / self.split
        targets = Path(targets or layouts.dataset_dir(data_dir, name) / "test_targets_bop19.json")
        self.images = _target_images(targets, self.split_dir)
        self.objects = _target_objects(self.images, layouts.models_dir(data_dir, name), targets)
        self.detections = Detections(
            detections or layouts.find_detections(data_dir, name),
            images={(image.scene_id, image.im_id) for image in self.images},
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Observation:
        target = self.images[index]
        image = read_image(target.path)
        height, width = image.shape[1:]
        check_camera(target.K, width, height, f"{target.path}: its K in scene_camera.json")
        found = self.detections.of_image(target.scene_id, target.im_id)
        obj_ids, chosen = _select(found, target.instances)
        return Observation(
            image=image,
            K=target.K,
            obj_ids=torch.tensor(obj_ids, dtype=torch.long),
            masks=self.detections.masks(
                chosen, scene_id=target.scene_id, im_id=target.im_id, size=(height, width)
            ),
            boxes=torch.tensor([detection.box for detection in chosen]).reshape(-1, 4),
            scores=torch.tensor([detection.score for detection in chosen]),
            scene_id=target.scene_id,
            im_id=target.im_id,
            seconds=max((detection.seconds for detection in found), default=0.0),
        )


def _select(found: tuple[Detection, ...], instances: dict[int, int]) -> tuple[list[int], list[Detection]]:
    """Object ids and detections to solve, from the detections of an image, best first."""
    obj_ids, chosen = [], []
    for obj_id, count in instances.items():
        own = [detection for detection in found if detection.obj_id == obj_id][:count] or found[:count]
        obj_ids += [obj_id] * len(own)
        chosen += own
    return obj_ids, chosen


def _target_images(targets: Path, split_dir: Path) -> tuple[TargetImage, ...]:
    """The images that a targets file names, in its order, each with its K and its objects."""
    wanted: dict[tuple[int, int], dict[int, int]] = {}
    entries = read_json(targets, remedy="download the targets of the data set")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{targets} holds no list of targets: download it again")
    for index, entry in enumerate(entries):
        scene_id, im_id, obj_id, count = _target(entry, f"{targets}: target {index}")
        wanted.setdefault((scene_id, im_id), {})[obj_id] = count
    scenes = {scene_id: layouts.scene_dir(split_dir, scene_id) for scene_id, _ in wanted}
    cameras = {scene_id: dict(_table(scene / "scene_camera.json")) for scene_id, scene in scenes.items()}
    images = []
    for (scene_id, im_id), instances in wanted.items():
        where = f"{scenes[scene_id] / 'scene_camera.json'}: image {im_id}"
        camera = cameras[scene_id].get(str(im_id))
        if not isinstance(camera, dict) or "cam_K" not in camera:
            raise InputError(f"{where} has no cam_K: download the images again")
        K = camera_matrix(camera["cam_K"], f"{where}: cam_K")
        images.append(TargetImage(scene_id, im_id, layouts.image_path(scenes[scene_id], im_id), K, instances))
    return tuple(images)


def _target(entry: Any, where: str) -> tuple[int, int, int, int]:
    keys = ("scene_id", "im_id", "obj_id", "inst_count")
    values = tuple(entry.get(key) for key in keys) if isinstance(entry, dict) else ()
    if not values or not all(isinstance(value, int) and value >= 0 for value in values) or values[3] == 0:
        raise InputError(f"{where} needs {', '.join(keys)} as integers: take test_targets_bop19.json")
    return values


def _target_objects(images: tuple[TargetImage, ...], models: Path, targets: Path) -> dict[int, ObjectInfo]:
    """The objects that the targets name, by id."""
    known = read_objects(models)
    wanted = sorted({obj_id for image in images for obj_id in image.instances})
    for obj_id in wanted:
        if obj_id not in known:
            raise InputError(
                f"{models / 'models_info.json'} lacks object {obj_id} of {targets}: download the models"
            )
        if not known[obj_id].model_path.is_file():
            raise InputError(f"model {known[obj_id].model_path} not found: download the models again")
    return {obj_id: known[obj_id] for obj_id in wanted}


def _table(path: Path) -> list[tuple[str, Any]]:
    """The entries of a JSON object whose keys are image ids."""
    table = read_json(path, remedy="download the images of the data set again")
    if not isinstance(table, dict) or not all(key.isdecimal() for key in table):
        raise InputError(f"{path} is no table by image: download the images of the data set again")
    return list(table.items())
