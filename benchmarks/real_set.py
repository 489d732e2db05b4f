"""The default method on a set of photos: with masks, with boxes alone, with turned photos, and a control.

python -m benchmarks.real_set DATA_SET [--oracle FILE] [--detections FILE] [--log_dir DIR]

The oracle's detections are true masks. "Silhouettes" is the control: photos and meshes are plain grey, so
that only the masks tell something. Without depth images AR is the mean of AR_MSSD and AR_MSPD.
"""

import argparse
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import trimesh
from pycocotools import mask as coco

from benchmarks.levels import HEADS, markdown, object_table, recalls, run_test
from picopose.datasets import layouts
from picopose.evaluation.scoring import Scores, score_csv
from picopose.rendering.mesh import GREY, read_triangles
from picopose.utils.errors import exits_cleanly
from picopose.utils.reading import read_json
from tools.mini_set.bop_files import segmentation, write_image, write_json
from tools.true_detections import boxes_alone

REMEDY = "download the data set again"

Detections = list[dict[str, Any]]


@dataclass(frozen=True)
class Variant:
    """A data set as it is, or changed, and what is known of its regions."""

    name: str
    data_set: Path
    detections: Path


def turned(detections: Detections) -> Detections:
    """The detections of photos that are turned clockwise by 90 degrees."""
    found = []
    for entry in detections:
        height, width = entry["segmentation"]["size"]
        code = coco.frPyObjects(entry["segmentation"], height, width)
        found.append(entry | _region(np.rot90(coco.decode(code), -1)))
    return found


def _region(mask: np.ndarray) -> dict[str, Any]:
    code = segmentation(mask)
    return {"bbox": [float(side) for side in coco.toBbox(code)], "segmentation": code}


def turn_photo(rgb: np.ndarray) -> np.ndarray:
    """Clockwise by 90 degrees: pixel (x, y) comes to (height - 1 - y, x)."""
    return np.ascontiguousarray(np.rot90(rgb, -1))


def blank(rgb: np.ndarray) -> np.ndarray:
    return np.full_like(rgb, GREY)


def change_photos(data_set: Path, out: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """A copy of a data set whose photos are changed; models are linked, depth and masks left out."""
    split = layouts.bop_test_split(data_set.parent, data_set.name)
    shutil.rmtree(out, ignore_errors=True)
    for scene in sorted((data_set / split).iterdir()):
        folder = out / split / scene.name
        folder.mkdir(parents=True)
        for name in ("scene_camera.json", "scene_gt.json", "scene_gt_info.json"):
            shutil.copy(scene / name, folder)
        for path in sorted((scene / "rgb").iterdir()):
            rgb = cv2.imread(str(path))[..., ::-1]
            write_image(folder / "rgb" / f"{path.stem}.png", change(rgb))
    for name in ("models", "models_eval"):
        (out / name).symlink_to((data_set / name).resolve())
    shutil.copy(data_set / "test_targets_bop19.json", out)
    return out


def paint_models_plain(data_set: Path) -> None:
    """Replaces the models, which may be linked, by copies without colours and textures."""
    linked = (data_set / "models").resolve()
    (data_set / "models").unlink()
    (data_set / "models").mkdir()
    shutil.copy(linked / "models_info.json", data_set / "models")
    for path in linked.glob("*.ply"):
        mesh = trimesh.Trimesh(*read_triangles(path), process=False)
        mesh.export(data_set / "models" / path.name)


def turn_annotations(data_set: Path, height: int) -> None:
    """Turns cameras and poses of photos of this height as `turn_photo` turns the photos."""
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    for scene in (data_set / layouts.bop_test_split(data_set.parent, data_set.name)).iterdir():
        cameras = read_json(scene / "scene_camera.json", remedy=REMEDY)
        for camera in cameras.values():
            (fx, _, cx), (_, fy, cy), _ = np.reshape(camera["cam_K"], (3, 3)).tolist()
            camera["cam_K"] = [fy, 0.0, height - 1 - cy, 0.0, fx, cx, 0.0, 0.0, 1.0]
        truths = read_json(scene / "scene_gt.json", remedy=REMEDY)
        for entry in (entry for entries in truths.values() for entry in entries):
            entry["cam_R_m2c"] = (turn @ np.reshape(entry["cam_R_m2c"], (3, 3))).ravel().tolist()
            entry["cam_t_m2c"] = (turn @ entry["cam_t_m2c"]).tolist()
        write_json(scene / "scene_camera.json", cameras)
        write_json(scene / "scene_gt.json", truths)


def variants(data_set: Path, oracle: Path | None, detections: Path | None, folder: Path) -> list[Variant]:
    """What is to be run; files that are made for it go to the folder."""
    made = []

    def write(name: str, content: Detections) -> Path:
        write_json(folder / f"{name}.json", content)
        return folder / f"{name}.json"

    for name, path in (("oracle", oracle), ("detected", detections)):
        if path is not None:
            found = read_json(path, remedy="name a file of detections")
            made.append(Variant(f"{name} masks", data_set, path))
            made.append(Variant(f"{name} boxes", data_set, write(f"{name}_boxes", boxes_alone(found))))
    if oracle is not None:
        found = read_json(oracle, remedy="name a file of detections")
        around = change_photos(data_set, folder / "turned" / data_set.name, turn_photo)
        turn_annotations(around, found[0]["segmentation"]["size"][0])
        made.append(
            Variant("oracle masks, photos turned by 90 degrees", around, write("turned", turned(found)))
        )
        plain = change_photos(data_set, folder / "blank" / data_set.name, blank)
        paint_models_plain(plain)
        made.append(Variant("silhouettes of oracle masks alone", plain, oracle))
    return made


def run(variant: Variant, index: int, log_dir: Path, overrides: list[str]) -> tuple[Scores, float]:
    """Scores, and seconds per detection."""
    run_dir = log_dir / f"rendermatch_default_id{index}"
    shutil.rmtree(run_dir, ignore_errors=True)  # perhaps of another state of the program
    options = [
        f"test_dataset.data_dir={variant.data_set.parent}",
        f"test_dataset.detections={variant.detections}",
        f"log_dir={log_dir}",
    ]
    command = ["--config", "config/default.yaml", "--no-score"]
    command += ["--dataset", variant.data_set.name, "--version_id", str(index), *overrides, *options]
    run_test(variant.name, command)
    (csv,) = run_dir.glob("*.csv")
    targets = variant.data_set / "test_targets_bop19.json"
    details = read_json(csv.with_suffix(".json"), remedy="run it again")
    images = {(d["scene_id"], d["im_id"]): d["phases"]["poses"] for d in details}
    return score_csv(csv, variant.data_set, targets=targets), sum(images.values()) / len(details)


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data_set", type=Path, help="folder in BOP's layout")
    parser.add_argument("--oracle", type=Path, help="detections with true masks")
    parser.add_argument("--detections", type=Path, help="detections as a detector gives them")
    parser.add_argument("--log_dir", type=Path, default=Path("log/real_set"))
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="entries of the config")
    options = parser.parse_intermixed_args()
    options.log_dir.mkdir(parents=True, exist_ok=True)
    log_dir = options.log_dir.resolve()
    made = variants(options.data_set.resolve(), options.oracle, options.detections, log_dir)
    results = [run(variant, index, log_dir, options.overrides) for index, variant in enumerate(made)]
    rows = [
        [variant.name, *recalls(scores), f"{seconds:.2f}"]
        for variant, (scores, seconds) in zip(made, results, strict=True)
    ]
    print(markdown(("regions", *HEADS, "s/detection"), rows))
    for variant, (scores, _) in zip(made, results, strict=True):
        print(f"\n{variant.name}:\n\n{object_table(scores)}")


if __name__ == "__main__":
    main()
