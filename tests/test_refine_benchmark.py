"""The tables of benchmarks.refine, and how wrong the poses are that it starts from."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from benchmarks import refine
from picopose.evaluation.eval_models import load_models
from picopose.model.picopose.build import build_network
from picopose.utils.config import Config
from picopose.utils.config_files import to_yaml
from tests.shared import ROOT
from tests.test_level_table import annotated_set, cells
from tests.test_refine_learner import MODEL


def test_four_tables_are_printed(monkeypatch, capsys, tmp_path):
    annotated_set(tmp_path)
    weights, out = tmp_path / "tiny.pt", tmp_path / "out"
    network = build_network(**vars(MODEL))
    torch.save({"model": network.state_dict(), "config": to_yaml(Config(model=MODEL))}, weights)
    given = ["--first", "tests.toys.method", "--after", "refine,best", "--checkpoint_path", str(weights)]
    where = [f"test_dataset.data_dir={tmp_path}", "options.refine.times=1"]
    monkeypatch.setattr(
        sys, "argv", ["refine", "--dataset", "toy", "--gpus", "cpu", "--out", str(out), *given, *where]
    )
    monkeypatch.chdir(ROOT)
    refine.main()
    rows = [cells(line) for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    named = {row[0]: row[1:] for row in rows}
    assert named["tests.toys.method,best"][0] == named["tests.toys.method,refine,best"][0] != ""
    assert {
        "disturbed",
        "refined",
        "scale of the flow, %",
        "depth, %",
        "one pass of one pose",
    } <= named.keys()
    assert float(named["backbone, one image"][0]) > 0


def test_true_poses_are_turned_by_degrees_and_shifted_by_diameters():
    models = load_models(ROOT / "data" / "mini", [1])
    diameter, centre = models[1].diameter, models[1].box_corners.mean(axis=0)
    true = np.column_stack([np.eye(3), [0.05, 0, 0.7]])
    turns, shifts = [], []
    for im_id in range(800):
        image = SimpleNamespace(scene_id=1, im_id=im_id, cam_from_obj=[true], most_visible=first)
        truth = SimpleNamespace(images=[image], targets=[{1: 1}])
        (result,) = refine.true_poses(truth, models, True)
        rotation = np.reshape(result.estimates[0].rotation, (3, 3))
        turns.append(Rotation.from_matrix(rotation).as_euler("xyz", degrees=True))
        moved = rotation @ centre + result.estimates[0].translation - centre - true[:, 3]
        shifts.append(moved / diameter)
    assert np.std(turns, axis=0) == pytest.approx([15, 15, 15], rel=0.1)
    assert np.std(shifts, axis=0) == pytest.approx([0.1, 0.1, 0.1], rel=0.1)


def first(obj_id: int, count: int) -> np.ndarray:
    return np.array([0])
