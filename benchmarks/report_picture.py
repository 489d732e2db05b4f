"""A picture of a report: `python -m benchmarks.report_picture RUN/report.html --out docs/report.jpg`."""

import argparse
from pathlib import Path

import cv2
import numpy as np

from benchmarks.browser import open_browser
from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.files import write_atomically


def photograph(page: Path, picture: Path) -> None:
    """The report's beginning, and below it its worst cases, as one JPEG."""
    with open_browser() as browser:
        browser.get(page.resolve().as_uri())
        parts = [browser.get_screenshot_as_png()]
        browser.find_element("css selector", "[data-sort=mssd]").click()
        browser.execute_script("document.getElementById('cases').scrollIntoView()")
        parts.append(browser.get_screenshot_as_png())
    images = [cv2.imdecode(np.frombuffer(part, np.uint8), cv2.IMREAD_COLOR) for part in parts]
    with write_atomically(picture) as temporary:
        cv2.imwrite(str(temporary), np.vstack(images), (cv2.IMWRITE_JPEG_QUALITY, 80))


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, help="report.html, as run_test.py writes it")
    parser.add_argument("--out", type=Path, required=True, help="JPEG")
    options = parser.parse_args()
    if not options.report.is_file():
        raise InputError(f"{options.report} does not exist: name the report.html of a scored run")
    photograph(options.report, options.out)


if __name__ == "__main__":
    main()
