"""Drives the demo's page in headless Chromium, to test it and to photograph it."""

import io
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from picopose.demo.server import make_page
from picopose.pipeline.estimator import PoseEstimator
from picopose.utils.files import write_atomically
from tools.pictures.browser import open_browser

MINI = Path(__file__).resolve().parents[2] / "data" / "mini"
PHOTO = MINI / "test" / "000001" / "rgb" / "000000.jpg"
MESH = [MINI / "models" / f"obj_000002.{suffix}" for suffix in ("ply", "png")]
CAMERA = {"fx": 612.3, "fy": 611.8, "cx": 319.6, "cy": 241.7}
BOX = 333, 232, 485, 386
SECONDS = 120  # that an answer may take on a busy machine
WIDTH = 1280


@contextmanager
def running_page(estimator: PoseEstimator) -> Iterator[str]:
    """The page's address while it is served from another thread."""
    with make_page(estimator, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.port}/"
        finally:
            server.shutdown()
            thread.join()


class PageDriver:
    """The page in a browser, used as people use it."""

    def __init__(self, browser: Chrome, address: str, *, width: int = WIDTH):
        self.browser = browser
        self.resize(width, 900)
        browser.get(address)

    def resize(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def element(self, name: str) -> WebElement:
        return self.browser.find_element("id", name)

    def field(self, name: str) -> WebElement:
        return self.browser.find_element("name", name)

    @property
    def error(self) -> str:
        return self.element("error").text

    def wait(self, condition) -> None:
        WebDriverWait(self.browser, SECONDS).until(lambda _: condition())

    def choose_photo(self, path: Path) -> None:
        """Returns when the photo is shown, or an error in its place."""
        self.field("photo").send_keys(str(path))
        self.wait(lambda: self.element("photo").is_displayed() or self.error)

    def choose_mesh(self, *paths: Path) -> None:
        self.browser.execute_script("document.querySelector('[name=mesh]').value = ''")
        self.field("mesh").send_keys("\n".join(map(str, paths)))

    def calibrate(self, camera: dict[str, float]) -> None:
        self.browser.find_element("css selector", "[name=camera][value=K]").click()
        for name, value in camera.items():
            self.field(name).send_keys(str(value))

    def draw(self, box: Sequence[float]) -> None:
        """Drags the mouse from one corner of a box (4,) px to the other."""
        photo = self.element("photo")
        size = self.browser.execute_script(
            "return [arguments[0].naturalWidth, arguments[0].naturalHeight]", photo
        )
        scale = photo.size["width"] / size[0]
        offset = np.round(scale * (np.array(box) - np.tile(size, 2) / 2)).astype(int).tolist()
        drag = ActionChains(self.browser).move_to_element_with_offset(photo, *offset[:2]).click_and_hold()
        drag.move_by_offset(offset[2] - offset[0], offset[3] - offset[1]).release().perform()

    def find(self) -> None:
        """Asks for the pose and waits until the answer is there, a pose or an error."""
        self.element("find").click()
        self.wait(self.element("find").is_enabled)

    def picture(self) -> Image.Image:
        """The whole page, from top to bottom."""
        height = self.browser.execute_script("return document.documentElement.scrollHeight")
        self.resize(WIDTH, height)
        self.browser.execute_script("scrollTo(0, 0)")
        time.sleep(1)  # for a scroll that is under way
        return Image.open(io.BytesIO(self.browser.get_screenshot_as_png())).convert("RGB")


def draw(out: Path) -> None:
    """Finds the cereal box in a photo of the mini set."""
    with running_page(PoseEstimator()) as address, open_browser() as browser:
        page = PageDriver(browser, address)
        page.choose_photo(PHOTO)
        page.choose_mesh(*MESH)
        page.calibrate(CAMERA)
        page.draw(BOX)
        page.find()
        picture = page.picture()
    picture.thumbnail((1000, 4000), Image.Resampling.LANCZOS)
    with write_atomically(out) as temporary:
        picture.save(temporary, quality=82)
