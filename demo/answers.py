"""What the page answers: the pose of the object in an uploaded photo, with pictures."""

import base64
import gc
from pathlib import Path

import cv2
import numpy as np

from picopose.demo.category_command import estimate
from picopose.demo.desk import Tell
from picopose.demo.results import category_results_of, results_of
from picopose.demo.shots import read_shot, unit_of
from picopose.demo.uploads import DepthUpload, MeshUpload, Upload
from picopose.pipeline.category_estimator import CategoryEstimator
from picopose.pipeline.estimator import PoseEstimator
from picopose.rendering.units import describe
from picopose.utils.config import Config
from picopose.utils.errors import InputError

JPEG_QUALITY = 90
NAMES = {"picopose": "PicoPose", "rnnpose": "RNNPose", "dualposenet": "DualPoseNet"}


def method_of(config: Config) -> str:
    """The method's name, as the page shows it."""
    if config.method == "rendermatch":
        return "render, match and refine, untrained for the object"
    weights = config.checkpoint or config.options.get(config.method, {}).get("weights")
    name = NAMES.get(config.method, config.method)
    return f"{name}, weights {Path(weights).name if weights else 'random: meaningless'}"


def find(estimator: PoseEstimator | CategoryEstimator, upload: Upload, tell: Tell) -> dict:
    """The pose in a photo, as the page shows it."""
    tell({"doing": "Reading the files"})
    try:
        if isinstance(upload, DepthUpload):
            return _find_category(estimator, upload, tell)
        return _find_object(estimator, upload, tell)
    finally:  # a page may run for days
        gc.collect()  # scenes refer to themselves


def _find_object(estimator: PoseEstimator, upload: MeshUpload, tell: Tell) -> dict:
    name = upload.mesh.stem
    shot = read_shot(upload.photo, upload.camera, upload.place, [name])
    unit = unit_of(upload.mesh, name, shot) if upload.unit == "auto" else upload.unit

    def progress(done: int, total: int) -> None:
        tell({"doing": "Drawing views, once for a mesh", "done": done, "total": total})

    estimator.add_object(upload.mesh, name=name, unit=unit, symmetry=upload.symmetry, progress=progress)
    try:
        tell({"doing": "Looking for the object" if shot.places is None else "Finding the pose"})
        masks = None if shot.places is None else [place.mask for place in shot.places]
        poses = estimator.estimate(shot.image, shot.K, masks=masks, objects=name, cropped=shot.cropped)
        if not poses:
            raise InputError(f"{name} is not found in the photo: draw a box around it")
        results = results_of(estimator, shot, poses)
        size = describe(estimator.objects[name].diameter, unit)
    finally:
        estimator.remove_object(name)
    return {
        "numbers": results.numbers,
        "size": size,
        "overlay": _jpeg(results.overlay),
        "matches": _jpeg(results.matches[0]),
        "scene": base64.b64encode(results.scene).decode(),
    }


def _find_category(estimator: CategoryEstimator, upload: DepthUpload, tell: Tell) -> dict:
    shot = read_shot(upload.photo, upload.camera, upload.place, [upload.category], upload.depth)
    tell({"doing": "Finding the pose"})
    (pose,) = poses = estimate(estimator, shot)
    if not pose.found:
        raise InputError(
            f"no pose is found from {pose.points} points: choose another mask or draw another box"
        )
    results = category_results_of(estimator, shot, poses)
    return {
        "numbers": results.numbers,
        "size": pose.size_text,
        "overlay": _jpeg(results.overlay),
        "scene": base64.b64encode(results.scene).decode(),
    }


def _jpeg(rgb: np.ndarray) -> str:
    _, content = cv2.imencode(
        ".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    return base64.b64encode(content).decode()
