"""BOP's CSV and the journals behind it: names, numbers, and runs that were interrupted."""

import json
import logging
import re
import shutil
from dataclasses import replace

import pytest
import torch

from picopose.datasets.bop.image_result import FoundPose, ImageResult, from_json, to_json
from picopose.datasets.bop.results import csv_name, write_csv
from picopose.datasets.bop.side_file import read_details, write_details
from picopose.pipeline.journal import Journal, read_journals
from picopose.utils.errors import InputError
from picopose.utils.records import Estimates, Frame, Matches
from tests.masks import records
from tests.shared import shared

FINGERPRINT = {"checkpoint": "abc", "stage": 3, "seed": 0}


def result(im_id: int, count: int = 2, scene_id: int = 1) -> ImageResult:
    estimates = tuple(
        FoundPose(
            obj_id=number,
            score=0.1 * number + 1 / 3,
            confidence=1 / (3 + number) if number else None,
            rotation=(0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
            translation=(0.01 * im_id, -1 / 7, 0.5),
            detection_score=0.5,
            inlier_ratio=0.25,
            template=number,
            matches=((1.25, 2.5, 3.0, float(number)), (-0.01, 1e3, 0.0, 7.0))[:number],
        )
        for number in range(count)
    )
    phases = {"detection": 0.123456789, "poses": float(im_id)}
    return ImageResult(scene_id, im_id, 0.123456789 + im_id, estimates, phases)


FRAME = Frame(torch.zeros(3, 4, 4, dtype=torch.uint8), torch.eye(3), scene_id=1, im_id=3)


def poses(count: int) -> Estimates:
    cam_from_obj = torch.eye(4).repeat(count, 1, 1)
    cam_from_obj[:, :3, 3] = torch.tensor([0.1, -0.02, 0.7])
    masks = records(torch.ones(count, 4, 4, dtype=torch.bool))
    score = torch.linspace(0.9, 0.5, count)
    return replace(
        Estimates.of([5 + i for i in range(count)], masks, score=score, seconds=0.25),
        cam_from_obj=cam_from_obj,
        support=torch.linspace(0.8, 0.2, count),
        inlier_ratio=0.9 * torch.rand(count) + 0.1,
        view=torch.arange(count),
    )


def rows(path):
    header, *lines = path.read_text().splitlines()
    assert header == "scene_id,im_id,obj_id,score,R,t,time"
    return [line.split(",") for line in lines]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("picopose", "lmo", "test"), "picopose_lmo-test.csv"),
        (("picopose", "tless", "test_primesense"), "picopose_tless-test-primesense.csv"),
        (("pico_pose v1.2", "my_set-2", "test"), "pico-pose-v1-2_myset2-test.csv"),
    ],
)
def test_names_that_bop_can_take_apart(arguments, name):
    assert csv_name(*arguments) == name
    method, rest = name.removesuffix(".csv").split("_")
    assert method and len(rest.split("-")) in (2, 3)


def test_numbers_survive_the_csv(tmp_path):
    turns = torch.linalg.qr(torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(0)))[0]
    estimated = poses(4)
    estimated.cam_from_obj[:, :3, :3] = turns
    made = ImageResult.of(FRAME, estimated, seconds=1.5)
    write_csv(tmp_path / "a.csv", [made])
    read = rows(tmp_path / "a.csv")
    assert [row[:3] for row in read] == [["1", "3", str(obj_id)] for obj_id in (5, 6, 7, 8)]
    assert torch.equal(torch.tensor([float(row[3]) for row in read]), estimated.total_score)
    rotation = torch.tensor([[float(value) for value in row[4].split(" ")] for row in read])
    assert torch.equal(rotation.reshape(4, 3, 3), turns)
    translation = torch.tensor([[float(value) for value in row[5].split(" ")] for row in read])
    assert (translation - torch.tensor([100.0, -20.0, 700.0])).abs().max() < 1e-4  # mm
    assert {row[6] for row in read} == {"1.750000"}


def test_details_follow_the_csv(tmp_path):
    estimated = poses(3)
    estimated.inlier_ratio[1] = 0
    made = ImageResult.of(FRAME, estimated, seconds=1)
    write_details(tmp_path / "a_details.json", [made])
    details = json.loads((tmp_path / "a_details.json").read_text())
    assert [entry["template"] for entry in details] == [0, 1, 2]
    assert details[0]["detection_score"] == pytest.approx(0.9)
    assert details[1]["inlier_ratio"] == 0 and details[2]["obj_id"] == 7
    write_details(tmp_path / "none.json", [])
    assert json.loads((tmp_path / "none.json").read_text()) == []


def test_matches_go_to_the_side_file_in_pixels(tmp_path):
    matches = Matches(
        photo=torch.tensor([[[10.126, 20.0], [30.0, 40.0]], [[1.0, 2.0], [3.0, 4.0]]]),
        template=torch.tensor([[[5.0, 6.0], [7.0, 8.004]], [[9.0, 9.0], [9.0, 9.0]]]),
        weight=torch.tensor([[0.9, 0.5], [0.0, 0.7]]),
    )
    made = ImageResult.of(FRAME, replace(poses(2), matches=matches), seconds=1)
    write_details(tmp_path / "a.json", [made])
    first, second = read_details(tmp_path / "a.json")
    assert first.matches == ((10.13, 20.0, 5.0, 6.0), (30.0, 40.0, 7.0, 8.0))
    assert second.matches == ((3.0, 4.0, 9.0, 9.0),)
    assert first.phases == second.phases == {"detection": 0.25, "poses": 1.0}
    assert sum(first.phases.values()) == made.seconds


def test_the_side_file_is_read_as_it_was_written(tmp_path):
    made = [result(3), result(7, count=3)]
    write_details(tmp_path / "a.json", made)
    read = read_details(tmp_path / "a.json")
    assert [entry.matches for entry in read] == [e.matches for r in made for e in r.estimates]
    assert [entry.phases for entry in read] == [made[0].phases] * 2 + [made[1].phases] * 3
    assert [entry.template for entry in read] == [0, 1, 0, 1, 2]
    assert [entry.confidence for entry in read] == [None, 1 / 4, None, 1 / 4, 1 / 5]


@pytest.mark.parametrize("judged", [True, False])
def test_the_confidence_of_a_pose_stays_beside_it(tmp_path, judged):
    """A judge may have run or not: that no number is known is no number."""
    estimated = replace(poses(3), confidence=torch.tensor([0.75, 0.0, 1.0]) if judged else None)
    made = ImageResult.of(FRAME, estimated, seconds=1)
    write_details(tmp_path / "a.json", [made])
    expected = [0.75, 0.0, 1.0] if judged else [None] * 3
    assert [entry["confidence"] for entry in json.loads((tmp_path / "a.json").read_text())] == expected
    assert [entry.confidence for entry in read_details(tmp_path / "a.json")] == expected
    assert from_json(json.loads(json.dumps(to_json(made)))) == made


def test_files_from_before_there_was_a_confidence_are_refused(tmp_path):
    write_details(tmp_path / "a.json", [result(3)])
    entries = json.loads((tmp_path / "a.json").read_text())
    old = [{key: value for key, value in entry.items() if key != "confidence"} for entry in entries]
    (tmp_path / "a.json").write_text(json.dumps(old))
    with pytest.raises(InputError, match=r"a\.json .*confidence.*: run the test again or delete it"):
        read_details(tmp_path / "a.json")
    with Journal(tmp_path, FINGERPRINT) as journal:
        journal.append(result(3))
    path = tmp_path / "rank0.jsonl"
    path.write_text(re.sub(r'"confidence": [^,]*, ', "", path.read_text()))
    with pytest.raises(InputError, match=r"line 2 is damaged .*confidence.*: delete the file"):
        read_journals(tmp_path, FINGERPRINT)


@pytest.mark.parametrize(
    "changes",
    [
        {"matches": [[1, 2, 3]]},
        {"matches": [[1, 2, 3, None]]},
        {"phases": 3},
        {"template": "x"},
        {"template": -1},
        {"template": 1.5},
        {"inlier_ratio": 2.5},
        {"inlier_ratio": -0.1},
        {"confidence": 1.5},
        {"confidence": float("nan")},
        {"confidence": "sure"},
    ],
)
def test_damaged_side_files_are_refused(tmp_path, changes):
    write_details(tmp_path / "a.json", [result(3)])
    entries = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps([entries[0], entries[1] | changes]))
    with pytest.raises(InputError, match=r"a\.json") as caught:
        read_details(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_poses_that_are_not_finite_are_left_out(caplog):
    estimated = poses(3)
    estimated.cam_from_obj[1, 0, 3] = float("nan")
    with caplog.at_level(logging.WARNING):
        made = ImageResult.of(FRAME, estimated, seconds=1)
    assert [estimate.obj_id for estimate in made.estimates] == [5, 7]
    assert "image 3, object 6" in caplog.text


def test_results_come_back_from_json_exactly():
    assert from_json(json.loads(json.dumps(to_json(result(3))))) == result(3)


def write_all(folder, results):
    """The CSV of a run, assembled from its journals in the order of `results`."""
    finished = read_journals(folder / "journal", FINGERPRINT)
    write_csv(folder / "a.csv", [finished[entry.image] for entry in results])
    return (folder / "a.csv").read_bytes()


@pytest.mark.parametrize("lost", [0, 1, 40])
def test_an_interrupted_run_gives_the_same_csv(tmp_path, lost):
    results = [result(im_id) for im_id in range(6)]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    with Journal(whole / "journal", FINGERPRINT) as journal:
        for entry in results:
            journal.append(entry)

    journal = Journal(broken / "journal", FINGERPRINT)
    for entry in results[:3]:
        journal.append(entry)
    path = broken / "journal/rank0.jsonl"
    path.write_bytes(path.read_bytes()[: path.stat().st_size - lost])  # killed in the middle of a line
    finished = read_journals(broken / "journal", FINGERPRINT)
    assert len(finished) == (2 if lost else 3)
    with Journal(broken / "journal", FINGERPRINT) as journal:
        for entry in results:
            if entry.image not in finished:
                journal.append(entry)
    assert write_all(broken, results) == write_all(whole, results)


def test_a_journal_cut_in_its_first_line_begins_anew(tmp_path):
    (tmp_path / "rank0.jsonl").write_text('{"finger')
    assert read_journals(tmp_path, FINGERPRINT) == {}
    with Journal(tmp_path, FINGERPRINT) as journal:
        journal.append(result(3))
    assert list(read_journals(tmp_path, FINGERPRINT)) == [(1, 3)]


def test_another_digit_in_a_journal_is_noticed(tmp_path):
    with Journal(tmp_path, FINGERPRINT) as journal:
        journal.append(result(3))
        journal.append(result(4))
    path = tmp_path / "rank0.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    place = lines[2].index(b"0.5")
    lines[2] = lines[2][:place] + b"0.6" + lines[2][place + 3 :]
    path.write_bytes(b"".join(lines))
    with pytest.raises(InputError, match=r"rank0\.jsonl, line 3 is damaged .*check sum.*: delete the file"):
        read_journals(tmp_path, FINGERPRINT)


def test_a_journal_without_an_image_does_not_bind(tmp_path):
    other = FINGERPRINT | {"checkpoint": "def", "stage": 1}
    with Journal(tmp_path, FINGERPRINT):
        pass
    path = tmp_path / "rank0.jsonl"
    path.write_bytes(path.read_bytes() + b'{"scene_id": 1, "im')  # killed within the first image
    assert read_journals(tmp_path, other) == {}
    with Journal(tmp_path, other) as journal:
        journal.append(result(3))
    assert list(read_journals(tmp_path, other)) == [(1, 3)]
    assert len(path.read_text().splitlines()) == 2
    with pytest.raises(InputError, match="differs in checkpoint, stage"):
        Journal(tmp_path, FINGERPRINT)


def test_processes_keep_a_journal_each(tmp_path):
    results = [result(im_id) for im_id in range(5)]
    for rank in range(2):
        with Journal(tmp_path / "journal", FINGERPRINT, rank=rank) as journal:
            for entry in results[rank::2]:
                journal.append(entry)
    assert len(list((tmp_path / "journal").iterdir())) == 2
    write_all(tmp_path, results)
    assert [int(row[1]) for row in rows(tmp_path / "a.csv")] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_nothing_begun_is_nothing_finished(tmp_path):
    assert read_journals(tmp_path / "journal", FINGERPRINT) == {}


@pytest.mark.parametrize(
    ("fingerprint", "text", "problem"),
    [
        (FINGERPRINT | {"stage": 2}, None, "differs in stage: name another log_dir"),
        (FINGERPRINT | {"seed": 1, "views": 42}, None, "differs in seed: name"),
        (FINGERPRINT, "[1]\n", "does not begin like a journal"),
        (FINGERPRINT, "scene_id,im_id\n", "does not begin like a journal"),
        (FINGERPRINT, json.dumps({"fingerprint": FINGERPRINT}) + "\n{}\n", "line 2 is damaged"),
        (FINGERPRINT, json.dumps({"fingerprint": FINGERPRINT}) + "\nhalf\n", "line 2 is damaged"),
    ],
)
def test_journals_of_other_runs_are_refused(tmp_path, fingerprint, text, problem):
    with Journal(tmp_path, FINGERPRINT) as journal:
        journal.append(result(3))
    if text is not None:
        (tmp_path / "rank0.jsonl").write_text(text)
    with pytest.raises(InputError, match=problem) as caught:
        read_journals(tmp_path, fingerprint)
    assert "rank0.jsonl" in str(caught.value) and "\n" not in str(caught.value)


def test_a_failure_while_writing_leaves_the_old_file(tmp_path):
    write_csv(tmp_path / "a.csv", [result(3)])
    before = (tmp_path / "a.csv").read_bytes()

    def results():
        yield result(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_csv(tmp_path / "a.csv", results())
    assert (tmp_path / "a.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_the_form_of_lines_is_that_of_valid_result_files(tmp_path):
    reference = rows(shared("bop_golden/csvs/perfect_mini-test.csv"))
    write_csv(tmp_path / "a.csv", [result(3)])
    for row in (reference[0], *rows(tmp_path / "a.csv")):
        assert len(row) == 7 and [len(row[4].split()), len(row[5].split())] == [9, 3]
        assert all(field.isdecimal() for field in row[:3])


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"scene_id": 1e999}',
        b'{"scene_id": ' + b"9" * 5000 + b"}",
        json.dumps(to_json(result(3)) | {"scene_id": "1"}).encode(),
        json.dumps(to_json(result(3)) | {"seconds": float("nan")}).encode(),
        json.dumps(to_json(result(3)) | {"phases": [1]}).encode(),
        json.dumps(to_json(result(3)) | {"estimates": [{"obj_id": 1}]}).encode(),
    ],
    ids=range(7),
)
def test_damaged_lines_of_journals_are_named(tmp_path, line):
    with Journal(tmp_path, FINGERPRINT) as journal:
        journal.append(result(2))
    with (tmp_path / "rank0.jsonl").open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(InputError, match=r"rank0\.jsonl, line 3 is damaged .*: delete the file") as raised:
        read_journals(tmp_path, FINGERPRINT)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("number", ["1e999", "9" * 400, "NaN", "[1]", "true"])
def test_numbers_of_side_files_that_cannot_be(tmp_path, number):
    write_details(tmp_path / "a.json", [result(3)])
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "a.json").write_text(re.sub(r'"inlier_ratio": [^,]*', f'"inlier_ratio": {number}', text))
    with pytest.raises(InputError, match=r"a\.json is no side file"):
        read_details(tmp_path / "a.json")


def test_a_journal_that_is_deleted_meanwhile_is_written_again(tmp_path):
    with Journal(tmp_path / "log", FINGERPRINT) as journal:
        journal.append(result(2))
        shutil.rmtree(tmp_path / "log")
        journal.append(result(3))
        shutil.rmtree(tmp_path / "log")
    found = read_journals(tmp_path / "log", FINGERPRINT)
    assert found == {(1, 2): result(2), (1, 3): result(3)}
