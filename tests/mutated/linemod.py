"""Readers of LINEMOD's layouts: photos of one object, pickles, frames, and poses to begin with."""

import pickle
from pathlib import Path

import numpy as np

from picopose.datasets.bop.results import Results
from picopose.datasets.linemod.classes import ObjectClass, read_classes
from picopose.datasets.linemod.fuse import FusePhotos
from picopose.datasets.linemod.initial_poses import read_initial_poses
from picopose.datasets.linemod.refine import RefinePhotos
from picopose.utils.records import Observation
from tests import small_linemod as small
from tests.mutated.soundness import finite, is_camera, is_rotation, sound
from tests.mutation_cases import Reader

CONVERTED = "LM6d_converted/LM6d_refine"
IMAGES = {3: [(3, 1), (3, 2)]}


def check_photos(photos: list[Observation]) -> None:
    sound(photos, "no photos")
    for photo in photos:
        sound(photo.rgb.shape[1:] == photo.depth.shape and photo.rgb.numel(), "a depth of another photo")
        sound(finite(photo.depth) and (photo.depth >= 0).all(), "a depth that cannot be")
        sound(is_camera(photo.K.numpy()), "a camera that cannot be")
        for pose in filter(lambda pose: pose is not None, (photo.cam_from_obj, photo.initial)):
            sound(is_rotation(pose[:3, :3].numpy()) and 0 < pose[2, 3] < 100, "a pose that cannot be")


def read_refine(folder: Path) -> list[Observation]:
    photos = RefinePhotos.real(folder / CONVERTED, "cup", "train")
    return [photos.photo(index) for index in range(len(photos))]


def read_fuse(folder: Path) -> list[Observation]:
    frames = folder / "init_poses/pose_conversion/blender2bop_RT.npy"
    photos = FusePhotos(folder / "LINEMOD/fuse_formatted", "cup", frames)
    return [photos.photo(index) for index in range(len(photos))]


def write_posecnn(folder: Path) -> None:
    small.write_classes(folder)
    rows = np.array([small.quaternion_row(small.pose(number)) for number in (1, 2)])
    (folder / "poses.pkl").write_bytes(pickle.dumps({"cup": rows, "jug": [{"pose": row} for row in rows]}))


def write_pvnet(folder: Path) -> None:
    small.write_classes(folder)
    small.write_frames(folder)
    (folder / "init_poses/pvnet").mkdir()
    poses = np.array([small.in_blender(small.pose(number)) for number in (1, 2)])
    np.save(folder / "init_poses/pvnet/cup.npy", poses)


def check_poses(results: Results) -> None:
    sound(results.obj_id.tolist() == [3, 3] and results.im_id.tolist() == [1, 2], "poses of other images")
    sound(is_rotation(results.cam_from_obj[..., :3]) and finite(results.cam_from_obj), "poses that cannot be")


def check_classes(classes: dict[str, ObjectClass]) -> None:
    for name, known in classes.items():
        sound(name == known.name and known.obj_id >= 0 and 0 < known.diameter <= 10, "a class that cannot be")


COLOUR, DEPTH = "data/observed/03/000001-color.png", "data/gt_observed/cup/000001-depth.png"
POSE, NOISY = "data/gt_observed/cup/000001-pose.txt", "data/rendered/cup/000001_0-pose.txt"
FUSED = "LINEMOD/fuse_formatted/cup/00005"

READERS: dict[str, Reader] = {
    "linemod-refine-images": Reader(
        small.write_refine,
        read_refine,
        check_photos,
        [(f"{CONVERTED}/{COLOUR}", "png"), (f"{CONVERTED}/{DEPTH}", "png")],
    ),
    "linemod-refine-text": Reader(
        small.write_refine,
        read_refine,
        check_photos,
        [
            (f"{CONVERTED}/{POSE}", "text"),
            (f"{CONVERTED}/{NOISY}", "text"),
            (f"{CONVERTED}/image_set/observed/cup_train.txt", "text"),
        ],
        whole=False,
    ),
    "linemod-fuse": Reader(
        small.write_fuse,
        read_fuse,
        check_photos,
        [
            (f"{FUSED}.jpg", "binary"),
            (f"{FUSED}_params.pkl", "binary"),
            (f"{FUSED}_depth.npy", "headed"),
            (f"{FUSED}_mask_visb.png", "png"),
            ("init_poses/pose_conversion/blender2bop_RT.npy", "headed"),
        ],
    ),
    "linemod-posecnn": Reader(
        write_posecnn,
        lambda folder: read_initial_poses(folder / "poses.pkl", IMAGES),
        check_poses,
        [("poses.pkl", "binary")],
    ),
    "linemod-pvnet": Reader(
        write_pvnet,
        lambda folder: read_initial_poses(folder / "init_poses/pvnet", IMAGES),
        check_poses,
        [
            ("init_poses/pvnet/cup.npy", "headed"),
            ("init_poses/pose_conversion/blender2bop_RT.npy", "headed"),
        ],
    ),
    "linemod-classes": Reader(small.write_classes, read_classes, check_classes, [("classes.json", "json")]),
}
