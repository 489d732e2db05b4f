"""Readers of NOCS's layout: frames as training instances, prepared instances, and results."""

from pathlib import Path

import numpy as np

from picopose.datasets.nocs.detections import ImageResult, read_result
from picopose.datasets.nocs.instances import Instance, instances_of
from picopose.datasets.nocs.layout import CLASSES, list_frames
from picopose.datasets.nocs.preparation import MADE_WITH, open_prepared, prepare
from picopose.datasets.nocs.prepared import points_path, records_path
from tests import small_nocs as small
from tests.mutated.soundness import finite, sound
from tests.mutation_cases import Reader


def read_instances(folder: Path) -> list[Instance]:
    frames = list_frames(folder, "camera_train").frames
    return [made for frame in frames for made in instances_of(frame, np.random.RandomState(0))]


def check_instances(instances: list[Instance]) -> None:
    for made in instances:
        label = made.label
        sound(1 <= made.class_id <= len(CLASSES), "a class that cannot be")
        sound(finite(made.points, label.translation) and len(made.points) == len(made.rgb), "no points")
        sound(abs(np.linalg.norm(label.rotation) - 1) < 2e-3, "a rotation that cannot be")
        sound(finite(label.size) and (label.size > 0).all(), "a size that cannot be")


def write_prepared(folder: Path) -> None:
    small.write_frame(folder)
    list(prepare(folder, "camera_train", folder / "prepared"))


def read_prepared(folder: Path) -> list[Instance]:
    return list(open_prepared(folder / "prepared"))


def check_result(result: ImageResult) -> None:
    count, truths = len(result.class_ids), result.truths
    sound(isinstance(result.image_path, str), "no path of an image")
    for class_ids in (truths.class_ids, result.class_ids):
        sound(((class_ids >= 1) & (class_ids <= len(CLASSES))).all(), "a class that cannot be")
    sound(finite(truths.RTs, truths.scales, truths.boxes, result.boxes, result.scores), "no numbers")
    sound(truths.RTs.shape == (len(truths.class_ids), 4, 4) and result.boxes.shape == (count, 4), "no rows")
    sound(result.masks is None or result.masks.shape[2] == count, "masks of others")
    sound(result.poses is None or result.poses.RTs.shape == (count, 4, 4), "poses of others")


IMAGES = [(f"{small.FRAME}_{part}.png", "png") for part in ("color", "coord", "depth", "mask")]
TEXTS = [(f"{small.FRAME}_meta.txt", "text"), (small.BOX, "text")]
SHARD = [f"prepared/{path(Path(), 0)}" for path in (points_path, records_path)]

READERS: dict[str, Reader] = {
    "nocs-images": Reader(small.write_frame, read_instances, check_instances, IMAGES),
    "nocs-text": Reader(small.write_frame, read_instances, check_instances, TEXTS, whole=False),
    "nocs-prepared": Reader(
        write_prepared,
        read_prepared,
        check_instances,
        [*((path, "headed") for path in SHARD), (f"prepared/{MADE_WITH}", "json")],
    ),
    "nocs-results": Reader(
        small.write_result,
        lambda folder: read_result(folder / small.RESULT),
        check_result,
        [(small.RESULT, "binary")],
    ),
}
