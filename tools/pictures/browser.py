"""Opens pages in headless Chromium, to test them and to photograph them.

Needs Debian's packages chromium and chromium-driver.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from selenium import webdriver

from picopose.utils.errors import InputError

_SWITCHES = (
    "headless=new",
    "no-sandbox",
    "disable-gpu",
    "disable-dev-shm-usage",
    "disable-background-networking",
    "disable-sync",
    "no-first-run",
    "hide-scrollbars",
    "window-size=1280,900",
)


@contextmanager
def open_browser() -> Iterator[webdriver.Chrome]:
    """A browser with an empty profile; an `InputError` where Chromium or its driver is missing."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        raise InputError("chromium not found: install Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for switch in (*_SWITCHES, f"user-data-dir={profile}"):
            options.add_argument(f"--{switch}")
        # The driver's path is given, so that selenium does not download one.
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
        try:
            yield browser
        finally:
            browser.quit()
