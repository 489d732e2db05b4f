"""run_test.py with the default method: files in, BOP's CSV out, resumed where it was killed, never mixed."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from picopose.datasets.bop.test_set import BopTestSet
from picopose.model.methods import make_stages, stage_names
from picopose.model.rendermatch.stage import RenderMatchStage
from picopose.model.stage import Setup
from picopose.pipeline import bop_run
from picopose.rendering.mesh_views import MeshViews
from picopose.utils.config import Config
from picopose.utils.config_files import load_config
from picopose.utils.distributed import World
from picopose.utils.errors import InputError
from picopose.utils.stopwatch import Stopwatch
from tests.shared import ROOT
from tests.small_bop import dump, load, run_program, write_set


def run(monkeypatch, data: Path, log_dir: Path, version: int, *more: str) -> Path:
    """Runs the default method on `toy` and returns the CSV that it writes."""
    given = ["--dataset", "toy", "--config", "config/default.yaml", "--no-score", "--gpus", "cpu"]
    given += ["--view", "42", "--hypotheses", "2", "--version_id", str(version)]
    given += ["options.rendermatch.turns=2", f"test_dataset.data_dir={data}", f"log_dir={log_dir}", *more]
    run_program(monkeypatch, *given)
    return log_dir / f"rendermatch_default_id{version}" / "rendermatch_toy-test.csv"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return [{k: v for k, v in row.items() if k != "time"} for row in csv.DictReader(file)]


def test_the_csv_and_what_speaks_for_its_poses(monkeypatch, toy, log_dir):
    path = run(monkeypatch, toy, log_dir, 1)
    found, details = rows(path), load(path.with_suffix(".json"))
    keys = [tuple(int(row[name]) for name in ("scene_id", "im_id", "obj_id")) for row in found]
    assert keys == [(1, 3, 2)] * 2 + [(1, 3, 5)] + [(1, 7, 5)]
    assert [(d["scene_id"], d["im_id"], d["obj_id"]) for d in details] == keys
    for row, detail in zip(found, details, strict=True):
        R = np.array(row["R"].split(), float).reshape(3, 3)
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-4)
        assert float(row["t"].split()[2]) > 0
        assert 0 < float(row["score"]) < detail["detection_score"]  # times the confidence
        assert 0 <= detail["template"] < 42
    assert sorted(p.name for p in log_dir.iterdir()) == ["features", path.parent.name]  # no templates
    assert len(list((log_dir / "features").iterdir())) == 1  # the two objects have the same mesh
    assert load_config(path.with_suffix(".yaml")).method == "rendermatch"


def test_a_killed_run_continues_and_writes_the_same(monkeypatch, toy, log_dir):
    path = run(monkeypatch, toy, log_dir, 2)
    expected = rows(path)
    path.unlink()
    (journal,) = (path.parent / "toy_journal").iterdir()
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3  # fingerprint and two images
    journal.write_bytes(b"".join(lines[:2]) + lines[2][:40])
    solved = []
    predict = RenderMatchStage.__call__
    monkeypatch.setattr(
        RenderMatchStage, "__call__", lambda *given: solved.append(given[1].im_id) or predict(*given)
    )
    assert rows(run(monkeypatch, toy, log_dir, 2)) == expected
    assert solved == [7]


def test_another_number_of_turns_does_not_mix_in(monkeypatch, capsys, toy, log_dir):
    run(monkeypatch, toy, log_dir, 3)
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_info:
        run(monkeypatch, toy, log_dir, 3, "options.rendermatch.turns=1")
    assert exit_info.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "differs in options" in errors[0] and "version_id" in errors[0]


def test_an_image_without_detections_has_no_rows(monkeypatch, tmp_path, log_dir):
    folder = write_set(tmp_path)
    dump(folder / "detections.json", [d for d in load(folder / "detections.json") if d["image_id"] == 3])
    assert {row["im_id"] for row in rows(run(monkeypatch, tmp_path, log_dir, 4))} == {"3"}


# --- what a run depends on


def config_of(data: Path, *overrides: str) -> Config:
    return load_config(ROOT / "config/default.yaml", [f"test_dataset.data_dir={data}", *overrides])


def dataset_of(config: Config) -> BopTestSet:
    return bop_run.open_dataset(bop_run.tested_set("toy", config, Path("run")), config)


def fingerprint(config: Config) -> dict[str, str]:
    dataset = dataset_of(config)
    return bop_run.fingerprint_of(config, dataset, dataset.detections)


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_the_fingerprint_tells_what_the_poses_depend_on(tmp_path):
    folder = write_set(tmp_path)
    before = fingerprint(config_of(tmp_path))
    assert fingerprint(config_of(tmp_path)) == before
    free = ["runtime.batch=3", "log_dir=elsewhere", "runtime.template_memory=1.0"]
    assert not changed(before, fingerprint(config_of(tmp_path, *free)))
    for override, name in (
        ("options.rendermatch.turns=4", "options"),
        ("options.refine.times=0", "options"),
        ("test.hypotheses=3", "test"),
        ("test.views=42", "test"),
    ):
        assert changed(before, fingerprint(config_of(tmp_path, override))) == {name}
    mesh = folder / "models/obj_000005.ply"
    mesh.write_text(mesh.read_text().replace("0 10 0", "0 11 0"))
    other_mesh = fingerprint(config_of(tmp_path))
    assert changed(before, other_mesh) == {"meshes or templates"}
    (folder / "detections.json").rename(tmp_path / "others.json")
    others = config_of(tmp_path, f"test_dataset.detections={tmp_path / 'others.json'}")
    assert changed(other_mesh, fingerprint(others)) == {"detections file"}


def test_weights_count_by_what_is_in_them(tmp_path):
    """Of a folder with a file for each object too, and where a stage has its own beside those of the run."""
    write_set(tmp_path)
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "mug.pt").write_bytes(b"1")
    config = config_of(tmp_path, f"checkpoint={folder}", f"options.refiner.weights={folder}")
    before = fingerprint(config)
    assert fingerprint(config) == before
    (folder / "mug.pt").write_bytes(b"2")
    assert changed(before, fingerprint(config)) == {"checkpoint", "refiner's weights"}


def test_a_missing_mesh_is_named_before_the_run(tmp_path):
    folder = write_set(tmp_path)
    (folder / "models/obj_000005.ply").unlink()
    with pytest.raises(InputError, match=r"obj_000005\.ply not found"):
        dataset_of(config_of(tmp_path))


def test_the_poses_are_judged_where_there_are_meshes(toy):
    config = config_of(toy)
    things = bop_run.things_of(config, dataset_of(config), World())
    assert isinstance(things.drawings, MeshViews) and things.templates is None
    stages = make_stages(stage_names(config), Setup(config, torch.device("cpu"), Stopwatch(running=False)))
    names = ["RenderMatchStage", "RefineStage", "Best", "Follow", "Follow", "Confidence"]
    assert [type(stage).__name__ for stage in stages] == names
    assert stages[0].turns == 8 and stages[0].hypotheses == 10
    assert stages[1].times == 2 and stages[1].hypotheses == 5
