"""The program for categories in photos with depth: what it writes, and what it refuses in one line."""

import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

import run_demo
from picopose.datasets.nocs.frames import read_mask
from picopose.datasets.nocs.layout import CLASSES, SPLITS
from picopose.datasets.places import find_places
from picopose.demo.shots import CameraHint, DepthHint, PlaceHint, read_shot
from picopose.utils.errors import InputError
from picopose.utils.geometry import project
from tests.shared import ROOT, shared
from tests.small_bop import dump, load

FRAME = "Real/test/scene_1/0000"
IDS = {"bottle": 1, "camera": 2, "mug": 3}  # in the mask
K = SPLITS["real_test"].K
CAMERA = ["--camera", f"{K[0, 0]},{K[1, 1]},{K[0, 2]},{K[1, 2]}"]


@pytest.fixture
def inputs(tmp_path) -> Path:
    """A folder with the frame's photo and depth, and the masks of what it shows."""
    for part in ("color", "depth"):
        content = shared(f"reference_dualposenet/sample/{FRAME}_{part}.png").read_bytes()
        (tmp_path / f"{part}.png").write_bytes(content)
    numbers = read_mask(shared(f"reference_dualposenet/sample/{FRAME}_mask.png"))
    for name, number in IDS.items():
        Image.fromarray((numbers == number) * np.uint8(255)).save(tmp_path / f"{name}.png")
    return tmp_path


def launch(monkeypatch, folder: Path, *arguments: str) -> None:
    """Runs the program in a folder, with a method that knows the true poses."""
    file = shared("reference_dualposenet/sample/true_poses.json")
    knowing = [f"options.true_boxes.file={file}", f"options.true_boxes.frame={FRAME}"]
    method = ["--gpus", "cpu", "--config", "config/default.yaml", "--model", "tests.toys.true_boxes"]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["run_demo.py", *method, *knowing, *arguments])
    run_demo.main()


PHOTO = ["--image", "color.png", "--depth", "depth.png", *CAMERA]
MASKS = ["--mask", "bottle.png", "--mask", "mug.png"]


def failure(monkeypatch, capsys, folder: Path, *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_info:
        launch(monkeypatch, folder, *arguments)
    assert exit_info.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_masks_and_categories_become_poses_sizes_and_pictures(monkeypatch, inputs, caplog):
    caplog.set_level("INFO")
    launch(monkeypatch, inputs, *PHOTO, *MASKS, "--category", "bottle", "mug")
    written = {path.name for path in (inputs / "output").iterdir()}
    assert written == {"overlay.png", "pose.json", "scene.glb"}
    found = load(inputs / "output" / "pose.json")
    assert found["unit"] == "m" and np.allclose(found["K"], K, atol=1e-4)
    bottle, mug = found["poses"]
    assert (bottle["category"], mug["category"]) == ("bottle", "mug")
    np.testing.assert_allclose(bottle["translation"], [-0.2, -0.02, 0.8], atol=1e-6)
    np.testing.assert_allclose(mug["size"], [0.08, 0.08, 0.064], atol=1e-3)
    assert re.search(r"color\.png: mug at 0\.200 0\.030 0\.750 m, 80 x 80 x 64 mm: 90 % of 3838", caplog.text)
    changed = (cv2.imread("output/overlay.png") != cv2.imread("color.png")).any(axis=2)
    assert 0.005 < changed.mean() < 0.1


def test_the_scene_holds_the_points_and_the_boxes_where_they_are(monkeypatch, inputs):
    launch(monkeypatch, inputs, *PHOTO, *MASKS, "--category", "bottle", "mug")
    scene = trimesh.load_scene(inputs / "output" / "scene.glb")
    names = {"photo", "object 0", "object 1", "bottle 0", "bottle 0 axes", "mug 1", "mug 1 axes"}
    assert set(scene.graph.nodes_geometry) == names
    bottle = placed(scene, "object 0")
    assert len(bottle) == 6862
    xy = project(torch.from_numpy(K), torch.from_numpy(bottle)).round().long().numpy()
    assert cv2.imread("bottle.png", 0)[xy[:, 1], xy[:, 0]].all()
    # Nearly all of them lie in the box, which is drawn at its true pose.
    to_box = np.linalg.inv(np.diag([1.0, -1, -1, 1]) @ scene.graph["bottle 0"][0])
    inside = np.abs(bottle @ to_box[:3, :3].T + to_box[:3, 3])
    outline = scene.geometry[scene.graph["bottle 0"][1]].vertices
    assert (inside < np.abs(outline).max(axis=0) + 0.002).all(axis=1).mean() > 0.98


def placed(scene: trimesh.Scene, name: str) -> np.ndarray:
    """Points (N, 3) of a part, in OpenCV's camera frame."""
    pose, geometry = scene.graph[name]
    points = scene.geometry[geometry].vertices @ pose[:3, :3].T + pose[:3, 3]
    return points * [1, -1, -1]


def test_detections_with_masks_and_names_of_categories(monkeypatch, inputs, caplog):
    mask = cv2.imread(str(inputs / "mug.png"), 0) > 0
    counts = np.diff(np.flatnonzero(np.diff(np.r_[False, mask.T.ravel(), False]))).tolist()
    start = int(np.flatnonzero(mask.T.ravel())[0])
    entry = {"bbox": [450, 230, 60, 80], "segmentation": {"size": [480, 640], "counts": [start, *counts]}}
    entry["segmentation"]["counts"].append(480 * 640 - sum(entry["segmentation"]["counts"]))
    path = dump(inputs / "found.json", [entry | {"label": "mug"}, entry | {"label": "person"}])
    launch(monkeypatch, inputs, *PHOTO, "--detections", str(path))
    (pose,) = load(inputs / "output" / "pose.json")["poses"]
    assert pose["category"] == "mug" and pose["points"] == 3838
    assert "left out, as no category has this name or number: 1 of 'person'" in caplog.text
    dump(path, [entry | {"label": "cup"}])
    caplog.set_level("INFO")
    launch(monkeypatch, inputs, *PHOTO, "--detections", str(path), "--category", "mug")
    assert "its detections are of 'cup'; taken for mug, the only category" in caplog.text


def test_detections_with_the_numbers_of_categories(tmp_path):
    """As the mini set of categories has them, which are of its images."""
    mini = ROOT / "data" / "nocs_mini"
    photo = mini / "CAMERA" / "val" / "00000" / "0001_color.png"
    entries = [entry for entry in load(mini / "detections.json") if entry["image_id"] == 1]
    (found,) = find_places(
        mini / "detections.json", [photo], CLASSES, ids=dict(enumerate(CLASSES, 1))
    ).values()
    assert [marked.name for marked in found] == [CLASSES[entry["category_id"] - 1] for entry in entries]
    # A detection that says its name is not taken by its number.
    dump(tmp_path / "found.json", [entry | {"label": "person"} for entry in entries])
    with pytest.raises(InputError, match="no category has this name or number"):
        find_places(tmp_path / "found.json", [photo], CLASSES, ids=dict(enumerate(CLASSES, 1)))


def test_photos_and_their_depth_images_pair_in_order(monkeypatch, inputs):
    photos, depths = inputs / "photos", inputs / "depths"
    for folder, part in ((photos, "color"), (depths, "depth")):
        folder.mkdir()
        for name in ("a", "b"):
            (folder / f"{name}.png").write_bytes((inputs / f"{part}.png").read_bytes())
    np.save(depths / "b.npy", np.zeros((480, 640)))
    (depths / "b.png").unlink()
    given = ["--image", "photos", "--depth", "depths", *CAMERA, *MASKS, "--category", "mug"]
    with pytest.raises(SystemExit):  # at the second one
        launch(monkeypatch, inputs, *given)
    np.save(depths / "b.npy", np.full((480, 640), 0.75, np.float32))
    launch(monkeypatch, inputs, *given)
    assert [len(load(inputs / "output" / name / "pose.json")["poses"]) for name in "ab"] == [2, 2]


def test_a_unit_by_number_of_values(monkeypatch, inputs):
    depth = cv2.imread(str(inputs / "depth.png"), -1)
    cv2.imwrite(str(inputs / "tum.png"), 5 * depth)
    given = ["--image", "color.png", "--depth", "tum.png", "--depth_unit", "5000", *CAMERA]
    launch(monkeypatch, inputs, *given, *MASKS, "--category", "mug")
    scene = trimesh.load_scene(inputs / "output" / "scene.glb")
    assert abs(np.median(placed(scene, "object 1")[:, 2]) - 0.73) < 0.05


ALL = [*PHOTO, *MASKS, "--category", "mug"]
BAD = {
    "a mesh": (
        [*ALL, "--mesh", "mug.ply"],
        "--mesh: the method finds categories, without meshes; leave it out",
    ),
    "a symmetry": ([*ALL, "--symmetry", "z"], "--symmetry: the method finds categories, without meshes"),
    "no depth": (
        ["--image", "color.png", *CAMERA, *MASKS],
        "--depth is missing: give the depth image of each",
    ),
    "no mask": ([*PHOTO, "--category", "mug"], "--mask is missing: give one of each object, or --detections"),
    "no category": ([*PHOTO, *MASKS], "--category is missing: give bottle, bowl, camera, can, laptop, mug"),
    "another": (
        [*PHOTO, *MASKS, "--category", "cup"],
        "--category cup: give one of bottle, bowl, camera, can",
    ),
    "too many": (
        [*PHOTO, *MASKS, "--category", "mug", "can", "mug"],
        "--category mug can mug: 3 given for 2 masks; give one for each, or one for all",
    ),
    "two depths": (
        ["--depth", "depth.png", "depth.png", *ALL[4:], *ALL[:2]],
        "--depth: 2 images for 1 photos",
    ),
    "no file": ([*ALL, "--depth", "absent.png"], "image absent.png not found: correct the path"),
    "a photo": ([*ALL, "--depth", "color.png"], "depth color.png is a picture of colours, not of distances"),
    "both": ([*ALL, "--detections", "found.json"], "--detections and masks or boxes: give one of them"),
    "a video": (
        [*ALL, "--image", "clip.mp4"],
        "--image clip.mp4: videos come without depth; give their frames",
    ),
    "no camera": ([*PHOTO[:4], *ALL[6:]], "color.png states no focal length (EXIF)"),
    "unnamed": (
        [*PHOTO, "--detections", "unnamed.json"],
        "--detections unnamed.json: some are of no category; give each its name",
    ),
    "by meshes": (
        [*ALL, "--model", "rendermatch"],
        "--depth: the method finds objects by their meshes; pass",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line(monkeypatch, capsys, inputs, case):
    dump(inputs / "unnamed.json", [{"bbox": [1, 1, 9, 9]}])
    (inputs / "clip.mp4").write_bytes(b"")
    arguments, message = BAD[case]
    line = failure(monkeypatch, capsys, inputs, *arguments)
    assert line.startswith("error: ") and message in line
    assert not list((inputs / "output").iterdir())


def test_weights_are_asked_for_by_name(monkeypatch, capsys, inputs):
    given = ["run_demo.py", "--gpus", "cpu", "--model", "dualposenet", *ALL, "--checkpoint_path", "absent.pt"]
    monkeypatch.chdir(inputs)
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit):
        run_demo.main()
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: absent.pt: no such checkpoint")


def test_depth_is_undistorted_with_its_photo_without_mixing(inputs):
    depth = np.where(np.arange(640) < 400, 0.5, 1.5) * np.ones((480, 1))
    np.save(inputs / "depth.npy", depth)
    camera = {"fx": 600, "fy": 600, "cx": 320, "cy": 240, "distortion_coefficients": [0.2, -0.1, 0, 0]}
    path = dump(inputs / "camera.json", camera)
    hint, where = CameraHint(file=str(path)), PlaceHint([[10, 10, 50, 50]])
    shot = read_shot(inputs / "color.png", hint, where, ["mug"], DepthHint(inputs / "depth.npy"))
    assert set(np.unique(shot.depth)) <= {0.0, 0.5, 1.5}
    before = np.array([[[400.0, 60.0]], [[400.0, 240.0]]])
    after = cv2.undistortImagePoints(before, shot.K, np.array([0.2, -0.1, 0, 0]))[:, 0]
    assert abs(after[0, 0] - 400) > 1  # it is bent
    for x, y in after:
        assert abs(np.argmax(shot.depth[round(y)] == 1.5) - x) < 1
