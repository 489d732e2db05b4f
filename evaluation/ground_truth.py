"""The annotations of a BOP test split as the pose errors need them: in doubles.

Only the images of a target list are read, and their depth one image at a time.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from picopose.datasets.bop.scenes import Scene, open_scenes, tell_cameras
from picopose.datasets.bop.targets import read_targets
from picopose.datasets.images import image_size, read_depth
from picopose.utils.errors import InputError


@dataclass(frozen=True, eq=False)
class ImageTruth:
    """What is known of one image."""

    scene_dir: Path
    scene_id: int
    im_id: int
    K: np.ndarray  # (3, 3)
    depth_scale: float  # m per count of the depth image
    obj_id: np.ndarray  # (G,) int, the annotated instances; their index is the gt_id
    cam_from_obj: np.ndarray  # (G, 3, 4) m
    visibility: np.ndarray  # (G,) visible share of the silhouette
    photo: Path | None = None  # None where it is not there, as are the depth image and what measured it
    depth_file: Path | None = None

    def most_visible(self, obj_id: int, count: int) -> np.ndarray:
        """gt_ids of the `count` most visible instances of an object, most visible first."""
        order = np.argsort(-self.visibility, kind="stable")
        return order[self.obj_id[order] == obj_id][:count]

    def photo_path(self) -> Path:
        if self.photo is None:
            raise InputError(f"image {self.im_id} not found in {self.scene_dir}: download the test images")
        return self.photo

    def depth(self) -> np.ndarray:
        """The measured depth (H, W) float32 in m, 0 where nothing was measured."""
        path = self.depth_file
        if path is None:
            place = self.scene_dir / "depth" / f"{self.im_id:06d}.png"
            raise InputError(f"{place} not found: download the depth images or score mssd and mspd alone")
        width, height = image_size(path)  # compared before anything is read that is perhaps too large
        if self.photo is not None and (size := image_size(self.photo)) != (width, height):
            found = f"{width}x{height} px, and its photo {size[0]}x{size[1]} px"
            raise InputError(f"{path} has {found}: download the depth images again")
        return read_depth(path) * np.float32(self.depth_scale)


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The images that a target list names, in its order, and what is asked of each."""

    images: list[ImageTruth]
    targets: list[dict[int, int]]  # per image: object -> number of instances to find; empty for detection

    @property
    def has_depth(self) -> bool:
        return any(image.depth_file is not None for image in self.images)

    @property
    def image_width(self) -> int:
        """Width in px of the first image; those of a data set are all of one size."""
        first = self.images[0]
        return image_size(first.depth_file or first.photo_path())[0]


def load_ground_truth(
    split_dir: Path, targets_file: Path, *, per_object: bool, camera: str | None = None
) -> GroundTruth:
    """Reads a target list and the annotations of its images.

    per_object: the list must name objects and their number (`test_targets_bop19.json`), otherwise it is read
    for its images only. camera: of a set with several, see `open_scenes`. Raises `InputError` for missing or
    damaged files, for targets without annotation and for poses and cameras that cannot be.
    """
    listed = read_targets(targets_file).as_task("localization" if per_object else "detection")
    scenes = open_scenes(split_dir, (scene_id for scene_id, _ in listed.images), camera)
    if camera is None:
        tell_cameras(scenes.values())
    images = [_image(scenes[scene_id], im_id) for scene_id, im_id in listed.images]
    return GroundTruth(images, list(listed.images.values()))


def _image(scene: Scene, im_id: int) -> ImageTruth:
    instances = scene.instances(im_id)
    return ImageTruth(
        scene_dir=scene.folder,
        scene_id=scene.scene_id,
        im_id=im_id,
        K=scene.K(im_id),
        depth_scale=scene.depth_scale(im_id),
        obj_id=np.array([instance.obj_id for instance in instances], np.int64),
        cam_from_obj=np.array([instance.cam_from_obj for instance in instances]).reshape(-1, 3, 4),
        visibility=np.array([instance.visibility for instance in instances]),
        photo=scene.photo(im_id),
        depth_file=scene.depth(im_id),
    )
