"""The page of the demo: driven in a browser with the shipped weights, and asked by strangers."""

import http.client
import io
import json
import re
import shutil
import threading

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import ActionChains
from selenium.webdriver.support.ui import Select, WebDriverWait

from benchmarks.browser import open_browser
from demo import server, uploads
from tests import shipped
from tests.shared import ROOT
from utils.errors import InputError

MINI = ROOT / "data" / "mini"
PHOTO = MINI / "test" / "000001" / "rgb" / "000000.jpg"
MESH = [MINI / "models" / f"obj_000002.{suffix}" for suffix in ("ply", "png")]
BOX = 333, 232, 485, 386
POSITION = 90.4, 78.4, 667.7  # mm, as scene_gt.json has it
SECONDS = 60  # that templates may take on a busy machine


@pytest.fixture(scope="module")
def address():
    with server.make_page(shipped.estimator(), "127.0.0.1", 0) as page:
        thread = threading.Thread(target=page.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{page.port}/"
        page.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser():
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("Debian's packages chromium and chromium-driver are not installed")
    with open_browser() as browser:
        yield browser


def choose(browser, name: str, *files) -> None:
    browser.find_element("name", name).send_keys("\n".join(map(str, files)))


def open_with_photo(browser, address: str, width: int = 1280) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(address)
    choose(browser, "photo", PHOTO)
    WebDriverWait(browser, SECONDS).until(lambda b: b.find_element("id", "photo").is_displayed())


def draw(browser, box) -> None:
    """Drags the mouse from one corner of a box (4,) px to the other."""
    photo = browser.find_element("id", "photo")
    scale = photo.size["width"] / 640
    left, top, right, bottom = np.round(scale * (np.array(box) - (320, 240, 320, 240))).astype(int).tolist()
    drag = ActionChains(browser).move_to_element_with_offset(photo, left, top).click_and_hold()
    drag.move_by_offset(right - left, bottom - top).release().perform()


def calibrate(browser) -> None:
    browser.find_element("css selector", "[name=camera][value=K]").click()
    for name, value in zip(("fx", "fy", "cx", "cy"), (612.3, 611.8, 319.6, 241.7), strict=True):
        browser.find_element("name", name).send_keys(str(value))


def find(browser) -> str:
    """Asks for the pose; returns the message of an error, if there is one."""
    browser.find_element("id", "find").click()
    WebDriverWait(browser, SECONDS).until(lambda b: b.find_element("id", "find").is_enabled())
    return browser.find_element("id", "error").text


def test_a_pose_from_photo_mesh_and_box(browser, address):
    open_with_photo(browser, address)
    choose(browser, "mesh", *MESH)
    draw(browser, BOX)
    drawn = [float(browser.find_element("name", n).get_attribute("value")) for n in uploads.SIDES]
    assert np.abs(np.subtract(drawn, BOX)).max() <= 2
    calibrate(browser)
    assert find(browser) == ""
    assert browser.find_element("id", "result").is_displayed()
    position = [float(v) for v in browser.find_element("id", "position").text.removesuffix(" mm").split()]
    assert np.linalg.norm(np.subtract(position, POSITION)) < 30  # mm, at 677
    assert browser.find_element("id", "size").text == "diameter 237 mm, read as mm"
    natural = (
        "return [...document.querySelectorAll('figure img')].map(i => [i.naturalWidth, i.naturalHeight])"
    )
    overlay, matches = browser.execute_script(natural)
    assert overlay == [640, 480] and matches[1] == 480
    for link in browser.find_elements("css selector", ".downloads a"):
        assert link.get_attribute("href").startswith("blob:")
    assert browser.get_log("browser") == []


def test_wrong_files_get_readable_messages(browser, address, tmp_path):
    browser.get(address)
    assert find(browser) == "Choose a photo first"
    text = tmp_path / "notes.jpg"
    text.write_text("not a picture")
    choose(browser, "photo", text)
    WebDriverWait(browser, SECONDS).until(lambda b: b.find_element("id", "error").text)
    assert browser.find_element("id", "error").text.startswith("notes.jpg is no picture")
    open_with_photo(browser, address)
    assert find(browser) == "Choose a mesh of the object first"
    mesh = tmp_path / "mug.ply"
    mesh.write_text("not a mesh")
    choose(browser, "mesh", mesh)
    assert find(browser) == "Draw a box about the object on the photo"
    draw(browser, BOX)
    assert find(browser).startswith("000000.jpg states no focal length (EXIF)")
    calibrate(browser)
    assert re.match(r"mug\.ply cannot be read as a mesh \(.*\): export it again", find(browser))
    assert not browser.find_element("id", "result").is_displayed()
    large = tmp_path / "large.stl"
    with open(large, "wb") as file:
        file.truncate(uploads.MAX_BYTES)
    browser.execute_script("document.querySelector('[name=mesh]').value = ''")
    choose(browser, "mesh", large)
    assert find(browser) == "The files have 64 MB together: choose smaller ones, 64 MB at the most"


def test_it_fits_a_phone(browser, address):
    open_with_photo(browser, address, width=390)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    browser.find_element("css selector", "[name=camera][value=fov]").click()
    assert browser.find_element("name", "fov").is_displayed()
    assert not browser.find_element("name", "fx").is_displayed()
    Select(browser.find_element("name", "unit")).select_by_visible_text("cm")
    names = browser.execute_script(
        "return [...document.querySelectorAll('input, select, img')]"
        ".filter(e => !(e.alt || e.labels?.length)).length"
    )
    assert names == 0


@pytest.fixture(scope="module")
def client():
    return server.make_app(shipped.estimator()).test_client()


def ask(client, mesh="mug.ply", content=b"ply", photo=None, **form) -> list[dict]:
    picture = io.BytesIO()
    Image.new("RGB", (64, 48)).save(picture, "PNG")
    photo = picture.getvalue() if photo is None else photo
    fields = dict(zip(uploads.SIDES, ["1", "1", "30", "30"], strict=True)) | {"camera": "fov", "fov": "60"}
    files = {"photo": (io.BytesIO(photo), "photo.png"), "mesh": (io.BytesIO(content), mesh)}
    answer = client.post("/pose", data=fields | form | files)
    return [json.loads(line) for line in answer.text.splitlines()]


def picture(size, kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("1" if kind == "PNG" else "RGB", size).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"photo": b"GIF89a"}, "photo.png is no picture that can be read: choose a JPEG or PNG file"),
        ({"photo": picture((9, 9), "EPS")}, "photo.png is no picture that can be read"),
        ({"photo": picture((8000, 8000), "PNG")}, "photo.png has more than 50 million pixels"),
        ({"mesh": "mug.exe"}, "mug.exe: choose one mesh"),
        ({"mesh": ".ply"}, "'.ply' is no name for a file: rename it"),
        ({"mesh": "../../../mug.ply"}, "mug.ply cannot be read as a mesh"),
        ({"left": "x"}, "left 'x' is no number: correct it"),
        ({"left": "40"}, "box 40 1 30 30: nothing of 64x48 px"),
        ({"fov": "200"}, "fov 200: give the photo's horizontal field of view"),
        ({"unit": "mile"}, "unit 'mile': choose one of"),
    ],
)
def test_what_is_sent_is_checked(client, asked, message):
    content = b"solid" if "unit" not in asked else (MINI / "models" / "obj_000004.ply").read_bytes()
    last = ask(client, content=content, **asked)[-1]
    assert message in last["error"]
    assert "/tmp" not in last["error"] and "--" not in last["error"]


def test_uploads_leave_nothing_behind(client, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ask(client)
    ask(client, photo=b"")
    assert list(tmp_path.iterdir()) == []


def test_what_is_too_large_is_refused_before_it_is_read(address):
    connection = http.client.HTTPConnection(address.split("/")[2], timeout=SECONDS)
    connection.putrequest("POST", "/pose")
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.putheader("Content-Length", str(2 * uploads.MAX_BYTES))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["error"] == "the files are too large: 64 MB together are the limit"
    connection.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:7860"}, 200),
        ({"Host": "[::1]:7860"}, 200),
        ({"Host": "rebound.example"}, 403),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost"}, 200),
    ],
)
def test_other_sites_may_not_ask(client, headers, status):
    answer = client.get("/", headers=headers)
    assert answer.status_code == status
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_the_page_needs_nothing_from_elsewhere(client):
    for name in ("", "page/page.css", "page/page.js"):
        text = client.get(f"/{name}").text
        assert text and not re.search(r"https?://|@import|url\(", text)


def test_a_port_that_is_taken(address):
    port = int(address.rstrip("/").rsplit(":", 1)[1])
    with pytest.raises(InputError, match=f"--port {port}: cannot be had"):
        server.make_page(shipped.estimator(), "127.0.0.1", port)
