"""Writes the set's files in the layouts that `picopose.datasets.linemod` reads."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from picopose.datasets.bop.image_result import FoundPose, ImageResult
from picopose.datasets.bop.results import write_csv
from picopose.datasets.linemod.photos import K
from tools.linemod_set.drawing import Seen, View
from tools.linemod_set.objects import Thing
from tools.mini_set import bop_files

REAL, SYNTHETIC = "LM6d_converted/LM6d_refine", "LM6d_converted/LM6d_refine_syn"
FUSE, BACKDROPS, INITIAL = "LINEMOD/fuse_formatted", "VOCdevkit/VOC2012", "init_poses"


def write_text(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def _image(path: Path, image: np.ndarray) -> None:
    """Quickly, as there are many."""
    bop_files.write_image(path, image, compression=2)


def write_depth(path: Path, depth: np.ndarray) -> None:
    """A depth image (H, W) m in whole mm."""
    _image(path, np.round(depth * 1000).astype(np.uint16))


def write_pose(path: Path, pose: np.ndarray) -> None:
    """A pose (4, 4) m under a line that names its kind."""
    write_text(path, ["pose", *(" ".join(f"{value:.10g}" for value in row) for row in pose[:3])])


def write_observed(data: Path, folder: str, number: int, view: View, seen: Seen) -> None:
    """A photo in DeepIM's layout, with the truth of one object."""
    observed, truth = data / "observed" / folder, data / "gt_observed" / seen.thing.name
    _image(observed / f"{number:06d}-color.png", view.rgb)
    write_depth(observed / f"{number:06d}-depth.png", view.depth)
    _image(observed / f"{number:06d}-label.png", (seen.depth > 0).astype(np.uint8) * seen.thing.obj_id)
    write_depth(truth / f"{number:06d}-depth.png", seen.depth)
    write_pose(truth / f"{number:06d}-pose.txt", seen.cam_from_obj)


def write_rendered(data: Path, number: int, k: int, view: View) -> None:
    """A rendering at a pose to begin with."""
    seen = view.seen[0]
    stem = data / "rendered" / seen.thing.name / f"{number:06d}_{k}"
    _image(stem.with_name(f"{stem.name}-color.png"), view.rgb)
    write_depth(stem.with_name(f"{stem.name}-depth.png"), view.depth)
    write_pose(stem.with_name(f"{stem.name}-pose.txt"), seen.cam_from_obj)


def write_fused(root: Path, number: int, view: View) -> None:
    """A photo in PVNet's layout, whose pose is in the frame of its models."""
    seen = view.seen[0]
    stem = root / FUSE / seen.thing.name / f"{number:05d}"
    _image(stem.with_suffix(".jpg"), view.rgb)
    mask = seen.depth > 0
    _image(stem.with_name(f"{stem.name}_mask_visb.png"), mask.astype(np.uint8) * 255)
    np.save(stem.with_name(f"{stem.name}_depth.npy"), view.depth)
    rows, columns = np.nonzero(mask)
    box = [int(value) for value in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]
    params = {"RT": _in_blender(seen.thing, seen.cam_from_obj)[:3], "K": K, "bbox": box}
    stem.with_name(f"{stem.name}_params.pkl").write_bytes(pickle.dumps(params))


def write_backdrops(root: Path, images: Sequence[np.ndarray]) -> None:
    """Photos of tables, as VOC lists them; another photo is listed as none."""
    names = [f"2012_{number:06d}" for number in range(len(images))]
    for name, image in zip(names, images, strict=True):
        _image(root / BACKDROPS / "JPEGImages" / f"{name}.jpg", image)
    for split in ("train", "trainval"):
        path = root / BACKDROPS / f"ImageSets/Main/diningtable_{split}.txt"
        write_text(path, [f"{name}  1" for name in names])


def write_initial(root: Path, poses: Mapping[str, Mapping[int, np.ndarray]], things: Sequence[Thing]) -> None:
    """The same poses (4, 4) by class and number as PoseCNN's, PVNet's and BOP's files hold them."""
    folder = root / INITIAL
    (folder / "pvnet").mkdir(parents=True)
    (folder / "pose_conversion").mkdir()
    frames = {thing.name: thing.bop_from_blender[:3] for thing in things}
    np.save(folder / "pose_conversion/blender2bop_RT.npy", frames)
    rows = {name: np.array([_quaternion_row(pose) for pose in own.values()]) for name, own in poses.items()}
    (folder / "linemod_posecnn_results.pkl").write_bytes(pickle.dumps(rows))
    results = []
    for thing in things:
        own = poses[thing.name]
        changed = [_in_blender(thing, pose)[:3] for pose in own.values()]
        np.save(folder / f"pvnet/{thing.name}.npy", np.array(changed))
        results += [_result(thing, number, pose) for number, pose in own.items()]
    write_csv(folder / "initial_lm-test.csv", results)


def _in_blender(thing: Thing, cam_from_obj: np.ndarray) -> np.ndarray:
    """The pose (4, 4) in the frame of PVNet's models."""
    return cam_from_obj @ thing.bop_from_blender


def _quaternion_row(pose: np.ndarray) -> np.ndarray:
    """(7,): a quaternion wxyz, and the translation in m."""
    x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
    return np.array([w, x, y, z, *pose[:3, 3]])


def _result(thing: Thing, number: int, pose: np.ndarray) -> ImageResult:
    found = FoundPose(
        confidence=None,
        detection_score=1.0,
        inlier_ratio=0.0,
        template=0,
        matches=(),
        obj_id=thing.obj_id,
        score=1.0,
        rotation=tuple(pose[:3, :3].ravel().tolist()),
        translation=tuple(pose[:3, 3].tolist()),
    )
    return ImageResult(thing.obj_id, number, -1.0, (found,))
