"""What `make setup` says without the Python that it needs; what it installs, and where that is tested."""

import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
import yaml
from packaging.requirements import Requirement

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
    folders = ("utils", "model", "datasets", "rendering", "pipeline", "evaluation", "demo", "picopose")
    files = [*ROOT.glob("*.py"), *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    brought_along = {"pyyaml": None, "werkzeug": None, "triton": None}  # by omegaconf, flask and torch
    distributions, required = packages_distributions(), pinned() | brought_along
    ours = {"picopose", *sys.stdlib_module_names}
    for name in sorted({name for path in files for name in imported(path)} - ours):
        if name in distributions:
            assert required.keys() & {found.lower() for found in distributions[name]}, name


def test_the_pinned_versions_are_among_those_that_an_installation_accepts():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    accepted = {found.name: found.specifier for found in map(Requirement, project["dependencies"])}
    assert pinned().keys() - accepted.keys() == {"torchvision", "glcontext"}  # of timm and of moderngl
    for name, versions in accepted.items():
        assert pinned()[name] in versions, name


def test_the_workflow_runs_the_tests_from_the_oldest_python_on():
    (job,) = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"].values()
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert required == f">={job['strategy']['matrix']['python'][0]}"
    (script,) = (step["run"] for step in job["steps"] if "run" in step)
    assert os.access(ROOT / script, os.X_OK)


def pinned() -> dict[str, str]:
    """Versions by package, of requirements.txt."""
    lines = (ROOT / "requirements.txt").read_text().lower().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)
