"""The notebook runs from top to bottom, without Jupyter, and finds the pose that the mini set has."""

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest

from picopose.pipeline import estimator
from tests import shipped
from tests.shared import ROOT

NOTEBOOK = ROOT / "examples" / "first_pose.ipynb"


def cells() -> list[dict]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def run(source: str, names: dict) -> object:
    """Executes a cell; what its last line is worth, as Jupyter shows it, or None."""
    *before, last = ast.parse(source).body
    if not isinstance(last, ast.Expr):
        before, last = [*before, last], None
    exec(compile(ast.Module(before, []), str(NOTEBOOK), "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)


@pytest.mark.parametrize("folder", [ROOT, ROOT / "examples"], ids=["checkout", "examples"])
def test_it_finds_its_files_from(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.path", [])
    names = {}
    run("".join(next(cell["source"] for cell in cells() if cell["cell_type"] == "code")), names)
    assert names["ROOT"] == ROOT


def test_it_shows_a_right_pose(monkeypatch, capsys):
    monkeypatch.chdir(NOTEBOOK.parent)
    monkeypatch.setattr(estimator, "cache_dir", lambda: Path(shipped.log_dir().name))
    names, shown = {}, []
    for cell in cells():
        if cell["cell_type"] == "code":
            shown.append(run("".join(cell["source"]), names))
    marked, overlay, matches = (picture for picture in shown if hasattr(picture, "getpixel"))
    photo = np.asarray(names["photo"])
    for picture in (marked, overlay):
        changed = (np.asarray(picture) != photo).any(axis=-1)
        assert 0.005 < changed.mean() < 0.2  # lines, about the object
        left, top, right, bottom = names["box"]
        assert changed[top - 30 : bottom + 30, left - 60 : right + 60].sum() > 0.9 * changed.sum()
    assert matches.height == 480 and np.ptp(np.asarray(matches)) > 200
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"cereal box at .* m: good, \d+ % sure", said[0])
    degrees, millimetres = map(float, re.findall(r"[\d.]+", said[-1])[:2])
    assert degrees < 2 and millimetres < 10


def test_it_is_stored_without_results():
    for cell in cells():
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
