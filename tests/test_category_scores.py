"""picopose categories and the tables: the original's numbers, absent classes, and folders that are none."""

import json
from pathlib import Path

import numpy as np
import pytest

from picopose.commands.categories import main
from picopose.datasets.nocs.detections import ImageResult, Poses, Truths, write_result
from picopose.evaluation.categories.cases import find_cases
from picopose.evaluation.categories.results import read_results
from tests.shared import shared

# The table of the reference, percent.
MEANS = {
    "IoU25": (62.1, 55.0, 51.8),
    "IoU50": (48.7, 46.3, 34.1),
    "IoU75": (28.9, 18.2, 7.6),
    "5° 2 cm": (13.5, 14.2, 16.3),
    "5° 5 cm": (24.7, 26.3, 29.5),
    "10° 2 cm": (20.9, 21.9, 25.7),
    "10° 5 cm": (40.1, 43.4, 49.1),
    "IoU75 5° 5%": (4.4, 4.4, 4.0),
    "IoU50 10° 20%": (27.6, 27.6, 22.9),
}
MODES = ("legacy", "correct", "oriented")


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(shared("reference_dualposenet/golden_eval.npz"), allow_pickle=False) as content:
        return dict(content)


@pytest.fixture(scope="module")
def folder(golden, tmp_path_factory) -> Path:
    """The golden images as result files."""
    made = tmp_path_factory.mktemp("results")
    for image in range(30):
        true, found = golden["in/gt_image"] == image, golden["in/pred_image"] == image
        write(made, image, *arrays(golden, "gt", true), *arrays(golden, "pred", found))
    return made


def arrays(golden: dict[str, np.ndarray], kind: str, rows: np.ndarray) -> list[np.ndarray]:
    last = {"gt": "handle_visibility", "pred": "scores"}[kind]
    return [golden[f"in/{kind}_{name}"][rows] for name in ("class_ids", "RTs", "scales", last)]


def write(
    folder: Path, image: int, classes, RTs, scales, visible, found, found_RTs, found_scales, scores
) -> None:
    truths = Truths(classes, np.zeros((len(classes), 4)), RTs, scales, visible != 0)
    poses, boxes = Poses(found_RTs, found_scales), np.zeros((len(found), 4))
    result = ImageResult(f"data/Real/test/scene_1/{image:04d}", truths, found, boxes, scores, poses=poses)
    write_result(folder / f"results_test_scene_1_{image:04d}.pkl", result)


def one_mug(folder: Path, found_class: int = 6) -> None:
    """A mug that is found where it is, or taken for something else."""
    pose, scales = np.diag([0.1, 0.1, 0.1, 1.0])[None], np.array([[0.6, 0.64, 0.48]])
    pose[0, 2, 3] = 1
    truth = (np.array([6]), pose, scales, np.array([1]))
    write(folder, 0, *truth, np.array([found_class]), pose, scales, np.array([0.9]))


def lines_of(text: str, title: str) -> list[str]:
    """Those of the table whose first line begins so."""
    [table] = [part for part in text.split("\n\n") if title in part.splitlines()[0]]
    return table.splitlines()


def test_the_table_has_the_numbers_of_the_original(capsys, folder):
    main([str(folder)])
    title, heads, *rows = lines_of(capsys.readouterr().out, "mean average precision")
    assert title.startswith("30 images, 152 objects, 174 estimates")
    assert heads.split() == list(MODES)
    found = {row[:16].strip(): tuple(map(float, row[16:].split())) for row in rows}
    assert len(found) == 13
    for name, expected in MEANS.items():
        assert found[name] == pytest.approx(expected, abs=0.101), name  # both are rounded


@pytest.mark.parametrize("mode", MODES)
def test_each_class_has_the_numbers_of_the_original(capsys, golden, folder, mode):
    main([str(folder), "--iou_mode", mode])
    printed = capsys.readouterr().out
    _, heads, *rows = lines_of(printed, f"{mode}: average precision")
    assert heads.split()[:3] == ["IoU25", "IoU50", "IoU75"]
    assert len(rows) == 7  # the last one has the means
    for class_id, row in enumerate(rows, start=1):
        values = [float(value) for value in row[16:].split()]
        expected = [*golden[f"{mode}/iou"][class_id, 1:], *golden[f"{mode}/pose"][class_id, :2, :2].flat]
        assert values[:7] == pytest.approx([100 * value for value in expected], abs=0.051)
        assert values[7] == (152 if class_id == 7 else (golden["in/gt_class_ids"] == class_id).sum())
    assert all(f"{other}: average" not in printed for other in MODES if other != mode)


def test_all_numbers_go_to_a_file(folder, golden, tmp_path):
    main([str(folder), "--iou_mode", "legacy", "--out", str(tmp_path / "scores.json")])
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["mean_of_all_classes"] == scores["mean_of_present_classes"]
    bottle = scores["classes"]["bottle"]["legacy"]
    assert bottle["IoU50"] == pytest.approx(golden["legacy/iou"][1, 2], abs=1e-6)
    assert bottle["IoU50 10° 20%"] == pytest.approx(golden["legacy/combined"][1, 1, 2, 1], abs=1e-6)


@pytest.mark.parametrize(("found_class", "present", "every"), [(6, "100.0", "16.7"), (1, "0.0", "-")])
def test_absent_classes_are_no_zeros(capsys, tmp_path, found_class, present, every):
    """A bottle that is found where none is leaves the original's mean undefined."""
    one_mug(tmp_path, found_class)
    main([str(tmp_path)])
    printed = capsys.readouterr().out
    _, over, heads, *rows = lines_of(printed, "mean average precision")
    assert over.split() == ["of", "the", "1", "present", "of", "all", "six"]
    assert heads.split() == 2 * list(MODES)
    assert rows[0].split() == ["IoU25", *3 * [present], *3 * [every]]
    _, _, *classes = lines_of(printed, "legacy: average precision")
    assert [row.split()[1] for row in classes[:6]] == [*5 * ["-"], present]
    assert classes[6].split()[:4] == ["mean", "of", "1", present]
    assert "There is no bottle, no bowl, no camera, no can, no laptop:" in printed


def test_what_can_mislead_is_said(capsys, folder):
    main([str(folder), "--iou_mode", "legacy"])
    printed = capsys.readouterr().out
    assert "Papers compare in legacy alone" in printed
    assert "A stricter IoU can raise the precision of poses" in printed
    assert "There is no" not in printed


def test_every_object_is_a_case_with_the_nearest_estimate(golden, folder):
    results = read_results(folder)
    cases = find_cases(results)
    assert [case.truth for case in cases] == list(range(152))
    pairs = {tuple(pair): row for row, pair in enumerate(golden["pairs/index"].tolist())}
    taken = [case.estimate for case in cases if case.estimate is not None]
    assert len(taken) == len(set(taken))
    for case in cases:
        if case.estimate is None:
            assert case.badness == (np.inf, np.inf)
            continue
        row = pairs[case.estimate, case.truth]
        assert case.errors.iou == pytest.approx(golden["pairs/iou_oriented"][row], abs=1e-8)
        assert case.errors.centimetres == pytest.approx(golden["pairs/degree_cm"][row, 1], abs=1e-6)


def test_typical_errors_are_those_of_the_cases(capsys, folder, tmp_path):
    main([str(folder), "--out", str(tmp_path / "scores.json")])
    errors = json.loads((tmp_path / "scores.json").read_text())["errors"]
    found = [case.errors for case in find_cases(read_results(folder)) if case.errors is not None]
    assert errors["objects"] == len(found)
    assert errors["median"]["degrees"] == pytest.approx(np.median([each.degrees for each in found]))
    assert errors["mean"]["centimetres"] == pytest.approx(np.mean([each.centimetres for each in found]))
    assert f"Errors of {len(found)} objects with an estimate: median" in capsys.readouterr().out
    one_mug(tmp_path)
    main([str(tmp_path)])
    assert "median 0.00 degrees, 0.00 cm, oriented IoU 100.0 %" in capsys.readouterr().out


def detections_alone(folder: Path) -> None:
    truths = Truths(*(np.zeros((0, *shape)) for shape in ((), (4,), (4, 4), (3,), ())))
    nothing = np.zeros(0, int), np.zeros((0, 4)), np.zeros(0)
    write_result(folder / "results_a.pkl", ImageResult("data/Real/test/scene_1/0000", truths, *nothing))


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda folder: None, "has no results, *.pkl"),
        (detections_alone, "has no pred_RTs: name the folder of results"),
        (lambda folder: (folder / "a.pkl").write_bytes(b"x"), "a.pkl is truncated or no pickle"),
    ],
)
def test_other_folders_are_refused_in_one_line(capsys, tmp_path, make, problem):
    make(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path)])
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert problem in line


def test_an_image_without_objects_or_estimates_counts(capsys, tmp_path):
    nothing = [np.zeros((0, *shape)) for shape in ((), (4, 4), (3,), ())]
    write(tmp_path, 0, *nothing, *nothing)
    one_mug(tmp_path)
    write(tmp_path, 1, *nothing, *nothing)
    main([str(tmp_path)])
    assert "2 images, 1 objects, 1 estimates" in capsys.readouterr().out
