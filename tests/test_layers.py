"""The layers of the program: utils <- {model, datasets, rendering} <- evaluation, data <- entry scripts."""

import ast
from pathlib import Path

import pytest

from tests.shared import ROOT

ALLOWED = {
    "utils": {"utils"},
    "model": {"utils", "model"},
    "datasets": {"utils", "datasets"},
    "rendering": {"utils", "rendering"},
    "evaluation": {"utils", "model", "datasets", "rendering", "evaluation"},
    "data": {"utils", "datasets", "rendering", "data"},
}
OURS = {*ALLOWED, "benchmarks", "tests", "run_test", "run_train", "run_demo"}


def imported(path: Path) -> set[str]:
    """Top-level names of the project that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names & OURS


@pytest.mark.parametrize("layer", sorted(ALLOWED))
def test_a_layer_imports_only_what_lies_below_it(layer):
    files = sorted((ROOT / layer).rglob("*.py"))
    assert files
    for path in files:
        assert imported(path) <= ALLOWED[layer], path.relative_to(ROOT)


def test_the_check_sees_imports():
    assert imported(ROOT / "run_test.py") >= {"datasets", "model", "rendering", "utils"}
