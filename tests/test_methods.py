"""Stages from outside plug into a run by their names, and runs go on from given poses."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from picopose.datasets.bop.results import HEADER
from picopose.model.methods import find_module
from picopose.model.stage import Stage, Thing, Things
from picopose.pipeline import bop_run
from picopose.pipeline.run import run
from picopose.utils.errors import InputError
from picopose.utils.records import Estimates, Frame, Mask
from tests.small_bop import HEIGHT, WIDTH, K, run_program, write_set

TOYS = "tests.toys.detector,tests.toys.method,best,tests.toys.refiner"


def arguments(data: Path, version: int, *more: str) -> list[str]:
    given = ["--dataset", "toy", "--gpus", "cpu", "--no-score", "--version_id", str(version)]
    return [*given, f"test_dataset.data_dir={data}", f"log_dir={data / 'log'}", *more]


def poses(folder: Path) -> list[tuple[str, np.ndarray, float]]:
    """Image and object, translation in m and score of each line of the only result in a folder."""
    (path,) = folder.glob("*.csv")
    with path.open() as file:
        return [
            (f"{row['im_id']} {row['obj_id']}", np.fromstring(row["t"], sep=" ") / 1000, float(row["score"]))
            for row in csv.DictReader(file)
        ]


def test_a_detector_a_method_and_a_refiner_from_outside(monkeypatch, tmp_path):
    (write_set(tmp_path) / "detections.json").unlink()  # the detector needs none
    run_program(monkeypatch, *arguments(tmp_path, 0, "--model", "tests.toys.method", "--stages", TOYS))
    found = poses(tmp_path / "log" / "tests.toys.method_base_id0")
    assert [place for place, _, _ in found] == ["3 2", "3 5", "7 2", "7 5"]
    middle = np.array([WIDTH // 2, HEIGHT]) / 2
    ray = np.append((middle - np.array(K)[[2, 5]]) / np.array(K)[[0, 4]], 1)
    for _, translation, score in found:
        assert np.allclose(translation, 2 * ray - [0, 0, 0.1], atol=1e-6)  # of two hypotheses the farther
        assert score == pytest.approx(2)


def test_without_best_all_hypotheses_are_written(monkeypatch, tmp_path):
    write_set(tmp_path)
    stages = "tests.toys.detector,tests.toys.method"
    given = ["--model", "tests.toys.method", "--stages", stages, "options.method.distance=3"]
    run_program(monkeypatch, *arguments(tmp_path, 1, *given))
    found = poses(tmp_path / "log" / "tests.toys.method_base_id1")
    assert len(found) == 8 and [score for _, _, score in found] == [3, 6] * 4


def test_a_run_goes_on_from_given_poses(monkeypatch, capsys, tmp_path):
    folder = write_set(tmp_path)
    model = ["--model", "tests.toys.method", "--stages"]
    run_program(monkeypatch, *arguments(tmp_path, 2, *model, "tests.toys.detector,tests.toys.method,best"))
    first = tmp_path / "log" / "tests.toys.method_base_id2"
    (result,) = first.glob("*.csv")
    (folder / "detections.json").unlink()  # poses take their place
    given = ["--init", str(result)]
    run_program(monkeypatch, *arguments(tmp_path, 3, *model, "tests.toys.refiner", *given))
    again = poses(tmp_path / "log" / "tests.toys.method_base_id3")
    for (place, before, score), (same, after, _) in zip(poses(first), again, strict=True):
        assert place == same and np.allclose(before - after, [0, 0, 0.1], atol=1e-6) and score == 2
    with pytest.raises(SystemExit):
        run_program(monkeypatch, *arguments(tmp_path, 4, *model, "tests.toys.method,best", *given))
    assert "tests.toys.method would not use the given poses" in capsys.readouterr().err


def test_the_time_of_given_poses_counts(monkeypatch, tmp_path):
    write_set(tmp_path)
    path = tmp_path / "given.csv"
    path.write_text(f"{HEADER}\n1,3,2,1,1 0 0 0 1 0 0 0 1,0 0 2000,2.5")
    stages = ["--stages", "tests.toys.refiner", "--init", str(path)]
    run_program(monkeypatch, *arguments(tmp_path, 7, "--model", "tests.toys.method", *stages))
    (result,) = (tmp_path / "log" / "tests.toys.method_base_id7").glob("*.csv")
    assert 2.5 < float(result.read_text().split(",")[-1]) < 3.5


@pytest.mark.parametrize("line", ["", "9,9,2,1,1 0 0 0 1 0 0 0 1,0 0 2000,-1"])
def test_a_file_without_a_pose_for_the_set_is_refused(monkeypatch, capsys, tmp_path, line):
    write_set(tmp_path)
    path = tmp_path / "given.csv"
    path.write_text(f"{HEADER}\n{line}".rstrip())
    with pytest.raises(SystemExit):
        run_program(
            monkeypatch, *arguments(tmp_path, 8, "--stages", "tests.toys.refiner", "--init", str(path))
        )
    assert "given.csv has no pose in these images: is it of another data set?" in capsys.readouterr().err


def test_poses_of_another_version_of_a_stage_are_not_kept(monkeypatch, capsys, tmp_path):
    write_set(tmp_path)
    given = arguments(tmp_path, 9, "--model", "tests.toys.method")
    run_program(monkeypatch, *given)
    monkeypatch.setattr(bop_run, "module_digest", lambda name: "edited" if "toys" in name else "")
    with pytest.raises(SystemExit):
        run_program(monkeypatch, *given)
    assert "differs in stages" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("3,2,", "3,9,"), "1 poses of objects that are no targets are left out"),
        (("1 0 0 0", "2 0 0 0"), "1 poses with numbers that are not finite, or no rotation are left out"),
        (("0 0 2000", "0 0 nan"), "1 poses with numbers that are not finite, or no rotation are left out"),
        (("0 0 2000", "0 0 -2000"), "1 poses not in sight of scene 1, image 3 are left out"),
        (("0 0 2000", "9000 0 2000"), "1 poses not in sight of scene 1, image 3 are left out"),
    ],
)
def test_poses_that_cannot_be_gone_on_from_are_left_out(monkeypatch, caplog, tmp_path, change, problem):
    write_set(tmp_path)
    line, path = "1,3,2,1,1 0 0 0 1 0 0 0 1,0 0 2000,-1", tmp_path / "given.csv"
    path.write_text("\n".join([HEADER, line.replace(*change), line.replace("3,2,", "3,5,")]))
    stages = ["--stages", "tests.toys.refiner", "--init", str(path)]
    run_program(monkeypatch, *arguments(tmp_path, 5, "--model", "tests.toys.method", *stages))
    ((place, translation, _),) = poses(tmp_path / "log" / "tests.toys.method_base_id5")
    assert place == "3 5" and np.allclose(translation, [0, 0, 1.9])
    assert f"{path}: {problem}" in caplog.text


@pytest.mark.parametrize(
    "name", ["refinement", "tests.toys.absent", "absent.stage", "stage", "../best", "", "."]
)
def test_what_is_no_stage_is_told(name):
    with pytest.raises(
        InputError, match=re.escape(f"{name}: no such method or stage; choose among best, confidence")
    ):
        find_module(name)


@pytest.mark.parametrize(
    ("stages", "more", "problem"),
    [
        ("redraw", [], "redraw needs poses to start from; name a method before it, or give them"),
        ("confidence", [], "confidence needs poses to start from"),
        ("tests.toys.detector,best", [], "none of them estimates poses; name a method among them"),
        ("best", ["--dataset", "all", "--init", "given.csv"], "--init given.csv: the poses of one data set"),
    ],
)
def test_lists_that_cannot_be_meant_are_refused(monkeypatch, capsys, tmp_path, stages, more, problem):
    write_set(tmp_path)
    with pytest.raises(SystemExit) as exit_info:
        run_program(monkeypatch, *arguments(tmp_path, 6, "--stages", stages, *more))
    assert exit_info.value.code == 2 and problem in capsys.readouterr().err


class Following(Stage):
    """Counts the frames for which an object is followed."""

    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        again = Estimates.of(found.obj_id.tolist(), found.mask, score=found.score + 1)
        return replace(again, cam_from_obj=torch.eye(4).expand(len(again), 4, 4))


def test_a_frame_can_begin_with_what_was_found_in_the_one_before():
    """What a tracker needs of the loop."""
    frames = [Frame(torch.zeros(3, 4, 4, dtype=torch.uint8), torch.eye(3), time=t / 30) for t in range(4)]
    first = Estimates.of([1], [Mask(torch.tensor([0, 0, 2, 2]), None)])
    seen = []
    run(
        frames,
        Things({1: Thing(1, "mug", 0.1)}),
        [Following()],
        lambda frame, before: first if before is None else before,
        lambda frame, found, seconds: seen.append((frame.time, found.score.item())),
    )
    assert seen == [(t / 30, 2.0 + t) for t in range(4)]


class Counting(Stage):
    """Notes which objects it is made ready for."""

    def __init__(self):
        self.made: list[int] = []

    def prepare_object(self, obj_id: int) -> None:
        self.made.append(obj_id)


def test_objects_are_prepared_once_however_many_runs_there_are():
    known = {1: Thing(1, "mug", 0.1)}
    things, stage = Things(known), Counting()
    for _ in range(2):
        run([], things, [stage], lambda *_: None, lambda *_: None)
    known[2] = Thing(2, "box", 0.2)
    run([], things, [stage], lambda *_: None, lambda *_: None)
    assert stage.made == [1, 2]
    stage.forget(1)
    run([], things, [stage], lambda *_: None, lambda *_: None)
    run([], Things(dict(known)), [stage], lambda *_: None, lambda *_: None)
    assert stage.made == [1, 2, 1, 1, 2]
