"""Readers of data sets in BOP's layout, for runs and for their scores."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from picopose.datasets.bop.image_result import ImageResult
from picopose.datasets.bop.objects import read_objects
from picopose.datasets.bop.results import write_csv
from picopose.datasets.bop.test_set import BopTestSet
from picopose.evaluation.eval_models import load_models
from picopose.evaluation.ground_truth import GroundTruth, load_ground_truth
from picopose.evaluation.scoring import score_csv
from picopose.rendering.mesh import MAX_DIAMETER, MIN_DIAMETER
from tests.mutated.run_files import estimate
from tests.mutated.soundness import check_mask, finite, is_camera, is_rotation, sound
from tests.mutation_cases import Reader
from tests.small_bop import HEIGHT, WIDTH, dump, load, write_set

SCENE = "toy/test/000001"
CSV = "method_toy-test.csv"


def write_bop(folder: Path) -> None:
    write_set(folder)
    write_set(folder, models="models_eval")
    truth = load(folder / SCENE / "scene_gt.json")
    dump(
        folder / SCENE / "scene_gt_info.json",
        {
            im_id: [{"visib_fract": 0.5, "bbox_obj": [5, 6, 10, 12]} for _ in found]
            for im_id, found in truth.items()
        },
    )
    results = [ImageResult(1, im_id, 0.5, (estimate(2), estimate(5)), {"poses": 0.5}) for im_id in (3, 7)]
    write_csv(folder / CSV, results)


def read_run(folder: Path) -> list:
    dataset = BopTestSet(folder, "toy")
    frames = [dataset[k] for k in range(len(dataset))]
    return [*((frame, dataset.start(frame)) for frame in frames), dataset.objects, dataset.images]


def check_run(value: list) -> None:
    *seen, objects, _ = value
    for frame, found in seen:
        height, width = frame.rgb.shape[1:]
        sound(is_camera(frame.K) and frame.K[0, 0] < 100 * width, "no camera of this photo")
        for mask in found.mask:
            check_mask(mask, height, width)
        sound(finite(found.box, found.score, found.seconds), "boxes or scores that are not finite")
    check_objects(objects)


def check_objects(objects: dict) -> None:
    for info in objects.values():
        sound(MIN_DIAMETER <= info.diameter <= MAX_DIAMETER, "a diameter that cannot be")
        motions = info.symmetry.discrete
        sound(is_rotation(motions[:, :3, :3]) and finite(motions), "no rotations")
        for axis, point in info.symmetry.axes:
            sound(finite(axis, point) and abs(np.linalg.norm(axis) - 1) < 1e-6, "no axis")


def read_truth(folder: Path) -> GroundTruth:
    return load_ground_truth(folder / "toy/test", folder / "toy/test_targets_bop19.json", per_object=True)


def check_truth(truth: GroundTruth) -> None:
    for image, wanted in zip(truth.images, truth.targets, strict=True):
        poses = image.cam_from_obj
        sound(is_camera(image.K), "no camera")
        sound(is_rotation(poses[:, :, :3]) and finite(poses), "a pose that is none")
        sound(finite(image.depth_scale) and image.depth_scale > 0, "a scale of depth that cannot be")
        sound(
            ((image.visibility >= 0) & (image.visibility <= 1)).all(),
            "a share of visible pixels beyond 0 to 1",
        )
        sound(all(count >= 0 for count in wanted.values()), "a number of instances that cannot be")


def write_depth(folder: Path) -> None:
    """Of float numbers too, as TIFF files may hold."""
    write_bop(folder)
    depth = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH)
    (folder / SCENE / "depth").mkdir()
    Image.fromarray(depth).save(folder / SCENE / "depth/000003.png")
    Image.fromarray(depth.astype(np.float32)).save(folder / SCENE / "depth/000007.tif")


def read_depth(folder: Path) -> list[np.ndarray]:
    return [image.depth() for image in read_truth(folder).images]


def check_depth(images: list[np.ndarray]) -> None:
    for image in images:
        sound(image.shape == (HEIGHT, WIDTH) and finite(image), "no depth image of this photo")
        sound((image >= 0).all(), "a depth that cannot be")


def read_models(folder: Path) -> dict:
    return load_models(folder / "toy", [2, 5])


def check_models(models: dict) -> None:
    for model in models.values():
        sound(0.001 <= model.diameter <= 10, "a diameter that cannot be")
        sound(
            is_rotation(model.symmetries[:, :, :3]) and finite(model.symmetries),
            "symmetries that are no rotations",
        )
        sound(
            finite(model.vertices) and len(model.faces) and model.faces.max() < len(model.vertices), "no mesh"
        )


def read_scores(folder: Path) -> dict:
    return score_csv(folder / CSV, folder / "toy").as_json()


def check_scores(scores: dict) -> None:
    recalls = [value for name, value in scores.items() if isinstance(value, float) and "time" not in name]
    sound(recalls and all(0 <= value <= 1 for value in recalls), "scores beyond 0 to 1")
    json.dumps(scores)


def bop(read: Callable[[Path], Any], check: Callable[[Any], None], *files: tuple[str, str]) -> Reader:
    return Reader(write_bop, read, check, files, whole=not any(file == CSV for file, _ in files))


READERS: dict[str, Reader] = {
    "run-detections": bop(read_run, check_run, ("toy/detections.json", "json")),
    "run-targets": bop(read_run, check_run, ("toy/test_targets_bop19.json", "json")),
    "run-cameras": bop(read_run, check_run, (f"{SCENE}/scene_camera.json", "json")),
    "run-objects": bop(read_run, check_run, ("toy/models/models_info.json", "json")),
    "objects": bop(
        lambda folder: read_objects(folder / "toy/models"),
        check_objects,
        ("toy/models/models_info.json", "json"),
    ),
    "truth-targets": bop(read_truth, check_truth, ("toy/test_targets_bop19.json", "json")),
    "truth-poses": bop(read_truth, check_truth, (f"{SCENE}/scene_gt.json", "json")),
    "truth-visibility": bop(read_truth, check_truth, (f"{SCENE}/scene_gt_info.json", "json")),
    "truth-cameras": bop(read_truth, check_truth, (f"{SCENE}/scene_camera.json", "json")),
    "truth-models": bop(
        read_models,
        check_models,
        ("toy/models_eval/models_info.json", "json"),
        ("toy/models_eval/obj_000005.ply", "text"),
    ),
    "truth-depth": Reader(
        write_depth,
        read_depth,
        check_depth,
        [(f"{SCENE}/depth/000003.png", "png"), (f"{SCENE}/depth/000007.tif", "binary")],
    ),
    "results-csv": bop(read_scores, check_scores, (CSV, "text")),
}
