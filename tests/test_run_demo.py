"""The program for an object of one's own: odd but legal input works, what cannot be gets one line."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from PIL import Image

import run_demo
from tests.shared import ROOT
from tests.small_bop import dump, load
from utils.images import read_image
from utils.regions import read_mask

SMALL = [
    "--config",
    "config/small.yaml",
    "--gpus",
    "cpu",
    "test.views=42",
    "test.hypotheses=1",
    "model.size=64",
]
CAMERA = ["--camera", "300,300,80,60"]


@pytest.fixture
def inputs(tmp_path) -> Path:
    """A folder with a photo and a mesh."""
    photo = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "photo.png"), photo)
    trimesh.creation.box((0.05, 0.08, 0.1)).export(tmp_path / "box.ply")
    return tmp_path


def run(monkeypatch, inputs: Path, *arguments: str, mesh="box.ply", image="photo.png") -> list[dict]:
    out = inputs / "out"
    given = ["--mesh", str(inputs / mesh), "--image", str(inputs / image), "--out", str(out), *arguments]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["run_demo.py", *SMALL, *given])
    run_demo.main()
    overlay = cv2.imread(str(out / "overlay.png"))
    assert overlay.shape == (120, 160, 3)
    return load(out / "pose.json")["poses"]


def failure(monkeypatch, capsys, inputs: Path, *arguments: str, **names: str) -> str:
    with pytest.raises(SystemExit) as exit_info:
        run(monkeypatch, inputs, *arguments, **names)
    assert exit_info.value.code == 2
    assert not list((inputs / "out").glob("*"))
    return capsys.readouterr().err.splitlines()[-1]


def test_a_pose_for_every_box_and_mask(monkeypatch, inputs):
    mask = np.zeros((120, 160), np.uint8)
    mask[20:60, 30:70] = 255
    cv2.imwrite(str(inputs / "mask.png"), mask)
    poses = run(
        monkeypatch, inputs, *CAMERA, "--mask", str(inputs / "mask.png"), "--box", "100", "50", "170", "130"
    )
    assert len(poses) == 2
    for pose in poses:
        matrix = np.array(pose["cam_from_obj"])
        assert np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-4)
        assert matrix[2, 3] > 0


def test_grey_photo_stl_in_millimetres_and_camera_file(monkeypatch, inputs, caplog):
    cv2.imwrite(str(inputs / "grey.png"), np.full((120, 160), 99, np.uint8))
    trimesh.creation.box((50, 80, 100)).export(inputs / "box.stl")
    camera = dump(inputs / "camera.json", {"fx": 300, "fy": 300, "cx": 80, "cy": 60})
    caplog.set_level("INFO")
    poses = run(
        monkeypatch,
        inputs,
        "--camera",
        str(camera),
        "--box",
        "40",
        "30",
        "90",
        "80",
        mesh="box.stl",
        image="grey.png",
    )
    assert len(poses) == 1
    assert "diameter 137 mm, read as mm" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--camera", "300,300", "--box", "1", "1", "50", "50"], "--camera"),
        (["--camera", "0,300,80,60", "--box", "1", "1", "50", "50"], "--camera"),
        (["--camera", "3e9,3e9,80,60", "--box", "1", "1", "50", "50"], "--camera"),
        ([*CAMERA, "--box", "200", "1", "250", "50"], "--box"),
        ([*CAMERA, "--box", "50", "50", "50", "50"], "--box"),
        ([*CAMERA, "--box", "nan", "1", "50", "50"], "--box"),
        ([*CAMERA, "--box", "1", "1", "inf", "50"], "--box"),
        ([*CAMERA, "--mask", "absent.png"], "absent.png"),
        ([*CAMERA, "--box", "1", "1", "50", "50", "--unit", "mm"], "box.ply"),  # 0.1 mm: metres
    ],
)
def test_unusable_input(monkeypatch, capsys, inputs, arguments, named):
    line = failure(monkeypatch, capsys, inputs, *arguments)
    assert line.startswith("error: ")
    assert named in line


def test_missing_files(monkeypatch, capsys, inputs):
    box = [*CAMERA, "--box", "1", "1", "50", "50"]
    assert "absent.jpg" in failure(monkeypatch, capsys, inputs, *box, image="absent.jpg")
    assert "absent.obj" in failure(monkeypatch, capsys, inputs, *box, mesh="absent.obj")


def test_results_that_cannot_be_written(monkeypatch, capsys, inputs):
    (inputs / "out").write_text("a file")
    with pytest.raises(SystemExit):
        run(monkeypatch, inputs, *CAMERA, "--box", "1", "1", "50", "50")
    assert "--out" in capsys.readouterr().err


def test_a_photo_is_read_the_way_it_is_shown(tmp_path):
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:10] = 255
    image = Image.fromarray(np.rot90(upright).copy())
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned clockwise
    image.save(tmp_path / "phone.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "phone.png").permute(1, 2, 0).numpy(), upright)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "opaque"])
def test_masks_with_and_without_alpha(tmp_path, mode):
    expected = np.zeros((40, 60), np.uint8)
    expected[5:20, 10:30] = 255
    opaque, black = np.full_like(expected, 255), np.zeros_like(expected)
    layers = {
        "L": [expected],
        "LA": [expected, opaque],
        "RGBA": [opaque, black, opaque, expected],  # a cut-out: colours everywhere, alpha on the object
        "opaque": [expected, black, black, opaque],
    }[mode]
    Image.fromarray(np.squeeze(np.dstack(layers))).save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png", 40, 60).numpy(), expected > 0)
