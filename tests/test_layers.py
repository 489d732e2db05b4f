"""The layers of the program: utils <- {model, datasets, rendering} <- evaluation, data <- entry scripts."""

from pathlib import Path

import pytest

from tests.imports import imported
from tests.shared import ROOT

ALLOWED = {
    "utils": {"utils"},
    "model": {"utils", "model"},
    "datasets": {"utils", "datasets"},
    "rendering": {"utils", "rendering"},
    "evaluation": {"utils", "model", "datasets", "rendering", "evaluation"},
    "data": {"utils", "datasets", "rendering", "data"},
    "demo": {"utils", "model", "datasets", "rendering", "demo"},
}
# The estimator is the program as a library: it joins the three layers that do not know one another, and none
# of their other modules imports it.
ABOVE = {"model/estimator.py": {"utils", "model", "datasets", "rendering"}}
OURS = {*ALLOWED, "benchmarks", "tests", "run_test", "run_train", "run_demo"}


@pytest.mark.parametrize("layer", sorted(ALLOWED))
def test_a_layer_imports_only_what_lies_below_it(layer):
    files = sorted((ROOT / layer).rglob("*.py"))
    assert files
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        assert imported(path) & OURS <= ABOVE.get(name, ALLOWED[layer]), name


@pytest.mark.parametrize("layer", ["utils", "model", "datasets", "rendering", "evaluation"])
def test_nothing_below_imports_what_stands_above(layer):
    for path in (ROOT / layer).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not any(
            f"import {Path(name).stem}" in text or f"{Path(name).stem} import" in text for name in ABOVE
        )


def test_the_check_sees_imports():
    assert imported(ROOT / "run_train.py") >= {"datasets", "model", "rendering", "utils"}
