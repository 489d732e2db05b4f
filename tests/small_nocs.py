"""Small frames in NOCS's layout: one mug of 24 x 24 px before a wall, with the files that belong to it."""

import pickle
from pathlib import Path

import numpy as np
from PIL import Image

from picopose.datasets.nocs.layout import SPLITS
from picopose.datasets.nocs.points import masked_points

HEIGHT, WIDTH = 48, 64
SIZE = 80.0  # mm, diagonal of the mug's box
FRAME = "CAMERA/train/00000/0000"
BOX = "obj_models/train/03797390/mug/bbox.txt"
RESULT = "results_val_00000_0000.pkl"


def mug_mask() -> np.ndarray:
    """(HEIGHT, WIDTH) bool."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:34, 20:44] = True
    return mask


def write_frame(folder: Path, frame: str = FRAME) -> None:
    """The mug is not turned; its box is centred on the mean of its points."""
    mask = mug_mask()
    v, u = np.indices(mask.shape)
    depth = np.where(mask, 1000 + 15 * np.sin(u / 3) * np.cos(v / 4), 0).round().astype(np.uint16)
    rgb = np.stack([4 * u, 5 * v, u + v], axis=-1).astype(np.uint8)
    points = masked_points(rgb, depth, mask, SPLITS["camera_train"].K).xyz
    coordinates = np.zeros_like(rgb)
    canonical = (points - points.mean(axis=0)) / SIZE + 0.5
    coordinates[mask] = np.rint(255 * np.abs(canonical - [0, 0, 1]))
    numbers = np.where(mask, 1, 255).astype(np.uint8)
    (folder / frame).parent.mkdir(parents=True, exist_ok=True)
    for part, image in (("color", rgb), ("depth", depth), ("coord", coordinates), ("mask", numbers)):
        Image.fromarray(image).save(folder / f"{frame}_{part}.png")
    (folder / f"{frame}_meta.txt").write_text("1 6 03797390 mug\n")
    (folder / BOX).parent.mkdir(parents=True, exist_ok=True)
    (folder / BOX).write_text("0.3 0.3 0.25\n-0.3 -0.3 -0.25\n")


def write_test_set(folder: Path, images: int = 3) -> None:
    """Frames of CAMERA's val, each with its truth and three detections of it: the mug, a part and a speck."""
    masks = np.repeat(mug_mask()[:, :, None], 3, axis=2)
    masks[:20, :, 1] = False
    masks[12:, :, 2] = False
    masks[:, 24:, 2] = False
    detected, truths = folder / "segmentation_results/CAMERA25", folder / "gts/val"
    for parent in (detected, truths):
        parent.mkdir(parents=True)
    for number in range(images):
        name = f"CAMERA/val/00000/{number:04d}"
        write_frame(folder, name)
        _vary(folder / f"{name}_color.png", number)
        truth = _truth(f"data/{name}")
        found = {
            "pred_class_ids": np.array([6, 1, 6], np.int32),
            "pred_bboxes": np.array([[10, 20, 34, 44], [20, 20, 34, 44], [10, 20, 12, 24]], np.int32),
            "pred_scores": np.array([0.9, 0.5, 0.25], np.float32),
            "pred_masks": masks,
        }
        (truths / f"results_val_00000_{number:04d}.pkl").write_bytes(pickle.dumps(truth, protocol=2))
        path = detected / f"results_val_00000_{number:04d}.pkl"
        path.write_bytes(pickle.dumps(truth | found, protocol=2))


def _vary(photo: Path, number: int) -> None:
    """Makes a photo differ from that of another frame."""
    with Image.open(photo) as image:
        pixels = np.asarray(image) + np.uint8(10 * number)
    Image.fromarray(pixels).save(photo)


def _truth(image_path: str) -> dict:
    pose = np.diag([0.1, 0.1, 0.1, 1.0])
    pose[2, 3] = 1.0
    return {
        "image_path": image_path,
        "gt_class_ids": np.array([6], np.int32),
        "gt_bboxes": np.array([[10, 20, 34, 44]], np.int32),
        "gt_RTs": pose[None],
        "gt_scales": np.array([[0.6, 0.64, 0.48]]),
        "gt_handle_visibility": np.array([1]),
    }


def write_result(folder: Path) -> None:
    """One truth, two detections with poses and masks."""
    poses = np.tile(np.diag([0.1, 0.1, 0.1, 1.0]), (2, 1, 1))
    poses[:, 2, 3] = 0.8
    content = {
        "image_path": "data/CAMERA/val/00000/0000",
        "gt_class_ids": np.array([6], np.int32),
        "gt_bboxes": np.array([[10, 20, 34, 44]], np.int32),
        "gt_RTs": poses[:1],
        "gt_scales": np.array([[0.6, 0.64, 0.48]]),
        "gt_handle_visibility": np.array([1]),
        "pred_class_ids": np.array([6, 1], np.int32),
        "pred_bboxes": np.array([[10, 20, 34, 44], [0, 0, 8, 8]], np.int32),
        "pred_scores": np.array([0.9, 0.5], np.float32),
        "pred_masks": np.zeros((12, 16, 2), bool),
        "pred_RTs": poses,
        "pred_scales": np.array([[0.6, 0.64, 0.48]] * 2),
    }
    (folder / RESULT).write_bytes(pickle.dumps(content, protocol=2))
