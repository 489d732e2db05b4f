"""The program for an object of one's own: odd but legal input works, what cannot be gets one line."""

import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from PIL import ExifTags, Image

import run_demo
from picopose.datasets.masks.regions import read_mask
from picopose.demo import command
from picopose.demo.shots import CameraHint, PlaceHint, read_shot, read_shots, unit_of
from tests.masks import whole
from tests.small_bop import dump, load

SMALL = [
    "--config",
    "config/lite.yaml",
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


def launch(monkeypatch, folder: Path, arguments: list) -> None:
    """Runs the program in a folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["run_demo.py", *SMALL, *map(str, arguments)])
    run_demo.main()


def run(monkeypatch, inputs: Path, *arguments: str, mesh="box.ply", image="photo.png") -> list[dict]:
    out = inputs / "out"
    given = ["--mesh", inputs / mesh, "--image", inputs / image, "--out", out, *arguments]
    launch(monkeypatch, inputs, given)
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


def test_the_terminal_and_the_file_say_how_sure_each_pose_is(monkeypatch, inputs, caplog):
    caplog.set_level("INFO")
    boxes = ["--box", "20", "20", "80", "80", "--box", "60", "30", "130", "110"]
    poses = run(monkeypatch, inputs, *CAMERA, *boxes)
    found = re.findall(
        r"photo\.png: box at (\S+) (\S+) (\S+) m: (good|doubtful|wrong), (\d+) % sure", caplog.text
    )
    assert len(found) == len(poses) == 2
    for (*position, word, percent), pose in zip(found, poses, strict=True):
        assert np.allclose(np.float64(position), pose["translation"], atol=6e-4)
        sure = pose["confidence"]
        assert word == pose["verdict"] == ("good" if sure >= 0.6 else "wrong" if sure < 0.25 else "doubtful")
        assert abs(float(percent) - 100 * sure) <= 0.51 and 0 <= sure <= 1


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


BOX = ["--box", "1", "1", "50", "50"]
BAD = {
    "no photo": ({"image": "absent.jpg"}, [*CAMERA, *BOX], "image {}/absent.jpg not found: correct the path"),
    "no picture": ({"image": "text.png"}, [*CAMERA, *BOX], "image {}/text.png cannot be read"),
    "no mesh": ({"mesh": "absent.obj"}, [*CAMERA, *BOX], "mesh {}/absent.obj not found: check the path"),
    "damaged mesh": ({"mesh": "text.ply"}, [*CAMERA, *BOX], "{}/text.ply cannot be read as a mesh"),
    "no mesh file": ({"mesh": "photo.png"}, [*CAMERA, *BOX], "{}/photo.png is no mesh file: convert it to"),
    "wrong unit": ({}, [*CAMERA, *BOX, "--unit", "mm"], "looks like metres: give unit m"),
    "no camera": ({}, BOX, "{}/photo.png states no focal length (EXIF): give its camera or field of view"),
    "half a camera": ({}, ["--camera", "300,300", *BOX], "camera 300,300: give four numbers fx,fy,cx,cy"),
    "no focal length": ({}, ["--camera", "0,300,80,60", *BOX], "focal lengths 0, 300 px, which must be pos"),
    "other's camera": ({}, ["--camera", "3e9,3e9,80,60", *BOX], "not those of 160x120 px: correct it"),
    "wide camera": ({}, ["--fov", "180", *BOX], "field of view 180: give the photo's horizontal one"),
    "box outside": (
        {},
        [*CAMERA, "--box", "200", "1", "250", "50"],
        "box 200 1 250 50: nothing of 160x120 px",
    ),
    "empty box": ({}, [*CAMERA, "--box", "50", "50", "50", "50"], "box 50 50 50 50: nothing of 160x120"),
    "endless box": ({}, [*CAMERA, "--box", "1", "1", "inf", "50"], "box 1 1 inf 50: not four numbers"),
    "no mask": ({}, [*CAMERA, "--mask", "absent.png"], "image absent.png not found"),
    "mask of another size": ({}, [*CAMERA, "--mask", "{}/small.png"], "9x7 px for a photo of 160x120 px"),
    "empty mask": ({}, [*CAMERA, "--mask", "{}/black.png"], "black.png is empty: it must be other than 0 on"),
    "no detections": ({}, [*CAMERA, "--detections", "{}/text.ply"], "text.ply is not a JSON list: write a"),
    "no weights": ({}, [*CAMERA, *BOX, "--checkpoint_path", "{}/text.ply"], "{}/text.ply"),
    "point": ({"mesh": "point.stl"}, [*CAMERA, *BOX], "all vertices of the mesh lie in one point"),
    "no turn": ({}, [*CAMERA, *BOX, "--symmetry", "z00"], "symmetry z00: write e.g. z (turns freely)"),
    "two symmetries": (
        {},
        [*CAMERA, *BOX, "--symmetry", "z", "x"],
        "z x: 2 given for 1 meshes",
    ),
    "odd symmetry": ({}, [*CAMERA, *BOX, "--symmetry", "w"], "symmetry w: write e.g. z (turns freely)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line(monkeypatch, capsys, inputs, case):
    (inputs / "text.ply").write_text("not a mesh")
    trimesh.Trimesh([[1, 1, 1]] * 3, [[0, 1, 2]], process=False).export(inputs / "point.stl")
    (inputs / "text.png").write_text("not a picture")
    cv2.imwrite(str(inputs / "small.png"), np.full((7, 9), 255, np.uint8))
    cv2.imwrite(str(inputs / "black.png"), np.zeros((120, 160), np.uint8))
    names, arguments, message = BAD[case]
    line = failure(monkeypatch, capsys, inputs, *(a.replace("{}", str(inputs)) for a in arguments), **names)
    assert line.startswith("error: ")
    assert message.replace("{}", str(inputs)) in line


def test_a_folder_of_photos_and_several_meshes(monkeypatch, inputs, caplog):
    """Each photo gets a folder; detections say which object is where; EXIF data tell the focal length."""
    caplog.set_level("INFO")
    photos = inputs / "photos"
    photos.mkdir()
    image = Image.open(inputs / "photo.png")
    exif = image.getexif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 50
    for name in ("b.jpg", "a.jpg"):
        image.save(photos / name, exif=exif)
    trimesh.creation.cone(0.03, 0.09).export(inputs / "cone.stl")
    entries = [
        {"label": "cone", "bbox_modal": [20, 20, 80, 80]},
        {"label": "box", "bbox_modal": [60, 30, 130, 110], "image": "a.jpg"},
        {"bbox_modal": [60, 30, 130, 110], "image": "b.jpg"},
    ]
    path = dump(inputs / "detections.json", entries)
    given = ["--mesh", "box.ply", "cone.stl", "--image", "photos", "--detections", path, "--out", "out"]
    launch(monkeypatch, inputs, given)
    found = {photo: load(inputs / "out" / photo / "pose.json") for photo in "ab"}
    assert [pose["object"] for pose in found["a"]["poses"]] == ["cone", "box"]
    assert found["b"]["poses"][0]["object"] == "cone" and len(found["b"]["poses"]) == 2
    assert [pose["box"] for pose in found["a"]["poses"]] == [[20, 20, 80, 80], [60, 30, 130, 110]]
    assert found["a"]["K"][0][0] == pytest.approx(50 / 43.27 * 200, rel=1e-4)
    assert "focal length 231 px" in caplog.text
    for photo in "ab":
        written = {file.name for file in (inputs / "out" / photo).iterdir()}
        assert written == {"pose.json", "overlay.png", "scene.glb", "matches_0.png", "matches_1.png"}
        assert "cone 0 0" in trimesh.load_scene(inputs / "out" / photo / "scene.glb").graph.nodes_geometry


def test_a_second_run_leaves_no_pictures_of_the_first(monkeypatch, inputs):
    boxes = ["--box", "20", "20", "80", "80", "--box", "60", "30", "130", "110"]
    assert len(run(monkeypatch, inputs, *CAMERA, *boxes)) == 2
    assert (inputs / "out" / "matches_1.png").is_file()
    assert len(run(monkeypatch, inputs, *CAMERA, *boxes[:5])) == 1
    assert [path.name for path in (inputs / "out").glob("matches_*.png")] == ["matches_0.png"]


def test_entries_of_the_config_may_follow_photos(monkeypatch, inputs):
    given = ["--mesh", "box.ply", "test.seed=1", *CAMERA, "--box", "20", "20", "80", "80"]
    launch(monkeypatch, inputs, [*given, "--image", "photo.png", "test.threshold_px=3"])
    assert len(load(inputs / "output" / "pose.json")["poses"]) == 1


def test_a_symmetric_object_that_one_photo_does_not_show_keeps_its_pose(monkeypatch, inputs):
    """The photo between is of another object, and the third is the first again: nothing has turned."""
    told = []

    def estimate(estimator, shot, last):
        told.append([pose.name for pose in last])
        return found(estimator, shot, last)

    found = command.estimate
    monkeypatch.setattr(command, "estimate", estimate)
    trimesh.creation.cone(0.03, 0.09).export(inputs / "cone.stl")
    shots = [("cone", "0.png"), ("box", "1.png"), ("cone", "2.png")]
    entries = [{"label": name, "bbox": [20, 20, 60, 60], "image": image} for name, image in shots]
    for _, image in shots:
        cv2.imwrite(str(inputs / image), cv2.imread(str(inputs / "photo.png")))
    path = dump(inputs / "detections.json", entries)
    given = ["--mesh", "box.ply", "cone.stl", "--symmetry", "none", "z", *CAMERA, "--detections", path]
    launch(monkeypatch, inputs, [*given, "--image", *(image for _, image in shots)])
    assert told == [[], ["cone"], ["cone", "box"]]
    first, third = (load(inputs / "output" / name / "pose.json")["poses"][0] for name in "02")
    assert np.allclose(first["cam_from_obj"], third["cam_from_obj"], atol=1e-5)


def test_boxes_and_masks_keep_the_order_that_they_are_given_in(monkeypatch, inputs):
    cv2.imwrite(str(inputs / "mask.png"), np.full((120, 160), 255, np.uint8))
    given = ["--box", "1", "2", "30", "40", "--mask", str(inputs / "mask.png"), "--box", "5", "6", "70", "80"]
    photo = ["--image", str(inputs / "photo.png")]
    monkeypatch.setattr(sys, "argv", ["run_demo.py", "--mesh", "a.ply", "b.ply", "c.ply", *photo, *given])
    places = run_demo.parse_arguments().places
    assert places == [[1, 2, 30, 40], inputs / "mask.png", [5, 6, 70, 80]]
    camera = CameraHint(file="300,300,80,60")
    shot = read_shot(inputs / "photo.png", camera, PlaceHint(places), ["a", "b", "c"])
    assert [place.name for place in shot.places] == ["a", "b", "c"]  # as many as meshes: in their order
    areas = whole([place.mask for place in shot.places], 120, 160).sum(dim=(1, 2))
    assert areas.tolist() == [29 * 38, 120 * 160, 65 * 74]
    shot = read_shot(inputs / "photo.png", camera, PlaceHint(places), ["a", "b"])
    assert [place.name for place in shot.places] == [None, None, None]


def test_the_unit_of_a_mesh_is_guessed_by_its_own_box(inputs):
    trimesh.creation.box((5, 5, 5)).export(inputs / "b.ply")  # in mm or cm: its box tells
    small, large = [10, 10, 16, 16], [20, 10, 150, 110]
    camera = CameraHint(file="300,300,80,60")
    units = {}
    for name, places in (("small", [large, small]), ("large", [small, large])):
        shot = read_shot(inputs / "photo.png", camera, PlaceHint(places), ["a", "b"])
        units[name] = unit_of(inputs / "b.ply", "b", shot)
    alone = {
        name: unit_of(inputs / "b.ply", "b", read_shot(inputs / "photo.png", camera, PlaceHint([box]), ["b"]))
        for name, box in (("small", small), ("large", large))
    }
    assert units == alone == {"small": "mm", "large": "cm"}


def test_detections_of_nothing_that_is_looked_for(monkeypatch, capsys, inputs):
    path = dump(inputs / "detections.json", [{"label": "box", "bbox": [1, 1, 9, 9], "image": "other.png"}])
    with pytest.raises(SystemExit):
        run(monkeypatch, inputs, *CAMERA, "--detections", str(path))
    assert "none of its detections is of photo.png, they are of other.png" in capsys.readouterr().err
    assert list((inputs / "out").iterdir()) == []


def test_results_that_cannot_be_written(monkeypatch, capsys, inputs):
    (inputs / "out").write_text("a file")
    with pytest.raises(SystemExit):
        run(monkeypatch, inputs, *CAMERA, "--box", "1", "1", "50", "50")
    assert "--out" in capsys.readouterr().err


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
    assert np.array_equal(whole([read_mask(tmp_path / "mask.png", 40, 60)], 40, 60)[0].numpy(), expected > 0)


def test_a_photo_that_is_cut_out_of_a_larger_one(monkeypatch, inputs, capsys):
    camera = {"fx": 300, "fy": 300, "cx": 130, "cy": 60}
    path = str(dump(inputs / "camera.json", camera))
    with pytest.raises(SystemExit):
        run(monkeypatch, inputs, "--camera", path, "--box", "60", "30", "110", "90")
    assert "cut out of a larger one state its width and height" in capsys.readouterr().err
    dump(inputs / "camera.json", camera | {"width": 160, "height": 120})
    (pose,) = run(monkeypatch, inputs, "--camera", path, "--box", "60", "30", "110", "90")
    assert np.isfinite(pose["cam_from_obj"]).all()


def write_video(path: Path, frames: int, size: tuple[int, int] = (160, 120)) -> Path:
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, size)
    for i in range(frames):
        video.write(np.full((size[1], size[0], 3), (10, 200, 30 + 40 * i), np.uint8))  # BGR
    video.release()
    return path


def test_the_frames_of_a_video_are_photos(monkeypatch, inputs):
    clip = write_video(inputs / "clip.avi", 3)
    shots = list(read_shots(clip, CameraHint(fov=60), PlaceHint(), ["box"]))
    assert [shot.name for shot in shots] == ["clip_000000", "clip_000001", "clip_000002"]
    for i, shot in enumerate(shots):
        assert abs(shot.image.mean(axis=(0, 1)) - [30 + 40 * i, 200, 10]).max() < 4  # RGB; JPEG is lossy
    given = ["--mesh", inputs / "box.ply", "--image", clip, "--out", inputs / "out", "--fov", "60"]
    launch(monkeypatch, inputs, [*given, "--box", "30", "20", "90", "80"])
    for shot in shots:
        found = load(inputs / "out" / shot.name / "pose.json")
        assert found["image"] == shot.name and len(found["poses"]) == 1
    write_video(clip, 2)
    launch(monkeypatch, inputs, [*given, "--box", "30", "20", "90", "80"])
    left = sorted(path.parent.name for path in (inputs / "out").glob("*/pose.json"))
    assert left == ["clip_000000", "clip_000001"]  # nothing stays of the longer one


def test_a_video_that_ends_early_is_told(inputs, caplog):
    clip = write_video(inputs / "clip.avi", 60)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 3 // 4])
    shots = list(read_shots(clip, CameraHint(fov=60), PlaceHint(), ["box"]))
    assert 0 < len(shots) < 60 and f"clip.avi: only {len(shots)} of its 60 frames can be read" in caplog.text


def test_what_is_no_video_is_told(monkeypatch, capsys, inputs):
    (inputs / "clip.mp4").write_bytes(b"no video")
    line = failure(monkeypatch, capsys, inputs, *CAMERA, image="clip.mp4")
    assert "clip.mp4 cannot be read as a video" in line
