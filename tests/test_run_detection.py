"""BOP's detection tasks by run_test.py: poses of whatever is in the images, and 2D detections."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from picopose.datasets.bop.detections import Detections
from picopose.pipeline.tested_set import TestedSet, task_of
from picopose.utils.errors import InputError
from picopose.utils.masks import cut_out
from picopose.utils.records import Estimates, Frame, Mask
from tests.small_bop import HEIGHT, WIDTH, box_mask, detection, dump, load, run_program, write_set
from tests.toys import detector, method

DETECTOR, METHOD = "tests.toys.detector", "tests.toys.method"
BOX = (30, 20, 20, 8)


def run(monkeypatch, data: Path, *more: str) -> Path:
    """Runs the toy method on the toy set and returns the folder of the run."""
    given = ["--model", METHOD, "--dataset", "toy", "--gpus", "cpu", f"test_dataset.data_dir={data}"]
    run_program(monkeypatch, *given, f"log_dir={data / 'log'}", *more)
    return data / "log" / f"{METHOD}_base_id0"


def failure(monkeypatch, capsys, data: Path, *more: str) -> str:
    with pytest.raises(SystemExit):
        run(monkeypatch, data, *more)
    return capsys.readouterr().err.splitlines()[-1]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "tests-toys-method_toy-test.csv").open() as file:
        return list(csv.DictReader(file))


def found(folder: Path) -> Path:
    return folder / "tests-toys-method_toy-test_detections.json"


def annotate(folder: Path) -> None:
    """Objects where the toy detector says they are, and what poses are scored by."""
    left = {"visib_fract": 1.0, "bbox_visib": [0, 0, 31, 47], "bbox_obj": [0, 0, 31, 47]}
    dump(folder / "test/000001/scene_gt_info.json", {"3": [left, left], "7": [left]})
    shutil.copytree(folder / "models", folder / "models_eval")


def test_detection_takes_the_images_of_the_other_list_and_all_that_is_detected(monkeypatch, tmp_path, caplog):
    """Object 2 is no target of image 7; the other list asks for one of object 5, which is found twice."""
    caplog.set_level("INFO")
    folder = write_set(tmp_path)
    entries = [
        detection(7, 2, 0.7, (50, 0, 9, 9)),
        detection(7, 5, 0.8, BOX),
        detection(7, 5, 0.6, (0, 0, 9, 9)),
    ]
    dump(folder / "detections.json", [*entries, detection(7, 5, 0.5, BOX)])
    annotate(folder)
    told = run(monkeypatch, tmp_path, "--task", "detection")
    assert [(row["im_id"], row["obj_id"]) for row in rows(told)] == [("7", "5"), ("7", "2"), ("7", "5")]
    assert "has no test_targets_bop24.json, but test_targets_bop19.json" in caplog.text
    assert load(told / "scores.json")["toy"]["task"] == "detection"
    shutil.rmtree(told)
    assert [row["obj_id"] for row in rows(run(monkeypatch, tmp_path))] == ["5"]


def test_detection_reads_its_own_list(monkeypatch, tmp_path):
    folder = write_set(tmp_path)
    dump(folder / "test_targets_bop24.json", [{"scene_id": 1, "im_id": 7}])
    assert {row["im_id"] for row in rows(run(monkeypatch, tmp_path, "--task", "detection"))} == {"7"}


def test_a_task_is_a_run_of_its_own(monkeypatch, capsys, tmp_path):
    write_set(tmp_path)
    run(monkeypatch, tmp_path)
    assert "belongs to a run that differs in" in failure(monkeypatch, capsys, tmp_path, "--task", "detection")


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ("detection", "bop19.json is a list of localization, the task detection: drop one of the two"),
        ("localization", "bop24.json is a list of detection, the task localization: drop one of the two"),
    ],
)
def test_a_task_that_the_given_list_is_not_of_is_refused(monkeypatch, capsys, tmp_path, task, problem):
    folder = write_set(tmp_path)
    dump(folder / "test_targets_bop24.json", [{"scene_id": 1, "im_id": 7}])
    targets = folder / f"test_targets_bop{'19' if task == 'detection' else '24'}.json"
    line = failure(monkeypatch, capsys, tmp_path, "--task", task, f"test_dataset.targets={targets}")
    assert line.startswith("error: test_dataset.targets=") and line.endswith(problem)


def test_a_run_has_one_task(tmp_path):
    folder = write_set(tmp_path)
    of_images = dump(folder / "test_targets_bop24.json", [{"scene_id": 1, "im_id": 7}])
    first = TestedSet("a", tmp_path / "a.csv", folder, folder, folder / "test_targets_bop19.json", None)
    second = replace(first, name="b", targets=of_images)
    with pytest.raises(
        InputError, match=r"different tasks \(b of detection, a of localization\): choose one"
    ):
        task_of([first, second])
    assert task_of([first]) == "localization"
    assert task_of([replace(first, task="detection"), second]) == "detection"


def test_localization_needs_a_list_with_objects(monkeypatch, capsys, tmp_path):
    folder = write_set(tmp_path)
    (folder / "test_targets_bop19.json").unlink()
    dump(folder / "test_targets_bop24.json", [{"scene_id": 1, "im_id": 7}])
    line = failure(monkeypatch, capsys, tmp_path, "--task", "localization")
    assert "bop19.json does not exist, but test_targets_bop24.json: choose the task detection" in line


def test_in_detection_an_image_has_its_hundred_best_poses(monkeypatch, tmp_path):
    """Of 60 detections with two hypotheses each, the second of which has twice the score."""
    folder = write_set(tmp_path)
    dump(folder / "detections.json", [detection(7, 5, 0.1 + i / 100, BOX) for i in range(60)])
    stages = ["--stages", METHOD, "options.distinct.overlap=1"]
    scores = [float(row["score"]) for row in rows(run(monkeypatch, tmp_path, "--task", "detection", *stages))]
    every = [depth * (0.1 + i / 100) for i in range(60) for depth in (1, 2)]
    assert scores == pytest.approx(sorted(every, reverse=True)[:100])


def test_a_detector_alone_writes_what_is_read_as_detections(monkeypatch, capsys, tmp_path):
    folder = write_set(tmp_path)
    annotate(folder)
    told = run(monkeypatch, tmp_path, "--stages", DETECTOR)
    assert not list(told.glob("*.csv")) and not (told / "report.html").exists()
    entries = load(found(told))
    assert [(entry["image_id"], entry["category_id"]) for entry in entries] == [
        (3, 2),
        (3, 5),
        (7, 2),
        (7, 5),
    ]
    assert entries[0]["bbox"] == [0, 0, WIDTH // 2, HEIGHT] and entries[0]["score"] == 1
    again = Detections(found(told), images={(1, 3), (1, 7)})
    assert [one.obj_id for one in again.of_image(1, 3)] == [2, 5]
    assert all(one.box == (0, 0, WIDTH // 2, HEIGHT) and one.seconds > 0 for one in again.of_image(1, 7))
    # Object 2 is not in image 7; its detection there is no better than the true one, and comes after it.
    scores = load(told / "scores.json")["toy"]["detections"]
    assert scores["kinds"]["boxes"]["objects"] == pytest.approx({"2": 1, "5": 1})
    assert "visible boxes" in capsys.readouterr().out
    run(
        monkeypatch,
        tmp_path,
        "--stages",
        f"{METHOD},best",
        f"test_dataset.detections={found(told)}",
        "--version_id",
        "1",
    )
    assert len(list((told.parent / f"{METHOD}_base_id1").glob("*.csv"))) == 1


def test_detections_are_written_beside_poses_as_they_were_made(monkeypatch, tmp_path):
    """The stages that follow drop poses, not detections; both are scored."""
    folder = write_set(tmp_path)
    annotate(folder)
    stages = ["--stages", f"{DETECTOR},{METHOD},best"]
    told = run(monkeypatch, tmp_path, *stages)
    assert len(rows(told)) == len(load(found(told))) == 4
    scores = load(told / "scores.json")["toy"]
    assert scores["task"] == "localization" and scores["detections"]["kinds"]["boxes"]["AP"] == pytest.approx(
        1
    )
    phases = load(told / "tests-toys-method_toy-test.json")[0]["phases"]
    assert load(found(told))[0]["time"] == phases["detection"] > 0
    before = found(told).read_bytes()
    journal = next((told / "toy_journal").iterdir())
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:2]))
    run(monkeypatch, tmp_path, *stages)  # image 7 is done again
    assert load(found(told))[:2] == load_bytes(before)[:2] and len(load(found(told))) == 4


def load_bytes(content: bytes) -> list:
    return json.loads(content)


class Masks(detector.Detector):
    """Finds an L, and a box with a score that is no number."""

    pixels = torch.from_numpy(box_mask(5, 6, 10, 12) | box_mask(5, 10, 20, 8))

    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        masks = [cut_out(self.pixels), Mask(torch.tensor([1, 2, 3, 4]), None)]
        return Estimates.of([2, 5], masks, score=torch.tensor([0.25, torch.nan]))


def test_masks_come_back_pixel_by_pixel(monkeypatch, tmp_path, caplog):
    write_set(tmp_path)
    monkeypatch.setattr(detector, "Detector", Masks)
    told = run(monkeypatch, tmp_path, "--stages", DETECTOR)
    assert "object 5: the detection is not finite and is left out" in caplog.text
    (one,) = Detections(found(told)).of_image(1, 7)
    assert one.obj_id == 2 and one.score == 0.25 and one.box == (5, 6, 25, 18)
    assert torch.equal(one.region.mask((HEIGHT, WIDTH)), Masks.pixels)


@pytest.mark.parametrize("guesses", [False, True])
def test_poses_go_on_from_boxes_where_outlines_are_guesses(guesses, monkeypatch, tmp_path):
    write_set(tmp_path)
    monkeypatch.setattr(detector, "Detector", Masks)
    monkeypatch.setattr(Masks, "guesses_outlines", guesses)
    given, estimate = [], method.Method.__call__
    monkeypatch.setattr(
        method.Method,
        "__call__",
        lambda self, frame, start: given.extend(start.mask[:1]) or estimate(self, frame, start),
    )
    told = run(monkeypatch, tmp_path, "--stages", f"{DETECTOR},{METHOD},best")
    left, top, right, bottom = 5, 6, 25, 18
    outline = Masks.pixels[top:bottom, left:right]
    assert not outline.all() and len(given) == 2
    for mask in given:
        assert mask.box.tolist() == [left, top, right, bottom]
        assert mask.is_box if guesses else torch.equal(mask.inside, outline)
    (one,) = Detections(found(told)).of_image(1, 7)  # what is told of them are outlines all the same
    assert torch.equal(one.region.mask((HEIGHT, WIDTH)), Masks.pixels)


def test_what_a_detector_alone_cannot_do_is_told(monkeypatch, capsys, tmp_path):
    write_set(tmp_path)
    line = failure(monkeypatch, capsys, tmp_path, "--stages", DETECTOR, "--pictures", "1")
    assert line.startswith("error: --pictures 1: no stage estimates poses")
    given = ["--init", str(tmp_path / "given.csv"), "--stages", f"{DETECTOR},tests.toys.refiner"]
    assert f"{DETECTOR} would not use the given poses" in failure(monkeypatch, capsys, tmp_path, *given)
