"""A small data set in BOP layout, for tests that need one of some kind or a broken one, and runs on it."""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import run_test
from tests.shared import ROOT

WIDTH, HEIGHT = 64, 48
K = [80.0, 0.0, 31.5, 0.0, 82.0, 23.5, 0.0, 0.0, 1.0]
TRIANGLE = """ply
format ascii 1.0
element vertex 3
property float x
property float y
property float z
element face 1
property list uchar int vertex_indices
end_header
-10 -10 0
10 -10 0
0 10 0
3 0 1 2
"""


def dump(path: Path, value) -> Path:
    """Writes JSON, folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def load(path: Path):
    return json.loads(path.read_text())


def runs_of(mask: np.ndarray) -> list[int]:
    """COCO's plain run lengths of a mask (H, W)."""
    runs, value = [0], False
    for pixel in mask.T.reshape(-1):
        if pixel == value:
            runs[-1] += 1
        else:
            runs.append(1)
            value = not value
    return runs


def detection(image, obj_id, score, box, *, time=0.25, mask: np.ndarray | None = None, scene_id=1) -> dict:
    """One entry of a detections file; box is (x, y, width, height)."""
    entry = {"scene_id": scene_id, "image_id": image, "category_id": obj_id, "bbox": list(box)}
    entry |= {"score": score, "time": time}
    if mask is not None:
        entry["segmentation"] = {"counts": runs_of(mask), "size": list(mask.shape)}
    return entry


def box_mask(left: int, top: int, width: int, height: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def photo(im_id: int, *, grey: bool = False, bits: int = 8) -> np.ndarray:
    """A smooth picture, RGB or grey, that differs from image to image."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    planes = [2 * x + 10 * im_id, 3 * y + im_id, x + y]
    picture = planes[0] if grey else np.stack(planes, axis=-1)
    return (picture * 257).astype(np.uint16) if bits == 16 else picture.astype(np.uint8)


def write_set(
    data_dir: Path, name="toy", *, split="test", models="models", image="rgb/{:06d}.png", bits=8
) -> Path:
    """A set of one scene with images 3 and 7 and objects 2 and 5; returns its folder.

    Image 3 asks for two instances of object 2 and one of object 5, which has no detection there; image 7 asks
    for one of object 5.
    """
    folder = data_dir / name
    scene = folder / split / "000001"
    for im_id in (3, 7):
        path = scene / image.format(im_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(im_id, grey=image.startswith("gray"), bits=bits)).save(path)
    dump(scene / "scene_camera.json", {str(i): {"cam_K": K, "depth_scale": 1.0} for i in (3, 7)})
    pose = {"cam_R_m2c": [0, 0, 1, 1, 0, 0, 0, 1, 0], "cam_t_m2c": [10.0, -20.0, 500.0]}
    dump(
        scene / "scene_gt.json",
        {"3": [{"obj_id": 2} | pose, {"obj_id": 5} | pose], "7": [{"obj_id": 5} | pose]},
    )
    axis = {"axis": [0, 0, 2], "offset": [1, 2, 3]}
    info = {"2": {"diameter": 50.0}, "5": {"diameter": 80.0, "symmetries_continuous": [axis]}}
    dump(folder / models / "models_info.json", info)
    for obj_id in (2, 5):
        (folder / models / f"obj_{obj_id:06d}.ply").write_text(TRIANGLE)
    targets = [(3, 2, 2), (3, 5, 1), (7, 5, 1)]
    keys = ("scene_id", "im_id", "obj_id", "inst_count")
    dump(
        folder / "test_targets_bop19.json", [dict(zip(keys, (1, *target), strict=True)) for target in targets]
    )
    masks = [box_mask(5, 6, 10, 12), box_mask(30, 20, 20, 8), box_mask(40, 5, 6, 6)]
    entries = [
        detection(3, 2, 0.5, (5, 6, 10, 12), mask=masks[0]),
        detection(3, 2, 0.9, (30, 20, 20, 8), mask=masks[1], time=0.75),
        detection(3, 2, 0.1, (40, 5, 6, 6), mask=masks[2]),
        detection(7, 5, 0.8, (30, 20, 20, 8), mask=masks[1]),
    ]
    dump(folder / "detections.json", entries)
    return folder


def run_program(monkeypatch, *arguments: str) -> None:
    """run_test.py with these arguments, in this process."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["run_test.py", *arguments])
    run_test.main()
