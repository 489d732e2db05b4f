"""The annotations of a BOP test split as the pose errors need them: exact doubles in mm.

Only the images of a target list are read, and their depth one image at a time.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from utils.errors import InputError
from utils.files import read_json
from utils.layouts import image_path

_REMEDY = "download the test images' annotations again"
_DEPTH_SUFFIXES = (".png", ".tif")


@dataclass(frozen=True, eq=False)
class ImageTruth:
    """What is known of one image."""

    scene_dir: Path
    scene_id: int
    im_id: int
    K: np.ndarray  # (3, 3)
    depth_scale: float  # mm per count of the depth image
    obj_id: np.ndarray  # (G,) int, the annotated instances; their index is the gt_id
    cam_from_obj: np.ndarray  # (G, 3, 4) mm
    visibility: np.ndarray  # (G,) visible share of the silhouette

    def most_visible(self, obj_id: int, count: int) -> np.ndarray:
        """gt_ids of the `count` most visible instances of an object, most visible first."""
        order = np.argsort(-self.visibility, kind="stable")
        return order[self.obj_id[order] == obj_id][:count]

    def depth(self) -> np.ndarray:
        """The measured depth (H, W) float32 in mm, 0 where nothing was measured."""
        path = self.depth_path()
        counts = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if counts is None or counts.ndim != 2:
            raise InputError(f"{path} is no depth image: download it again")
        return counts.astype(np.float32) * np.float32(self.depth_scale)

    def depth_path(self) -> Path:
        stem = self.scene_dir / "depth" / f"{self.im_id:06d}"
        path = next((p for p in map(stem.with_suffix, _DEPTH_SUFFIXES) if p.exists()), None)
        if path is None:
            raise InputError(f"{stem}.png not found: download the depth images or score --errors mssd,mspd")
        return path


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The images that a target list names, in its order, and what is asked of each."""

    images: list[ImageTruth]
    targets: list[dict[int, int]]  # per image: object -> number of instances to find; empty for detection

    @property
    def has_depth(self) -> bool:
        return (self.images[0].scene_dir / "depth").is_dir()

    @property
    def image_width(self) -> int:
        """Width in px of the first image; those of a data set are all of one size."""
        first = self.images[0]
        path = first.depth_path() if self.has_depth else image_path(first.scene_dir, first.im_id)
        try:
            with Image.open(path) as image:
                return image.width
        except OSError as error:
            raise InputError(f"{path} is no image ({error}): download it again") from None


def load_ground_truth(split_dir: Path, targets_file: Path, *, per_object: bool) -> GroundTruth:
    """Reads a target list and the annotations of its images.

    per_object: the list names objects and their number (`test_targets_bop19.json`), otherwise images only.
    Raises `InputError` for missing or damaged files and for targets without annotation.
    """
    wanted = _read_targets(targets_file, per_object)
    scenes = {scene_id: _Scene(split_dir, scene_id) for scene_id in {scene_id for scene_id, _ in wanted}}
    images = [scenes[scene_id].image(im_id) for scene_id, im_id in wanted]
    return GroundTruth(images, list(wanted.values()))


def _read_targets(path: Path, per_object: bool) -> dict[tuple[int, int], dict[int, int]]:
    """{(scene_id, im_id): {obj_id: inst_count}} in file order; a later entry replaces an earlier one."""
    wanted: dict[tuple[int, int], dict[int, int]] = {}
    entries = read_json(path, remedy="pass the data set's list with --targets")
    try:
        for entry in entries:
            counts = wanted.setdefault((int(entry["scene_id"]), int(entry["im_id"])), {})
            if per_object:
                counts[int(entry["obj_id"])] = max(0, int(entry["inst_count"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no list of targets ({error!r}): download it again") from None
    if not wanted:
        raise InputError(f"{path} lists no targets: download it again")
    return wanted


class _Scene:
    """The annotation files of one scene."""

    def __init__(self, split_dir: Path, scene_id: int):
        self.folder = split_dir / f"{scene_id:06d}"
        self.scene_id = scene_id
        self.gt, self.info, self.cameras = (
            read_json(self.folder / f"scene_{name}.json", remedy=_REMEDY)
            for name in ("gt", "gt_info", "camera")
        )

    def image(self, im_id: int) -> ImageTruth:
        try:
            return self._image(im_id)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{self.folder} has no sound annotation of image {im_id} ({error!r}): {_REMEDY}"
            ) from None

    def _image(self, im_id: int) -> ImageTruth:
        camera, instances = self.cameras[str(im_id)], self.gt[str(im_id)]
        infos = self.info[str(im_id)]
        if len(infos) != len(instances):
            raise ValueError("scene_gt.json and scene_gt_info.json differ")
        rotation = np.array([i["cam_R_m2c"] for i in instances], np.float64).reshape(-1, 3, 3)
        translation = np.array([i["cam_t_m2c"] for i in instances], np.float64).reshape(-1, 3, 1)
        return ImageTruth(
            scene_dir=self.folder,
            scene_id=self.scene_id,
            im_id=im_id,
            K=np.array(camera["cam_K"], np.float64).reshape(3, 3),
            depth_scale=float(camera.get("depth_scale", 1.0)),
            obj_id=np.array([i["obj_id"] for i in instances], np.int64),
            cam_from_obj=np.concatenate([rotation, translation], axis=2),
            visibility=np.array([i["visib_fract"] for i in infos], np.float64),
        )
