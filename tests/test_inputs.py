"""A run that is started again: what is taken from the earlier one, and what has changed and is done again."""

import csv
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from picopose.model.rendermatch.stage import RenderMatchStage
from picopose.pipeline import bop_run
from picopose.pipeline import input_digests as inputs
from picopose.utils.config_files import load_config
from picopose.utils.files import locked
from tests.shared import ROOT
from tests.small_bop import K, detection, dump, load, photo, run_program, write_set

FAST = ["--config", "config/default.yaml", "--gpus", "cpu", "--view", "42", "--hypotheses", "1"]
FAST += ["options.rendermatch.turns=1", "options.refine.times=0", "options.refine.hypotheses=1"]


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def run(monkeypatch, tmp_path, features) -> Callable[..., tuple[list[dict], list[int]]]:
    """Runs the set `toy` in `tmp_path`; gives the CSV without the times, and the images solved."""
    solved = []
    predict = RenderMatchStage.__call__
    monkeypatch.setattr(
        RenderMatchStage, "__call__", lambda *given: solved.append(given[1].im_id) or predict(*given)
    )

    def run(version: int, *more: str) -> tuple[list[dict], list[int]]:
        solved.clear()
        folders = [f"test_dataset.data_dir={tmp_path}", f"log_dir={tmp_path / 'log'}"]
        folders += [f"runtime.features_dir={features}", "--version_id", str(version)]
        run_program(monkeypatch, "--dataset", "toy", *FAST, *folders, *more)
        with (run_dir(tmp_path, version) / "rendermatch_toy-test.csv").open() as file:
            rows = [{k: v for k, v in row.items() if k != "time"} for row in csv.DictReader(file)]
        return rows, list(solved)

    return run


def run_dir(data: Path, version: int) -> Path:
    return data / "log" / f"rendermatch_default_id{version}"


def correct_camera(folder: Path) -> None:
    cameras = load(folder / "test/000001/scene_camera.json")
    cameras["7"]["cam_K"] = [K[0] * 1.3, *K[1:4], K[4] * 1.3, *K[5:]]
    dump(folder / "test/000001/scene_camera.json", cameras)


def replace_photo(folder: Path) -> None:
    Image.fromarray(255 - photo(7)).save(folder / "test/000001/rgb/000007.png")


def move_mask(folder: Path) -> None:
    entries = load(folder / "detections.json")
    entries[3] = detection(7, 5, 0.8, (8, 4, 20, 12))
    dump(folder / "detections.json", entries)


@pytest.mark.parametrize(
    ("change", "told"),
    [(correct_camera, "camera of 1"), (replace_photo, "photo of 1"), (move_mask, "detections of 1")],
)
def test_a_changed_input_gives_the_poses_of_a_fresh_run(run, tmp_path, caplog, change, told):
    folder = write_set(tmp_path)
    before, _ = run(1)
    change(folder)
    with caplog.at_level(logging.INFO):
        again, solved = run(1)
    assert solved == [7]
    assert f"1 images are not as they were and are done again: other {told}" in caplog.text
    assert "toy: 1 of 2 images are taken from an earlier run" in caplog.text
    fresh, _ = run(2)
    assert again == fresh != before


def test_what_is_finished_is_told_and_not_done_again(run, tmp_path, caplog):
    write_set(tmp_path)
    before, _ = run(1)
    with caplog.at_level(logging.INFO):
        assert run(1) == (before, [])
    assert "toy: all 2 images are taken from an earlier run" in caplog.text


def test_another_program_does_all_images_again(run, tmp_path, caplog, monkeypatch):
    write_set(tmp_path)
    before, _ = run(1)
    monkeypatch.setattr(inputs, "program_digest", lambda: "another")
    with caplog.at_level(logging.INFO):
        assert run(1) == (before, [3, 7])
    assert "2 images are not as they were and are done again: other program of 2" in caplog.text


def test_more_targets_leave_the_finished_images_alone(run, tmp_path):
    folder = write_set(tmp_path)
    targets = load(folder / "test_targets_bop19.json")
    dump(folder / "test_targets_bop19.json", targets[:2])
    run(1)
    dump(folder / "test_targets_bop19.json", targets)
    again, solved = run(1)
    assert solved == [7] and again == run(2)[0]


def test_results_of_what_has_changed_do_not_outlive_it(run, tmp_path, monkeypatch):
    """The second run fails before its end; nothing of the first one's is left that could be taken for its."""
    folder = write_set(tmp_path)
    run(1)
    results = run_dir(tmp_path, 1)
    for name in ("scores.json", "report.html"):
        (results / name).touch()
    (folder / "test/000001/rgb/000007.png").write_bytes(b"no photo")
    with pytest.raises(SystemExit):
        run(1)
    assert sorted(path.name for path in results.iterdir()) == ["toy_journal"]


def test_a_folder_deleted_meanwhile_is_made_again(run, tmp_path, monkeypatch, caplog):
    write_set(tmp_path)
    expected, _ = run(1)
    predict = RenderMatchStage.__call__

    def delete(*given):
        if given[1].im_id == 7:
            shutil.rmtree(tmp_path / "log")
        return predict(*given)

    monkeypatch.setattr(RenderMatchStage, "__call__", delete)
    assert run(2)[0] == expected
    assert "rank0.jsonl was deleted meanwhile and is written again" in caplog.text
    monkeypatch.setattr(RenderMatchStage, "__call__", predict)
    assert run(2) == (expected, [])


def test_two_runs_in_one_folder_are_refused(run, tmp_path, capsys):
    write_set(tmp_path)
    journals = run_dir(tmp_path, 1) / "toy_journal"
    with locked(journals, "here"), pytest.raises(SystemExit):
        run(1)
    assert f"error: {journals}: another run is at work in it: wait for its end" in capsys.readouterr().err
    run(1)


def test_leftovers_of_a_kill_are_removed(run, tmp_path, caplog):
    write_set(tmp_path)
    left = run_dir(tmp_path, 1) / ".rendermatch_toy-test.0123abcd.tmp.csv"
    left.parent.mkdir(parents=True)
    left.write_text("scene_id,im")
    with caplog.at_level(logging.INFO):
        run(1)
    assert not left.exists() and "1 files that a killed run has left half written are removed" in caplog.text


def test_training_and_testing_keep_their_configurations_apart(run, tmp_path):
    write_set(tmp_path)
    training = run_dir(tmp_path, 1) / "config.yaml"
    training.parent.mkdir(parents=True)
    training.write_text("of a training run")
    run(1)
    assert training.read_text() == "of a training run"
    assert load_config(training.parent / "rendermatch_toy-test.yaml").method == "rendermatch"


# --- digests


def test_the_program_is_its_version_and_its_weights(tmp_path, monkeypatch):
    before = inputs.program_digest.__wrapped__()
    assert inputs.program_digest.__wrapped__() == before
    for weights in inputs.WEIGHT_FILES:
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        changed = tmp_path / weights.name
        changed.write_bytes(content)
        others = tuple(changed if path == weights else path for path in inputs.WEIGHT_FILES)
        with monkeypatch.context() as patch:
            patch.setattr(inputs, "WEIGHT_FILES", others)
            assert inputs.program_digest.__wrapped__() != before
    monkeypatch.setattr(inputs, "POSES_VERSION", inputs.POSES_VERSION + 1)
    assert inputs.program_digest.__wrapped__() != before


def test_all_digits_of_a_camera_count(tmp_path):
    write_set(tmp_path)
    config = load_config(ROOT / "config/default.yaml", [f"test_dataset.data_dir={tmp_path}"])
    dataset = bop_run.open_dataset(bop_run.tested_set("toy", config, tmp_path), config)
    before = inputs.inputs_of(dataset, dataset.detections, 0)
    dataset.images[0].K[0, 0] = torch.nextafter(dataset.images[0].K[0, 0], torch.tensor(1e9))
    after = inputs.inputs_of(dataset, dataset.detections, 0)
    assert {name for name in before if before[name] != after[name]} == {"camera"}
