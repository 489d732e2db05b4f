"""The layers of the program: what lies in a folder imports only what lies below it."""

import pytest

from tests.imports import imported, modules
from tests.shared import ROOT

# utils <- {datasets, rendering} <- model <- pipeline <- {evaluation, demo} <- programs
BELOW = {
    "utils": set(),
    "datasets": {"utils"},
    "rendering": {"utils"},
    "model": {"utils", "datasets", "rendering"},
    "pipeline": {"utils", "datasets", "rendering", "model"},
    "evaluation": {"utils", "datasets", "rendering", "model", "pipeline"},
    "demo": {"utils", "datasets", "rendering", "model", "pipeline"},
}
METHODS = ("picopose", "rendermatch", "rnnpose", "dualposenet")
TOP = {"benchmarks", "tests", "tools", "run_test", "run_train", "run_demo", "hubconf"}


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_only_what_lies_below_it(room):
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        assert not imported(path) & (TOP | BELOW.keys()), f"{path}: import it as picopose...."
        ours = {name.split(".")[1] for name in modules(path) if name.startswith("picopose.")}
        assert ours <= BELOW[room] | {room}, path


@pytest.mark.parametrize("method", METHODS)
def test_methods_do_not_know_one_another(method):
    """What two of them need stands beside them; the default's networks serve refiner and judge."""
    others = tuple(f"picopose.model.{other}" for other in METHODS if other != method)
    for path in sorted((ROOT / "model" / method).rglob("*.py")):
        assert not {name for name in modules(path) if name.startswith(others)}, path


def test_the_check_sees_imports():
    assert modules(ROOT / "run_test.py") >= {"argparse", "picopose.model.methods.make_stages"}
    assert imported(ROOT / "run_test.py") >= {"argparse", "picopose"}
