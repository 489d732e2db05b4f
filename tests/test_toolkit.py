"""The official toolkit as the scorer: how it is called, and, where it is installed, that both agree."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.scoring import make_dataset
from picopose.commands.score import main
from picopose.evaluation.scoring import score_csv
from picopose.evaluation.toolkit import run_toolkit, toolkit_dir
from picopose.utils.errors import InputError
from tests import scored_set

# Stands in for the toolkit's script: writes what it was given where the toolkit writes its scores.
SCRIPT = """
import json, os, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if "fail" in options["--result_filenames"]:
    sys.exit("no such data set")
name = options["--result_filenames"].removesuffix(".csv")
folder = os.path.join(options["--eval_path"], name)
os.makedirs(folder)
found = os.path.isfile(os.path.join(options["--results_path"], options["--result_filenames"]))
found = found and os.path.isfile(os.path.join(os.environ["BOP_PATH"], "toy", options["--targets_filename"]))
with open(os.path.join(folder, "scores_bop19.json"), "w") as file:
    json.dump({"bop19_average_recall": 0.25 if found else 0.0}, file)
"""


@pytest.fixture
def fake_toolkit(tmp_path, monkeypatch) -> Path:
    root = tmp_path / "checkout"
    for folder, name, text in (("bop_toolkit_lib", "__init__", ""), ("scripts", "eval_bop19_pose", SCRIPT)):
        (root / folder).mkdir(parents=True)
        (root / folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(root))
    return root


def test_the_toolkit_is_found_and_called(fake_toolkit, tmp_path, capsys):
    toy, out = scored_set.write(tmp_path, depth=False), tmp_path / "scores.json"
    assert toolkit_dir() == fake_toolkit
    options = ["--csv", str(toy.csv), "--dataset_dir", str(toy.folder), "--out", str(out)]
    main([*options, "--scorer", "bop_toolkit"])
    assert json.loads(out.read_text()) == {"bop19_average_recall": 0.25}
    assert "0.2500" in capsys.readouterr().out


def test_its_failure_is_one_line(fake_toolkit, tmp_path):
    with pytest.raises(InputError, match=r"failed on .*no such data set$"):
        run_toolkit(tmp_path / "fail_toy-test.csv", tmp_path / "toy")


def test_options_of_the_other_scorer_are_refused(fake_toolkit, capsys):
    with pytest.raises(SystemExit):
        main(["--csv", "a", "--dataset_dir", "b", "--scorer", "bop_toolkit", "--errors", "mssd"])
    assert "need --scorer builtin" in capsys.readouterr().err


def test_its_absence_is_explained(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(InputError, match="no checkout of bop_toolkit is installed"):
        run_toolkit(tmp_path / "a_toy-test.csv", tmp_path)


@pytest.mark.skipif(toolkit_dir() is None, reason="bop_toolkit is not installed")
def test_both_scorers_agree(tmp_path):
    csv = make_dataset(tmp_path, 500, n_images=6)
    official, ours = run_toolkit(csv, csv.parent / "lmo"), score_csv(csv, csv.parent / "lmo").summary
    for key in ("bop19_average_recall_mssd", "bop19_average_recall_mspd"):
        assert ours[key] == pytest.approx(official[key], abs=1e-12)
    assert ours["bop19_average_recall_vsd"] == pytest.approx(official["bop19_average_recall_vsd"], abs=5e-4)
