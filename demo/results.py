"""What is made of the poses in a photo: numbers as JSON, pictures of how they fit and why, a scene in 3D.

The last step of the demo program and of its page.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from picopose.datasets.cameras.matrices import resized
from picopose.demo.shots import Shot
from picopose.pipeline.estimator import ObjectPose, PoseEstimator
from picopose.pipeline.verdict import verdict
from picopose.rendering.overlay import GREEN, ORANGE, RED, draw_matches, draw_pose
from picopose.rendering.renderer import Renderer
from picopose.rendering.scene import scene_file

LOG = logging.getLogger(__name__)
LARGEST_OVERLAY = 25_000_000  # px; a drawing of so many takes half a gigabyte
COLOURS = {"good": GREEN, "doubtful": ORANGE, "wrong": RED}  # of outlines


@dataclass(frozen=True, eq=False)
class Results:
    """What there is to show of a photo."""

    numbers: dict  # as JSON has them
    overlay: np.ndarray  # (H, W, 3) uint8, the poses drawn onto the photo, or onto a smaller copy
    matches: list[np.ndarray]  # (h, w, 3) uint8, for each pose: the template beside the photo
    scene: bytes  # GLB


def results_of(
    renderer: Renderer, estimator: PoseEstimator, shot: Shot, poses: Sequence[ObjectPose]
) -> Results:
    (overlay, K), objects = _shown(shot), estimator.objects
    for pose in poses:
        word = verdict(pose.confidence)
        label = f"{pose.name}: {word} ({100 * pose.confidence:.0f} %)"
        mesh, colour = objects[pose.name].mesh, COLOURS[word]
        overlay = draw_pose(renderer, overlay, mesh, pose.cam_from_obj, K, label, colour)
    instances = [(pose.name, objects[pose.name].mesh, pose.cam_from_obj) for pose in poses]
    return Results(
        numbers={
            "image": shot.path.name,
            "unit": "m",
            "K": shot.K.tolist(),
            "poses": [_as_json(pose) for pose in poses],
        },
        overlay=overlay,
        matches=[
            draw_matches(shot.image, *estimator.compared(pose, shot.K), pose.matches[:, :2], pose.box)
            for pose in poses
        ],
        scene=scene_file(instances, shot.image, shot.K),
    )


def _shown(shot: Shot) -> tuple[np.ndarray, np.ndarray]:
    """The photo (H, W, 3) that poses are drawn onto, and its K (3, 3): a smaller copy of a very large one."""
    height, width = shot.image.shape[:2]
    if height * width <= LARGEST_OVERLAY:
        return shot.image, shot.K
    scale = (LARGEST_OVERLAY / (height * width)) ** 0.5
    small = cv2.resize(shot.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    LOG.info("the overlay is %dx%d px, as the photo is very large", small.shape[1], small.shape[0])
    return small, resized(torch.from_numpy(shot.K), scale).numpy()


def _as_json(pose: ObjectPose) -> dict:
    return {
        "object": pose.name,
        "cam_from_obj": pose.cam_from_obj.tolist(),
        "quaternion_xyzw": pose.quaternion_xyzw.tolist(),
        "translation": pose.cam_from_obj[:3, 3].tolist(),
        "confidence": pose.confidence,
        "verdict": verdict(pose.confidence),
        "inlier_ratio": pose.inlier_ratio,
        "template": pose.template,
        "box": pose.box.tolist(),
    }
