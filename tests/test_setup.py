"""What `make setup` says on a machine without the Python that it needs, and what it installs."""

import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest

from tests.imports import imported
from tests.shared import ROOT

# Old: the version check fails; bare: Debian's python3 without python3-venv, where ensurepip is missing.
PYTHONS = {"old": "exit 1", "bare": "echo No module named ensurepip >&2; exit 1", "absent": None}


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("kind", PYTHONS)
def test_an_unfit_python_is_one_line_with_the_remedy(tmp_path, kind):
    python = tmp_path / "python3"
    if PYTHONS[kind] is not None:
        python.write_text(f"#!/bin/sh\n{PYTHONS[kind]}\n")
        python.chmod(0o755)
    command = ["make", "--no-print-directory", "setup", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode != 0
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("make")]
    assert line.startswith(f"error: {python} is not Python 3.11") and "apt-get install python3-venv" in line
    assert ended.stdout == "" and not (tmp_path / "venv").exists()


def test_requirements_name_whatever_is_imported():
    lines = (ROOT / "requirements.txt").read_text().lower().splitlines()
    required = {line.split("==")[0] for line in lines if "==" in line} | {"pyyaml"}  # of omegaconf
    folders = ("utils", "model", "datasets", "rendering", "evaluation", "data")
    files = [*ROOT.glob("*.py"), *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    distributions = packages_distributions()
    for name in sorted({name for path in files for name in imported(path)} - sys.stdlib_module_names):
        if name in distributions:
            assert required & {found.lower() for found in distributions[name]}, name
