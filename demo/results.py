"""Results of a photo: poses as JSON, the overlay, pictures of matches and a scene in 3D.

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
from picopose.pipeline.category_estimator import CategoryEstimator, CategoryPose
from picopose.pipeline.estimator import ObjectPose, PoseEstimator
from picopose.rendering.overlay import draw_matches
from picopose.rendering.point_scene import point_scene_file
from picopose.rendering.scene import scene_file

LOG = logging.getLogger(__name__)
LARGEST_OVERLAY = 25_000_000  # px; a drawing of so many takes half a gigabyte


@dataclass(frozen=True, eq=False)
class Results:
    """Everything that is shown of a photo."""

    numbers: dict  # of pose.json
    overlay: np.ndarray  # (H, W, 3) uint8, the poses drawn onto the photo, or onto a smaller copy
    matches: list[np.ndarray]  # (h, w, 3) uint8, for each pose of a mesh: the template beside the photo
    scene: bytes  # GLB


def results_of(estimator: PoseEstimator, shot: Shot, poses: Sequence[ObjectPose]) -> Results:
    photo, K = _shown(shot)
    return Results(
        numbers=_numbers(shot, poses),
        overlay=estimator.draw(photo, poses, K),
        matches=[
            draw_matches(shot.image, *estimator.compared(pose, shot.K), pose.matches[:, :2], pose.box)
            for pose in poses
        ],
        scene=scene_file(
            [(pose.name, estimator.objects[pose.name].mesh, pose.cam_from_obj) for pose in poses],
            shot.image,
            shot.K,
        ),
    )


def category_results_of(estimator: CategoryEstimator, shot: Shot, poses: Sequence[CategoryPose]) -> Results:
    """Of a photo with depth, with a pose for each of its places."""
    photo, K = _shown(shot)
    height, width = shot.depth.shape
    return Results(
        numbers=_numbers(shot, poses),
        overlay=estimator.draw(photo, poses, K),
        matches=[],
        scene=point_scene_file(
            shot.image,
            shot.depth,
            shot.K,
            [place.mask.window(0, 0, width, height).numpy() for place in shot.places],
            [(pose.name, pose.size, pose.cam_from_obj) for pose in poses if pose.found],
        ),
    )


def _numbers(shot: Shot, poses: Sequence[ObjectPose | CategoryPose]) -> dict:
    return {
        "image": shot.name,
        "unit": "m",
        "K": shot.K.tolist(),
        "poses": [pose.to_dict() for pose in poses],
    }


def _shown(shot: Shot) -> tuple[np.ndarray, np.ndarray]:
    """The photo (H, W, 3) that poses are drawn onto, and its K (3, 3): a smaller copy of a very large one."""
    height, width = shot.image.shape[:2]
    if height * width <= LARGEST_OVERLAY:
        return shot.image, shot.K
    scale = (LARGEST_OVERLAY / (height * width)) ** 0.5
    small = cv2.resize(shot.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    LOG.info("the overlay is %dx%d px, as the photo is very large", small.shape[1], small.shape[0])
    return small, resized(torch.from_numpy(shot.K), scale).numpy()
