"""Options are read, and --help answered, before anything is imported that takes long."""

import os
import subprocess
import sys

import pytest

from picopose.__main__ import COMMANDS
from tests.shared import ROOT

HEAVY = {"cv2", "numpy", "scipy", "timm", "torch", "trimesh"}
HELP = """
import runpy, sys
sys.argv = sys.argv[1:] + ["--help"]
try:
    if sys.argv[0].endswith(".py"):
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(sys.argv[0], run_name="__main__")
finally:
    print(*sys.modules, file=sys.stderr)
"""


def helped(*command: str, folder=ROOT) -> tuple[str, set[str]]:
    """What --help prints, and the modules that were imported for it."""
    told = subprocess.run(
        [sys.executable, "-c", HELP, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout, set(told.stderr.split())


@pytest.mark.parametrize("script", ["run_test.py", "run_train.py", "run_demo.py"])
def test_scripts_help_without_loading_libraries(script):
    text, modules = helped(script)
    assert text.startswith(f"usage: {script}") and not modules & HEAVY


def test_all_commands_are_listed():
    text, modules = helped("picopose")
    assert not modules & HEAVY
    for name, (_, what) in COMMANDS.items():
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [name]]
        assert line.split(maxsplit=1)[1] == what


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_help_without_loading_libraries(name, tmp_path):
    text, modules = helped("picopose", name, folder=tmp_path)
    assert text.startswith(f"usage: picopose {name}") and not modules & HEAVY


def test_an_unknown_command_is_refused():
    ended = subprocess.run(
        [sys.executable, "-m", "picopose", "tests"], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 2 and "choose from 'demo', 'test'" in ended.stderr
