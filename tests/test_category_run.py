"""run_test.py with a method of categories on a set in NOCS's layout: results, report, going on, refusals."""

import json
import logging
import pickle
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from picopose.datasets.nocs.detections import read_result, read_truths
from picopose.model.dualposenet.network import DualPoseNet, Sizes
from picopose.pipeline import category_run
from picopose.utils.config import Config
from picopose.utils.config_files import to_yaml
from picopose.utils.distributed import World
from tests.small_bop import detection, dump, run_program
from tests.small_nocs import mug_mask, write_test_set
from tests.test_report import Page
from tests.test_run_test import failure

SIZES = Sizes(side=16, channels=(2, 2, 2, 2), feature=8, explicit=(8,), implicit=(8,))
RESULTS = "dualposenet_base_id0/toy_camera_val_results"


@pytest.fixture
def toy(tmp_path) -> Path:
    """A folder with the data set toy and the checkpoint net.pt."""
    write_test_set(tmp_path / "toy")
    write_weights(tmp_path / "net.pt", seed=0)
    return tmp_path


def write_weights(path: Path, *, seed: int) -> None:
    torch.manual_seed(seed)
    network = asdict(SIZES)
    config = Config(method="dualposenet", options={"dualposenet": {"network": network}})
    torch.save({"model": DualPoseNet(SIZES).state_dict(), "config": to_yaml(config)}, path)


def given(folder: Path, *more: str) -> list[str]:
    files = ["--checkpoint_path", str(folder / "net.pt"), f"test_dataset.data_dir={folder}"]
    return ["--model", "dualposenet", "--dataset", "toy", *files, f"log_dir={folder}", "--gpus", "cpu", *more]


def contents(folder: Path) -> dict[str, bytes]:
    """Of the result files."""
    return {path.name: path.read_bytes() for path in sorted((folder / RESULTS).iterdir())}


def test_results_are_in_the_originals_form(monkeypatch, toy):
    run_program(monkeypatch, *given(toy))
    assert list(contents(toy)) == [f"results_val_00000_{number:04d}.pkl" for number in range(3)]
    for path in (toy / RESULTS).iterdir():
        result, detected = (
            read_result(path),
            read_result(toy / "toy/segmentation_results/CAMERA25" / path.name),
        )
        assert result.image_path == detected.image_path
        assert result.masks is None
        for name in ("class_ids", "boxes", "scores"):
            np.testing.assert_array_equal(getattr(result, name), getattr(detected, name))
        for name, value in vars(read_truths(toy / "toy/gts/val" / path.name)).items():
            np.testing.assert_array_equal(getattr(result.truths, name), value)
        RTs, scales = result.poses.RTs, result.poses.scales
        diagonals = np.cbrt(np.linalg.det(RTs[:2, :3, :3]))
        rotations = RTs[:2, :3, :3] / diagonals[:, None, None]
        np.testing.assert_allclose(
            rotations @ rotations.swapaxes(1, 2), np.tile(np.eye(3), (2, 1, 1)), atol=1e-5
        )
        np.testing.assert_allclose(np.linalg.norm(scales[:2], axis=1), 1)
        # Of a mask with 8 pixels nothing can be said.
        np.testing.assert_array_equal(RTs[2], np.eye(4))
        np.testing.assert_array_equal(scales[2], np.ones(3))


def test_a_run_ends_with_scores_and_a_report(monkeypatch, capsys, toy):
    run_program(monkeypatch, *given(toy, "test_dataset.detections=truth"))
    printed = capsys.readouterr().out
    assert "There is no bottle, no bowl, no camera, no can, no laptop" in printed
    scores = json.loads((toy / "dualposenet_base_id0/scores.json").read_text())
    assert (scores["images"], scores["truths"]["mug"], scores["estimates"]["mug"]) == (3, 3, 3)
    assert scores["seconds_per_image"] > 0
    assert list(scores["classes"]) == ["mug"]
    present, every = scores["mean_of_present_classes"], scores["mean_of_all_classes"]
    for mode in ("legacy", "correct", "oriented"):
        assert present[mode] == scores["classes"]["mug"][mode]
        assert every[mode] == pytest.approx({name: value / 6 for name, value in present[mode].items()})
    page = Page((toy / "dualposenet_base_id0/report.html").read_text(encoding="utf-8"))
    assert len(page.cases()) == 3
    assert len(page.all("polyline")) == 3 * 3 * 2  # modes, curves, mug and mean
    assert all(image["href"].startswith("data:image/jpeg") for image in page.all("image"))


def test_the_report_escapes_names(monkeypatch, toy):
    shutil.move(toy / "toy", toy / "a<b>&amp;")
    arguments = [each if each != "toy" else "a<b>&amp;" for each in given(toy)]
    run_program(monkeypatch, *arguments)
    html = (toy / "dualposenet_base_id0/report.html").read_text(encoding="utf-8")
    assert "a&lt;b&gt;&amp;amp;_camera_val" in html
    assert "a<b>" not in html
    Page(html)


def test_the_same_command_gives_the_same_bytes(monkeypatch, caplog, toy):
    run_program(monkeypatch, *given(toy))
    first, scores = contents(toy), (toy / "dualposenet_base_id0/scores.json").read_bytes()
    caplog.set_level(logging.INFO)
    run_program(monkeypatch, *given(toy))
    assert "all 3 images are taken from an earlier run" in caplog.text
    assert contents(toy) == first
    assert (toy / "dualposenet_base_id0/scores.json").read_bytes() == scores
    run_program(monkeypatch, *given(toy, f"log_dir={toy}/other"))
    assert contents(toy / "other") == first


def remove_result(toy: Path) -> None:
    (toy / RESULTS / "results_val_00000_0001.pkl").unlink()


def damage_result(toy: Path) -> None:
    path = toy / RESULTS / "results_val_00000_0001.pkl"
    path.write_bytes(path.read_bytes().replace(b"pred_RTs", b"pred_RTS"))


@pytest.mark.parametrize("change", [remove_result, damage_result])
def test_a_result_that_is_not_as_it_was_is_made_again(monkeypatch, caplog, toy, change):
    run_program(monkeypatch, *given(toy))
    first = contents(toy)
    change(toy)
    caplog.set_level(logging.INFO)
    run_program(monkeypatch, *given(toy))
    assert "1 images are not as they were and are done again: other result of 1" in caplog.text
    assert contents(toy) == first


def change_photo(toy: Path) -> None:
    shutil.copy(toy / "toy/CAMERA/val/00000/0000_color.png", toy / "toy/CAMERA/val/00000/0001_color.png")


def change_depth(toy: Path) -> None:
    with (toy / "toy/CAMERA/val/00000/0001_depth.png").open("ab") as file:
        file.write(b" ")


def change_detections(toy: Path) -> None:
    path = toy / "toy/segmentation_results/CAMERA25/results_val_00000_0001.pkl"
    content = pickle.loads(path.read_bytes())
    content["pred_scores"][0] = 0.75
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize(
    ("change", "told"),
    [(change_photo, "photo"), (change_depth, "depth"), (change_detections, "detections")],
)
def test_what_has_changed_is_done_again(monkeypatch, caplog, toy, change, told):
    run_program(monkeypatch, *given(toy))
    change(toy)
    caplog.set_level(logging.INFO)
    run_program(monkeypatch, *given(toy))
    assert f"1 images are not as they were and are done again: other {told} of 1" in caplog.text
    fresh = toy / "fresh"
    run_program(monkeypatch, *given(toy, f"log_dir={fresh}"))
    assert contents(toy) == contents(fresh)


def test_results_of_images_that_are_no_more_are_removed(monkeypatch, toy):
    run_program(monkeypatch, *given(toy))
    (toy / "toy/segmentation_results/CAMERA25/results_val_00000_0001.pkl").unlink()
    run_program(monkeypatch, *given(toy))
    assert list(contents(toy)) == ["results_val_00000_0000.pkl", "results_val_00000_0002.pkl"]


def test_results_of_other_weights_are_refused(monkeypatch, capsys, toy):
    run_program(monkeypatch, *given(toy))
    write_weights(toy / "net.pt", seed=1)
    assert "belongs to a run that differs in checkpoint" in failure(monkeypatch, capsys, *given(toy))


def test_an_interrupted_run_goes_on(monkeypatch, toy):
    run_program(monkeypatch, *given(toy))
    whole, write = contents(toy), category_run.nocs.write_result
    shutil.rmtree(toy / "dualposenet_base_id0")

    def stops_at_the_second(path, result):
        if path.name.endswith("0001.pkl"):
            raise KeyboardInterrupt
        write(path, result)

    monkeypatch.setattr(category_run.nocs, "write_result", stops_at_the_second)
    with pytest.raises(SystemExit):
        run_program(monkeypatch, *given(toy))
    assert list(contents(toy)) == ["results_val_00000_0000.pkl"]
    monkeypatch.setattr(category_run.nocs, "write_result", write)
    run_program(monkeypatch, *given(toy))
    assert contents(toy) == whole


class Waiting(World):
    """A process whose others come before or after it."""

    def barrier(self) -> None:
        pass


def test_several_processes_share_the_images(monkeypatch, toy):
    run_program(monkeypatch, *given(toy))
    whole = contents(toy)
    shutil.rmtree(toy / "dualposenet_base_id0")
    for rank in (1, 0):
        monkeypatch.setattr("picopose.utils.distributed.join", lambda rank=rank: Waiting(rank, 2))
        run_program(monkeypatch, *given(toy))
        assert len(contents(toy)) == (1 if rank else 3)
    assert contents(toy) == whole


def test_detections_may_be_those_of_a_json_file(monkeypatch, toy):
    run_program(monkeypatch, *given(toy))
    pickled = contents(toy)
    entry = detection(0, 6, 0.9, (20, 10, 24, 24), mask=mug_mask(), scene_id=0)
    dump(toy / "toy/detections.json", [entry | {"image_id": number} for number in range(3)])
    run_program(monkeypatch, *given(toy, f"log_dir={toy}/json"))
    for name, content in contents(toy / "json").items():
        ours, theirs = (read_result(toy / folder / RESULTS / name) for folder in ("json", ""))
        assert content != pickled[name]
        np.testing.assert_array_equal(ours.boxes, theirs.boxes[:1])
        np.testing.assert_allclose(ours.poses.RTs, theirs.poses.RTs[:1], atol=1e-5)


def test_true_masks_are_taken_on_request_and_said_aloud(monkeypatch, caplog, toy):
    run_program(monkeypatch, *given(toy, "test_dataset.detections=truth"))
    assert "the true masks stand for detections" in caplog.text
    assert all(len(read_result(path).class_ids) == 1 for path in (toy / RESULTS).iterdir())


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["--init", "poses.csv"], "--init has no meaning for dualposenet"),
        (["--view", "42"], "--view has no meaning for dualposenet"),
        (["--level", "flow"], "--level has no meaning for dualposenet"),
        (["--hypotheses", "3"], "--hypotheses has no meaning for dualposenet"),
        (["--pictures", "3"], "--pictures has no meaning for dualposenet"),
        (["--dataset", "all"], "--dataset all: dualposenet runs on a data set in NOCS's layout"),
        (["--dataset", "toy/real_test"], "Real/test not found: download it"),
        (["--dataset", "tay"], "tay not found"),
        (["--dataset", "../toy"], "give a name, not a path"),
        (["test_dataset.targets=x.json"], "test_dataset.targets has no meaning"),
        (["test_dataset.detections=nowhere"], "nowhere has no detections, results_*.pkl"),
        (["--checkpoint_path", "nowhere.pt"], "nowhere.pt: no such checkpoint"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(monkeypatch, capsys, toy, more, problem):
    assert problem in failure(monkeypatch, capsys, *given(toy, *more))


def test_a_set_with_two_test_splits_is_asked_for(monkeypatch, capsys, toy):
    (toy / "toy/Real/test").mkdir(parents=True)
    assert "name toy/camera_val or toy/real_test" in failure(monkeypatch, capsys, *given(toy))
    run_program(monkeypatch, *given(toy, "--dataset", "toy/camera_val"))
    assert len(contents(toy)) == 3


def rename_detections(toy: Path) -> None:
    folder = toy / "toy/segmentation_results/CAMERA25"
    (folder / "results_val_00000_0001.pkl").replace(folder / "results_val_00000_0002.pkl")


def copy_detections(toy: Path) -> None:
    folder = toy / "toy/segmentation_results/CAMERA25"
    shutil.copy(folder / "results_val_00000_0001.pkl", folder / "results_test_00000_0001.pkl")


def lose_depth(toy: Path) -> None:
    (toy / "toy/CAMERA/val/00000/0001_depth.png").unlink()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (rename_detections, "is of data/CAMERA/val/00000/0001: give it the name of its image"),
        (copy_detections, "has several files of one image: keep one of each"),
        (lose_depth, "0001_depth.png"),
    ],
)
def test_files_that_do_not_belong_together(
    monkeypatch, capsys, toy, change: Callable[[Path], None], problem: str
):
    change(toy)
    assert problem in failure(monkeypatch, capsys, *given(toy))
