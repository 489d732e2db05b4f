"""From a photo with depth and masks to poses and sizes of objects of known categories, without meshes.

`CategoryEstimator().estimate("rgb.png", "depth.png", K, masks="mask.png", categories="mug")`
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike

from picopose.datasets.nocs.layout import CLASSES
from picopose.model.methods import make_stages, of_categories, stage_names
from picopose.model.stage import Setup, Thing, Things
from picopose.pipeline.category_pose import CategoryPose
from picopose.pipeline.conversions import (
    AnyDepth,
    AnyMask,
    Photo,
    as_camera,
    as_depth,
    as_device,
    as_frame,
    as_masks,
    as_photo,
)
from picopose.pipeline.run import run_one
from picopose.pipeline.verdict import OUTLINES
from picopose.rendering.overlay import YELLOW, draw_sized_box
from picopose.utils.config import Config
from picopose.utils.config_files import load_config
from picopose.utils.errors import InputError
from picopose.utils.home import cache_dir
from picopose.utils.records import Estimates, Frame, Mask
from picopose.utils.stopwatch import Stopwatch

LOG = logging.getLogger(__name__)
SMALL_CONFIG, TRAINED_CONFIG = "config/dualposenet_small.yaml", "config/dualposenet.yaml"
SMALL_WEIGHTS = "data/weights/dualposenet_small.pt"
IDS = {name: number for number, name in enumerate(CLASSES, start=1)}


class CategoryEstimator:
    """Finds pose and size of objects of six categories: bottle, bowl, camera, can, laptop and mug.

    Args:
        weights: a checkpoint: one trained here, or the one released by DualPoseNet's authors (model-30); None
            for the small network that comes with the program.
        config: YAML file, also one of the program's own; None takes `config/dualposenet.yaml` with weights,
            and `config/dualposenet_small.yaml` without.
        device: None for a GPU if there is one.
        overrides: `key=value` entries of the configuration, such as
            `options.dualposenet.refine=feature`.

    Raises:
        InputError: a file is missing or of the wrong kind; so do the methods. Its message is one line that
            names the file or the option and the remedy.
    """

    def __init__(
        self,
        weights: Path | str | None = None,
        *,
        config: Path | str | None = None,
        device: torch.device | str | None = None,
        overrides: Sequence[str] = (),
    ):
        self.config = _configuration(weights, config, overrides)
        self.stopwatch = Stopwatch(running=False)
        if not of_categories(self.config):
            raise InputError(f"{self.config.method}: finds objects by their meshes; use PoseEstimator")
        setup = Setup(self.config, as_device(device), self.stopwatch)
        self._stages = make_stages(stage_names(self.config), setup)
        self._things = Things({number: Thing(number, name, None) for name, number in IDS.items()})

    def estimate(
        self,
        image: Photo,
        depth: AnyDepth,
        K: ArrayLike,
        masks: AnyMask | Sequence[AnyMask] | None = None,
        categories: str | Sequence[str] | None = None,
        *,
        boxes: ArrayLike | None = None,
        depth_unit: str | float = "auto",
        cropped: bool = False,
    ) -> list[CategoryPose]:
        """Poses and sizes of the objects in a photo, one for each mask, in their order.

        Args:
            image: a file, a PIL image, an array (H, W) or (H, W, C), or a tensor, also (C, H, W); uint8, or
                floats in [0, 1]; RGB, grey or RGBA, whose alpha is dropped.
            depth: along the optical axis, registered to the photo; 0 or NaN where it is not known: a file
                (PNG of 16 bits, TIFF, .npy), or an array or tensor (H, W).
            K: (3, 3) camera, or fx, fy, cx, cy, in px; the centre of the top-left pixel is (0, 0).
            masks: one or several, other than 0 on the object: files, PIL images, arrays or tensors (H, W).
            categories: one name for all masks, or one for each.
            boxes: (left, top, right, bottom) px in place of masks; what they show beside the object is taken
                for it as long as it is near, so the poses are doubtful.
            depth_unit: of the depth: m, cm, mm, or how many values make a metre, such as 5000; "auto" is mm
                for integers, and for floats m, or mm where m would be too far.
            cropped: the photo is cut out of a larger one, so that the principal point may lie far from its
                middle; otherwise such a K is refused as another photo's.
        """
        frame = as_frame(image, K, cropped=cropped)
        height, width = frame.rgb.shape[1:]
        frame = replace(frame, depth=as_depth(depth, height, width, depth_unit))
        places = as_masks(boxes, masks, height, width)
        if places is None:
            raise InputError("no mask: give one for each object")
        names = _checked(categories, len(places))
        for name in [name for name, place in zip(names, places, strict=True) if place.is_box]:
            LOG.warning("%s: in a box is more than the object, so its pose is doubtful; give a mask", name)
        if not places:
            return []
        start = Estimates.of([IDS[name] for name in names], places)
        found = run_one(frame, self._things, self._stages, start)
        poses = [_pose(frame, found, row, name) for row, name in enumerate(names)]
        for pose in poses:
            if not pose.found:
                LOG.warning("%s; give another mask, or depth without gaps", pose)
        return poses

    def draw(self, image: Photo, poses: CategoryPose | Sequence[CategoryPose], K: ArrayLike) -> np.ndarray:
        """Draws poses onto a photo: box, axes (x red, y green, z blue), category and size of each.

        Boxes are green for good poses, orange for doubtful ones and red for wrong ones, and yellow where it
        is not known; see `estimate` for the image and K. Returns (H, W, 3) uint8.
        """
        drawn, camera = as_photo(image), as_camera(K).numpy()
        for pose in [poses] if isinstance(poses, CategoryPose) else poses:
            if pose.found:
                size = "x".join(f"{100 * side:.0f}" for side in pose.size)
                label = f"{pose.name} {size} cm"  # short, as objects may stand close together
                colour = OUTLINES.get(pose.verdict, YELLOW)
                drawn = draw_sized_box(drawn, pose.size, pose.cam_from_obj, camera, label, colour)
        return drawn


def _configuration(weights: Path | str | None, config: Path | str | None, overrides: Sequence[str]) -> Config:
    if config is None:
        config, weights = (TRAINED_CONFIG, weights) if weights else (SMALL_CONFIG, SMALL_WEIGHTS)
    found = load_config(config, overrides, {"checkpoint": weights and str(weights)})
    return replace(found, log_dir=str(cache_dir() / found.log_dir))


def _checked(categories: str | Sequence[str] | None, places: int) -> list[str]:
    """A known category for each place."""
    if categories is None:
        raise InputError(f"no category: give one of {', '.join(IDS)} for all masks, or one for each")
    names = [categories] * places if isinstance(categories, str) else list(categories)
    if len(names) == 1:
        names *= places
    if len(names) != places:
        raise InputError(f"{len(names)} categories for {places} masks: give one for all, or one for each")
    if unknown := [name for name in names if name not in IDS]:
        raise InputError(f"category {unknown[0]!r}: unknown; give one of {', '.join(IDS)}")
    return names


def _pose(frame: Frame, found: Estimates, row: int, name: str) -> CategoryPose:
    mask = found.mask[row]
    return CategoryPose(
        name=name,
        cam_from_obj=found.cam_from_obj[row].double().numpy(),
        size=found.size[row].double().abs().numpy(),  # a network may say minus a side: the same box
        support=float(found.support[row]),
        inlier_ratio=float(found.inlier_ratio[row]),
        points=_known(frame, mask),
        box=mask.box.double().numpy(),
        confidence=None if found.confidence is None else float(found.confidence[row]),
    )


def _known(frame: Frame, mask: Mask) -> int:
    """How many pixels of a mask have a depth."""
    left, top, right, bottom = mask.box.tolist()
    inside = mask.window(left, top, right, bottom)
    return int((inside & (frame.depth[top:bottom, left:right] > 0)).sum())
