"""The layers of the program: utils <- {model, datasets, rendering} <- evaluation, data <- entry scripts."""

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
}
OURS = {*ALLOWED, "benchmarks", "tests", "run_test", "run_train", "run_demo"}


@pytest.mark.parametrize("layer", sorted(ALLOWED))
def test_a_layer_imports_only_what_lies_below_it(layer):
    files = sorted((ROOT / layer).rglob("*.py"))
    assert files
    for path in files:
        assert imported(path) & OURS <= ALLOWED[layer], path.relative_to(ROOT)


def test_the_check_sees_imports():
    assert imported(ROOT / "run_test.py") >= {"datasets", "model", "rendering", "utils"}
