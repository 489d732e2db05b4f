"""The lists of what is to be found in a BOP data set, for runs and scores alike.

There are two forms: images with their objects and how many of each (2019 to 2023: localization), and images
alone (2024: detection).
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from picopose.utils.errors import InputError
from picopose.utils.reading import integer, read_json

_LOG = logging.getLogger(__name__)
TARGETS = {"localization": "test_targets_bop19.json", "detection": "test_targets_bop24.json"}  # by task
_KEYS = ("scene_id", "im_id", "obj_id", "inst_count")
_MAX_DETECTIONS = {"xyzibd": 200}


@dataclass(frozen=True)
class Targets:
    """The images of a list, in its order."""

    path: Path
    # (scene_id, im_id): how many of each object; none are named where the list names images alone.
    images: dict[tuple[int, int], dict[int, int]]
    per_object: bool  # False: the list names images alone, and whatever is in them is to be found

    @property
    def task(self) -> str:
        """Of `TARGETS`."""
        return "localization" if self.per_object else "detection"

    def as_task(self, task: str | None) -> Self:
        """The list as another task takes it, if one is named: detection of the images alone.

        Raises an `InputError` where localization is asked for and the list names no objects.
        """
        if task in (None, self.task):
            return self
        if task == "localization":
            raise InputError(
                f"{self.path} names no objects, which localization needs: choose the task detection"
            )
        return replace(self, images={image: {} for image in self.images}, per_object=False)


def max_detections(dataset: str) -> int:
    """Of an image, the number of poses with the best scores that count in detection."""
    return _MAX_DETECTIONS.get(dataset, 100)


def find_targets(dataset_dir: Path, task: str | None = None) -> Path:
    """The list of a data set for a task of `TARGETS`; of any, that of localization before that of detection.

    Where there is only the other task's list, that is taken and said so; for localization, which needs
    objects, it is an `InputError`.
    """
    wanted = dataset_dir / TARGETS[task or "localization"]
    others = [dataset_dir / name for name in TARGETS.values() if (dataset_dir / name).is_file()]
    if wanted in others or not others:
        return wanted
    (other,) = others
    if task == "localization":
        raise InputError(
            f"{wanted} does not exist, but {other.name}: choose the task detection, or name a list of targets"
        )
    what = "whatever is in the images is looked for"
    _LOG.warning("%s has no %s, but %s: %s", dataset_dir, wanted.name, other.name, what)
    return other


def read_targets(path: Path) -> Targets:
    """A list of targets; of entries for one object of an image the last counts.

    Raises an `InputError` that names the entry for anything missing or malformed.
    """
    entries = read_json(path, remedy="download the targets of the data set")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path} holds no list of targets: download it again")
    per_object = isinstance(entries[0], dict) and not {"obj_id", "inst_count"}.isdisjoint(entries[0])
    images: dict[tuple[int, int], dict[int, int]] = {}
    for index, entry in enumerate(entries):
        scene_id, im_id, *target = _numbers(
            entry, _KEYS if per_object else _KEYS[:2], f"{path}: target {index}"
        )
        counts = images.setdefault((scene_id, im_id), {})
        if target:
            obj_id, count = target
            counts[obj_id] = count
    return Targets(path, images, per_object)


def _numbers(entry: Any, keys: tuple[str, ...], where: str) -> list[int]:
    if not isinstance(entry, dict) or entry.keys() & set(_KEYS) != set(keys):
        raise InputError(f"{where} needs {', '.join(keys)}: download the list of targets again")
    numbers = [integer(entry[key], f"{where}: {key}") for key in keys]
    if keys == _KEYS and numbers[-1] == 0:
        raise InputError(f"{where}: inst_count must be 1 or more: download the list of targets again")
    return numbers
