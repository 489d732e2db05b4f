"""A picture of a report."""

from pathlib import Path

import cv2
import numpy as np

from picopose.utils.errors import InputError
from picopose.utils.files import write_atomically
from tools.pictures.browser import open_browser


def draw(report: Path, out: Path) -> None:
    """The report's beginning, and below it its worst cases, as one JPEG."""
    if not report.is_file():
        raise InputError(f"{report} does not exist: name the report.html of a scored run")
    with open_browser() as browser:
        browser.get(report.resolve().as_uri())
        parts = [browser.get_screenshot_as_png()]
        browser.find_element("css selector", "[data-sort=mssd]").click()
        browser.execute_script("document.getElementById('cases').scrollIntoView()")
        parts.append(browser.get_screenshot_as_png())
    images = [cv2.imdecode(np.frombuffer(part, np.uint8), cv2.IMREAD_COLOR) for part in parts]
    with write_atomically(out) as temporary:
        cv2.imwrite(str(temporary), np.vstack(images), (cv2.IMWRITE_JPEG_QUALITY, 80))
