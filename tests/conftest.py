"""What several test files start from."""

import shutil

import pytest

from benchmarks.browser import open_browser


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, where it is installed."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("Debian's packages chromium and chromium-driver are not installed")
    with open_browser() as browser:
        yield browser
