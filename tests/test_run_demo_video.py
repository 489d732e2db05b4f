"""run_demo.py --video, from a mesh and a clip that is drawn here to poses, film and plot."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import run_demo
from picopose.datasets.bop.results import read_results
from picopose.utils.motion import moved
from tests.mesh_variants import HEIGHT, MODEL, WIDTH, K, look, photo, true_pose
from tests.rendered import renderer

CAMERA = f"{K[0, 0]},{K[1, 1]},{K[0, 2]},{K[1, 2]}"
MOTION = np.radians([1.0, 2.0, 0.5]), (0.002, -0.001, 0.003)  # a frame


def true_poses(count: int) -> list[np.ndarray]:
    return [moved(true_pose(), i * np.concatenate(MOTION)) for i in range(count)]


def clip(folder: Path, poses: list[np.ndarray]) -> list[float]:
    """The frames as PNG files, and the box about the object in the first one."""
    folder.mkdir()
    background = photo(True)[0]
    background[:] = np.median(background, axis=(0, 1))
    rng = np.random.default_rng(0)
    box = None
    for i, pose in enumerate(poses):
        seen = renderer().render([(look(True), pose)], K, WIDTH, HEIGHT, ambient=0.9)
        if box is None:
            left, top, width, height = cv2.boundingRect(seen.mask.astype(np.uint8))
            box = [left, top, left + width, top + height]
        noisy = np.where(seen.mask[..., None], seen.rgb, background) + rng.normal(0, 2, background.shape)
        cv2.imwrite(str(folder / f"{i:03d}.png"), noisy.clip(0, 255).astype(np.uint8)[..., ::-1])
    return box


def run(monkeypatch, *given) -> None:
    monkeypatch.setattr(sys, "argv", ["run_demo.py", "--gpus", "cpu", *map(str, given)])
    run_demo.main()


def test_an_object_is_followed_through_a_clip(tmp_path, monkeypatch):
    poses, out = true_poses(8), tmp_path / "out"
    box = clip(tmp_path / "frames", poses)
    given = "--mesh", MODEL, "--video", tmp_path / "frames", "--camera", CAMERA, "--box", *box, "--out", out
    run(monkeypatch, *given, f"log_dir={tmp_path}/log", "test.views=42")
    lines = [json.loads(line) for line in (out / "poses.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(8))
    for line, true in list(zip(lines, poses, strict=True))[2:]:
        (found,) = line["poses"]
        off = np.array(found["cam_from_obj"]) - true
        turn = Rotation.from_matrix(np.array(found["cam_from_obj"])[:3, :3] @ true[:3, :3].T)
        assert np.degrees(turn.magnitude()) < 1.5 and np.linalg.norm(off[:3, 3]) < 0.01 * 0.71
        assert found["verdict"] == "good" and found["track"] == 0
    assert len(read_results(out / "poses.csv")) == 8
    assert np.loadtxt(out / "trajectory_0_obj_000002.txt").shape == (8, 8)
    assert (out / "overlay.mp4").stat().st_size > 5000 and (out / "agreement.png").exists()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--video", "absent.mp4"], "absent.mp4 not found"),
        (["--video", "notes.txt"], "notes.txt: no video"),
        (["--video", "71"], "camera 71 cannot be opened"),
    ],
)
def test_bad_videos_are_told_in_one_line(tmp_path, monkeypatch, capsys, given, told):
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, "--mesh", MODEL, *given, "--camera", CAMERA, "--out", tmp_path)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert end.value.code == 2 and told in error and error.startswith("error: ")


def test_photos_and_video_exclude_each_other(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "--mesh", MODEL, "--video", "clip.mp4", "--image", "photo.jpg")
    assert "not both" in capsys.readouterr().err
