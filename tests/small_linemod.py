"""A tiny set in the layouts of LINEMOD's files, written by their description, with poses that are known."""

import json
import pickle
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

WIDTH, HEIGHT = 32, 24
CLASSES = [
    {"name": "cup", "id": 3, "diameter": 0.1},
    {"name": "jug", "id": 12, "diameter": 0.2, "symmetric": True},
]
BOP_FROM_BLENDER = np.block(
    [[Rotation.from_euler("xyz", (90, 20, -5), degrees=True).as_matrix(), np.array([[0.1], [-0.02], [0.03]])]]
)


def pose(number: int) -> np.ndarray:
    """(3, 4) m, another for each number."""
    rng = np.random.default_rng(number)
    rotation = Rotation.random(random_state=rng).as_matrix()
    return np.column_stack([rotation, [*rng.uniform(-0.1, 0.1, 2), rng.uniform(0.5, 1)]])


def photo(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def depth_mm(number: int) -> np.ndarray:
    """(H, W) uint16, a surface in the middle."""
    depth = np.zeros((HEIGHT, WIDTH), np.uint16)
    depth[6:18, 8:24] = 700 + number
    return depth


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def save_pose(path: Path, matrix: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = "\n".join(" ".join(repr(float(value)) for value in row) for row in matrix)
    path.write_text(f"1\n{rows}\n")


def write_classes(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.json").write_text(json.dumps(CLASSES))


def write_refine(root: Path) -> Path:
    """LM6d_refine with photos 1 and 4 of the cup for training, with 2 noisy poses each, and 7 for tests."""
    write_classes(root)
    folder = root / "LM6d_converted/LM6d_refine"
    for number in (1, 4, 7):
        _refine_photo(folder / "data", "03", number, noisy=2 if number < 7 else 0)
    lists = folder / "image_set/observed"
    lists.mkdir(parents=True)
    (lists / "cup_train.txt").write_text("03/000001\n03/000004\n")
    (lists / "cup_test.txt").write_text("000007\n")
    return folder


def write_synthetic(root: Path) -> Path:
    """LM6d_refine_syn with photo 2 of the cup."""
    write_classes(root)
    folder = root / "LM6d_converted/LM6d_refine_syn"
    _refine_photo(folder / "data", "cup", 2, noisy=1)
    (folder / "image_set").mkdir()
    (folder / "image_set/LM6d_data_syn_train_observed_cup.txt").write_text("cup/000002\n")
    return folder


def _refine_photo(data: Path, observed: str, number: int, *, noisy: int) -> None:
    save(data / f"observed/{observed}/{number:06d}-color.png", photo(number))
    save(data / f"observed/{observed}/{number:06d}-depth.png", depth_mm(number) + np.uint16(3))
    save(data / f"gt_observed/cup/{number:06d}-depth.png", depth_mm(number))
    save_pose(data / f"gt_observed/cup/{number:06d}-pose.txt", pose(number))
    for k in range(noisy):
        save_pose(data / f"rendered/cup/{number:06d}_{k}-pose.txt", pose(100 * number + k))


def in_blender(matrix: np.ndarray) -> np.ndarray:
    """(3, 4): a pose of the set in the frame of PVNet's models, p_cam = R (B_R p + B_t) + t."""
    rotation, shift = BOP_FROM_BLENDER[:, :3], BOP_FROM_BLENDER[:, 3]
    return np.column_stack([matrix[:, :3] @ rotation, matrix[:, :3] @ shift + matrix[:, 3]])


def write_fuse(root: Path) -> tuple[Path, Path]:
    """PVNet's photos 5 and 6 of the cup; the folder of all classes, and the file of frames."""
    write_classes(root)
    folder = root / "LINEMOD/fuse_formatted/cup"
    for number in (5, 6):
        stem = f"{number:05d}"
        save(folder / f"{stem}.jpg", photo(number))
        seen = np.zeros((HEIGHT, WIDTH), np.uint8)
        seen[8:16, 8:20] = 255
        save(folder / f"{stem}_mask_visb.png", seen)
        np.save(folder / f"{stem}_depth.npy", depth_mm(number).astype(np.float32) / 1000)
        K = np.array([[500.0, 0, 16], [0, 510, 12], [0, 0, 1]])
        params = {"RT": in_blender(pose(number)), "K": K, "bbox": [8, 6, 24, 18]}
        (folder / f"{stem}_params.pkl").write_bytes(pickle.dumps(params))
    return folder.parent, write_frames(root)


def write_frames(root: Path) -> Path:
    path = root / "init_poses/pose_conversion/blender2bop_RT.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, {"cup": BOP_FROM_BLENDER, "jug": BOP_FROM_BLENDER[::-1][:, [2, 1, 0, 3]]})
    return path


def quaternion_row(matrix: np.ndarray) -> np.ndarray:
    """(7,) wxyz, then the translation."""
    x, y, z, w = Rotation.from_matrix(matrix[:, :3]).as_quat()
    return np.array([w, x, y, z, *matrix[:, 3]])
