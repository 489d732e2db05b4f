"""What several test files start from."""

import os
import shutil
from pathlib import Path

import pytest
import torch
import torchvision  # noqa: F401 (its compiler and Mesa's crash if the latter is loaded first)

from picopose.utils.device import keep_freed_memory
from tests.small_bop import write_set
from tools.pictures.browser import open_browser

# Tests run side by side, and some start programs: with a thread for each, none waits for another's.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
keep_freed_memory()  # as the programs do; a fifth of what networks take


@pytest.fixture(autouse=True)
def one_thread():
    """Also after a test of training, which has a number of its own."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, where it is installed."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("Debian's packages chromium and chromium-driver are not installed")
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    """A data folder with the set `toy` in it."""
    folder = tmp_path_factory.mktemp("data")
    write_set(folder)
    return folder


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory) -> Path:
    """Shared by the tests, so that what is prepared for objects is made once."""
    return tmp_path_factory.mktemp("log")


@pytest.fixture(scope="module")
def meshes(tmp_path_factory) -> Path:
    """A folder with a box and a cone."""
    from tests.box_and_cone import write_meshes  # imports the whole estimator, which few test files need

    folder = tmp_path_factory.mktemp("meshes")
    write_meshes(folder)
    return folder


@pytest.fixture(scope="module")
def estimator(meshes: Path):
    """Knows the box and the cone; its weights are random, so where it finds them has no meaning."""
    from tests.box_and_cone import make_estimator

    return make_estimator(meshes)
