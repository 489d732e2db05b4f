"""The curve over the noise: the noise is what it is said to be, and the table holds what its files hold."""

import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmarks import noisy_starts
from picopose.datasets.bop.results import read_results
from picopose.evaluation.eval_models import load_models
from picopose.evaluation.scoring import score_csv
from picopose.utils.errors import InputError
from tests.shared import ROOT
from tests.small_bop import dump, load
from tests.test_level_table import annotated_set, cells


def test_poses_are_turned_about_the_centre_and_shifted_in_proportion():
    rng = np.random.default_rng(0)
    pose = np.column_stack([Rotation.random(random_state=rng).as_matrix(), [0.1, -0.05, 0.8]])
    centre = np.array([0.02, 0.03, -0.01])
    found = np.stack([noisy_starts.disturbed(pose, centre, rng.standard_normal(6), 15) for _ in range(4000)])
    turns = found[:, :, :3] @ pose[:, :3].T
    angles = np.degrees(Rotation.from_matrix(turns).magnitude())
    assert np.median(angles) == pytest.approx(22.8, abs=0.6)
    assert Rotation.from_matrix(turns).as_euler("xyz", degrees=True).std(axis=0) == pytest.approx(
        [15, 15, 15], abs=0.6
    )
    shifts = found @ [*centre, 1] - pose @ [*centre, 1]
    assert shifts.std(axis=0) == pytest.approx([0.01, 0.01, 0.05], rel=0.05)
    assert noisy_starts.disturbed(pose, centre, np.ones(6), 0) == pytest.approx(pose)
    far = noisy_starts.disturbed(pose, centre, np.array([0, 0, 0, 0, 0, -9.0]), 40)
    assert (far @ [*centre, 1])[2] == pytest.approx(0.05)  # stays in front of the camera


def run(monkeypatch, capsys, data, *more: str) -> list[list[str]]:
    """The rows of the table."""
    given = ["--dataset", "toy", "--gpus", "cpu", "--out", str(data / "out"), *more]
    monkeypatch.setattr(sys, "argv", ["noisy_starts", *given, f"test_dataset.data_dir={data}"])
    monkeypatch.chdir(ROOT)
    noisy_starts.main()
    return [cells(line) for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]


def test_a_refiner_is_measured_on_poses_of_growing_noise(monkeypatch, capsys, tmp_path):
    annotated_set(tmp_path)
    noise = ["--noise", "0,3,6", "--stages", "tests.toys.refiner"]
    rows = run(monkeypatch, capsys, tmp_path, *noise)
    assert [row[0] for row in rows] == ["0", "3", "6"] and rows[2][1] == "0.4, 0.4, 2.0"
    assert rows[0][2:] == ["100.0 -> 0.0 %", "0.0 -> 0.0 degrees", "0.0 -> 100.0 mm"]  # 10 cm nearer
    out = tmp_path / "out"
    start, refined = (read_results(out / f"{name}-6deg.csv") for name in ("start", "refined"))
    nearer = np.zeros((3, 4))
    nearer[2, 3] = -0.1
    assert np.abs(refined.cam_from_obj - start.cam_from_obj - nearer).max() < 1e-6
    overall, _ = score_csv(out / "start-6deg.csv", tmp_path / "toy", errors=["mssd"], measures=True).measures
    assert rows[2][3].startswith(f"{overall.median_rotation_deg:.1f} -> ")
    centre = np.append(load_models(tmp_path / "toy", [2])[2].box_corners.mean(axis=0), 1)
    files = (out / f"start-{level}deg.csv" for level in (0, 3, 6))
    truth, some, more = (read_results(path).cam_from_obj[0] @ centre for path in files)
    assert more - truth == pytest.approx(2 * (some - truth), rel=1e-5)  # the same noise, twice as much of it
    assert (out / "curve.png").stat().st_size > 10_000


def test_only_some_objects_and_images(monkeypatch, capsys, tmp_path):
    annotated_set(tmp_path)
    noise = ["--noise", "0", "--stages", "tests.toys.refiner"]
    run(monkeypatch, capsys, tmp_path, *noise, "--objects", "5", "--images", "1")
    place = {"scene_id": 1, "im_id": 3, "obj_id": 5, "inst_count": 1}
    assert load(tmp_path / "out" / "targets.json") == [place]
    assert read_results(tmp_path / "out" / "start-0deg.csv").obj_id.tolist() == [5]
    source = dump(tmp_path / "targets.json", [place])
    with pytest.raises(InputError, match="has no target of object 4, 7: name others"):
        noisy_starts.write_targets(tmp_path / "none.json", source, [4, 7], None)
    source = dump(tmp_path / "targets.json", [{"scene_id": 1, "im_id": 3}])
    with pytest.raises(InputError, match="names no objects: give a list of targets that does"):
        noisy_starts.write_targets(tmp_path / "none.json", source, [], None)
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, tmp_path, "--noise", "10,many")
    assert "--noise: invalid degrees value: '10,many'" in capsys.readouterr().err
