"""What is written of a video, and what is read of one."""

import json

import cv2
import numpy as np
import pytest

from picopose.datasets.bop.results import read_results
from picopose.datasets.videos import rate_of, read_video
from picopose.demo.agreement_plot import plot_agreement
from picopose.demo.film_files import FilmFiles
from picopose.demo.footage import open_footage
from picopose.pipeline.object_pose import ObjectPose
from picopose.utils.errors import InputError

K = np.array([[300.0, 0, 32], [0, 300, 24], [0, 0, 1]])
IMAGE = np.full((48, 64, 3), (200, 100, 50), np.uint8)


def pose_at(x: float, name: str, track: int) -> ObjectPose:
    pose = np.eye(4)
    pose[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]  # a quarter turn about z
    pose[:3, 3] = x, 0, 1
    return ObjectPose(name, pose, 0.8, 0.5, -1, np.zeros((0, 4)), np.zeros(4), track=track)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "trajectory_7_old.txt").write_text("of an earlier video")
    with FilmFiles(tmp_path, ["cup", "a/mug"], K, 10.0) as files:
        files.add(0.0, IMAGE, [pose_at(0.1, "cup", 0), pose_at(0.2, "a/mug", 1)], 0.05)
        files.add(0.1, IMAGE, [pose_at(0.3, "a/mug", 1)], 0.05)
        files.add(0.5, IMAGE, [], 0.05)  # three frames were dropped
    return tmp_path


def test_the_poses_are_written_in_three_forms(folder):
    lines = [json.loads(line) for line in (folder / "poses.jsonl").read_text().splitlines()]
    assert [(line["frame"], line["time"], len(line["poses"])) for line in lines] == [
        (0, 0.0, 2),
        (1, 0.1, 1),
        (2, 0.5, 0),
    ]
    assert lines[1]["poses"][0]["track"] == 1 and lines[1]["poses"][0]["object"] == "a/mug"
    assert sorted(file.name for file in folder.glob("trajectory_*")) == [
        "trajectory_0_cup.txt",
        "trajectory_1_a_mug.txt",
    ]
    half = np.sqrt(0.5)
    assert np.allclose(
        np.loadtxt(folder / "trajectory_1_a_mug.txt"),
        [
            [0, 0.2, 0, 1, 0, 0, half, half],
            [0.1, 0.3, 0, 1, 0, 0, half, half],
        ],
    )
    found = read_results(folder / "poses.csv")
    assert found.im_id.tolist() == [0, 0, 1] and found.obj_id.tolist() == [1, 2, 2]
    assert np.allclose(found.cam_from_obj[:, :, 3], [[0.1, 0, 1], [0.2, 0, 1], [0.3, 0, 1]])


def test_the_film_keeps_the_time(folder):
    frames = list(read_video(folder / "overlay.mp4"))
    assert len(frames) == 6 and rate_of(folder / "overlay.mp4") == pytest.approx(10)
    assert np.abs(frames[-1].astype(int) - IMAGE).mean() < 12
    assert cv2.imread(str(folder / "agreement.png")) is not None


def test_an_error_leaves_no_half_film(tmp_path):
    with pytest.raises(RuntimeError), FilmFiles(tmp_path, ["cup"], K, 10.0) as files:
        files.add(0.0, IMAGE, [], 0.1)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_the_plot_has_gaps_where_an_object_is_lost():
    seen = {"track": 0, "object": "cup", "confidence": 0.8}
    entries = [{"time": float(i), "poses": [] if 40 <= i < 60 else [seen]} for i in range(101)]
    plot = plot_agreement(entries)
    blue = (plot == (31, 119, 180)).all(-1)
    columns = np.flatnonzero(blue[80:].any(0))
    middle = plot.shape[1] // 2
    assert not (np.abs(columns - middle) < 80).any() and len(columns) > 500
    assert plot_agreement([]).shape == plot.shape


def test_a_folder_of_frames_is_footage(tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i:03d}.png"), np.full((4, 4, 3), i, np.uint8))
    footage = open_footage(str(tmp_path))
    assert [(round(time, 3), image[0, 0, 0]) for time, image in footage.frames] == [
        (0, 0),
        (0.033, 1),
        (0.067, 2),
    ]
    assert footage.live is None and footage.path.name == "000.png"


@pytest.mark.parametrize(
    ("name", "told"), [("clip.txt", "no video"), ("empty", "no photo"), ("77", "camera 77")]
)
def test_what_is_no_footage(tmp_path, name, told):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=told):
        open_footage(name if name == "77" else str(tmp_path / name))
