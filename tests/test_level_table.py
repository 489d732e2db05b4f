"""The table of the three levels holds what their runs' scores.json hold, and what is not known is a dash."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import levels
from picopose.datasets.bop.side_file import read_details
from picopose.evaluation.scoring import score_csv
from picopose.utils.config import LEVELS
from tests import scored_set
from tests.shared import ROOT
from tests.small_bop import dump, load, write_set

SMALL = ["model.backbone=resnet10t", "model.pretrained=null", "model.deep=true", "model.size=64"]
SMALL += ["model.dpt_channels=[32,32,32]", "model.features=32", "model.width=32"]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def annotated_set(data_dir: Path) -> None:
    folder = write_set(data_dir)
    scene = folder / "test" / "000001"
    truths = load(scene / "scene_gt.json")
    dump(scene / "scene_gt_info.json", {key: [{"visib_fract": 1.0}] * len(of) for key, of in truths.items()})
    shutil.copytree(folder / "models", folder / "models_eval")


def test_three_levels_are_run_and_tabulated(monkeypatch, capsys, tmp_path):
    annotated_set(tmp_path)
    log_dir = tmp_path / "log"
    left = log_dir / "toy" / "picopose_lite_id1" / "toy_journal" / "rank0.jsonl"  # by other weights
    left.parent.mkdir(parents=True)
    left.write_text('{"fingerprint": {"checkpoint": "other"}}\n{"scene_id": 1, "im_id": 3}\n')
    flags = [
        "--datasets",
        "toy",
        "--gpus",
        "cpu",
        "--hypotheses",
        "2",
        "--log_dir",
        str(log_dir),
        "--by_object",
    ]
    monkeypatch.chdir(ROOT)
    given = [f"test_dataset.data_dir={tmp_path}", "test.views=42", *SMALL]
    monkeypatch.setattr(sys, "argv", ["levels", *flags, *given])
    levels.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert all(line.startswith("| ") for line in lines)
    head, *of_levels, object_head, first, second = [cells(line) for line in lines if "---" not in line]
    for number, (level, row) in enumerate(zip(LEVELS, of_levels, strict=True), start=1):
        folder = log_dir / "toy" / f"picopose_lite_id{number}"
        solved = {details.inlier_ratio > 0 for details in read_details(folder / "picopose_toy-test.json")}
        assert (True in solved) == (level == "flow")
        report = (folder / "report.html").read_text()
        assert "hypotheses: 2" in report and f"level: {level}" in report
        written = load(folder / "scores.json")["toy"]
        found = dict(zip(head, row, strict=True))
        assert (found["data set"], found["level"], found["AR_VSD"]) == ("toy", level, "-")
        for error in ("mssd", "mspd"):
            assert found[f"AR_{error.upper()}"] == f"{written[f'bop19_average_recall_{error}']:.3f}"
        assert found["s/image"] == f"{written['bop19_average_time_per_image']:.2f}"
    assert len(of_levels) == 3
    assert object_head[1:] == ["targets", "AR", "AR_VSD", "AR_MSSD", "AR_MSPD"]
    assert (first[:2], second[:2]) == (["2", "1"], ["5", "2"])


def test_what_run_test_refuses_ends_it(monkeypatch, capfd, tmp_path):
    annotated_set(tmp_path)
    monkeypatch.chdir(ROOT)
    given = ["--datasets", "toy", "--log_dir", str(tmp_path / "log"), "--checkpoint_path", "absent.pt"]
    monkeypatch.setattr(sys, "argv", ["levels", *given, f"test_dataset.data_dir={tmp_path}"])
    with pytest.raises(SystemExit) as exit_info:
        levels.main()
    assert exit_info.value.code == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "absent.pt" in line


@pytest.mark.parametrize("depth", [True, False])
def test_numbers_are_those_of_the_scores(tmp_path, depth):
    made = scored_set.write(tmp_path, depth=depth)
    scores = score_csv(made.csv, made.folder, measures=True)
    head, _, *rows = map(cells, levels.level_table([[scores] * 3]).splitlines())
    assert tuple(row[1] for row in rows) == LEVELS
    found = dict(zip(head, rows[0], strict=True))
    recalls = [scores.summary[f"bop19_average_recall_{error}"] for error in scores.errors]
    assert found["AR"] == f"{np.mean(recalls):.3f}" and 0 < np.mean(recalls) < 1
    assert found["AR_VSD"] == (f"{recalls[0]:.3f}" if depth else "-")
    overall, _ = scores.measures
    assert found["median translation"] == f"{overall.median_translation_mm:.1f} mm"
    assert found["median rotation"] == f"{overall.median_rotation_deg:.1f} deg"
    assert found["within 5 cm"] == f"{100 * overall.translation_5cm:.0f} %"


def test_the_demo_runs_it_on_the_mini_set():
    lines = (ROOT / "Makefile").read_text().replace("\\\n", " ").splitlines()
    command = lines[lines.index("demo: announce setup") + 1].split()
    assert command[1:] == ["run_test.py", "--config", "config/default.yaml", "--dataset", "mini", "--score"]
