"""The page of the demo: driven in a browser with the default method, and asked by strangers."""

import http.client
import io
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from picopose.demo import server, uploads
from picopose.pipeline.estimator import PoseEstimator
from picopose.utils.config import Config
from picopose.utils.errors import InputError
from tests import shipped
from tests.contrast import colours, contrast, luminance
from tests.shared import ROOT
from tools.pictures.page import BOX, CAMERA, MESH, MINI, PHOTO, PageDriver, running_page

POSITION = 90.4, 78.4, 667.7  # mm, of the cereal box, as scene_gt.json has it


@pytest.fixture(scope="module")
def address():
    with running_page(shipped.estimator(views=162)) as address:  # as users have it: the pose must be right
        yield address


def test_a_pose_from_photo_mesh_and_box(browser, address):
    page = PageDriver(browser, address)
    page.choose_photo(PHOTO)
    page.choose_mesh(*MESH)
    page.calibrate(CAMERA)
    page.draw(BOX)
    drawn = [float(page.field(side).get_attribute("value")) for side in uploads.SIDES]
    assert np.abs(np.subtract(drawn, BOX)).max() <= 2
    page.find()
    assert page.error == ""
    assert page.element("result").is_displayed()
    position = [float(value) for value in page.element("position").text.removesuffix(" mm").split()]
    assert np.linalg.norm(np.subtract(position, POSITION)) < 10
    assert re.fullmatch(r"good, \d+ % sure", page.element("verdict").text)
    assert page.element("verdict").get_attribute("data-verdict") == "good"
    assert page.element("size").text == "diameter 237 mm, read as mm"
    heights = "return [...document.querySelectorAll('figure img')].map(image => image.naturalHeight)"
    assert browser.execute_script(heights) == [480, 480]  # the overlay and the matches
    for link in browser.find_elements("css selector", ".downloads a"):
        assert link.get_attribute("href").startswith("blob:")
    assert browser.get_log("browser") == []


def test_every_verdict_has_a_colour_that_can_be_read(browser, address):
    page = PageDriver(browser, address)
    script = "$('verdict').dataset.verdict = arguments[0]; $('result').hidden = false"
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        plain, ground = colours(browser, "#size")
        assert (luminance(ground) < 0.05) == (scheme == "dark")
        inks = [plain]
        for word in ("good", "doubtful", "wrong"):
            browser.execute_script(script, word)
            assert page.element("verdict").value_of_css_property("font-weight") == "600"
            ink, ground = colours(browser, "#verdict")
            assert contrast(ink, ground) >= 4.5, (scheme, word)
            inks.append(ink)
        assert len(set(inks)) == 4


def test_wrong_files_get_readable_messages(browser, address, tmp_path):
    page = PageDriver(browser, address)
    page.find()
    assert page.error == "Choose a photo first"
    text = tmp_path / "notes.jpg"
    text.write_text("not a picture")
    page.choose_photo(text)
    page.wait(lambda: page.error.startswith("notes.jpg is no picture"))
    page.choose_photo(PHOTO)
    page.find()
    assert page.error == "Choose a mesh of the object first"
    mesh = tmp_path / "mug.ply"
    mesh.write_text("not a mesh")
    page.choose_mesh(mesh)
    page.field("left").send_keys("10")
    page.find()
    assert page.error == "Draw a box around the object on the photo"
    page.draw(BOX)
    page.find()
    assert page.error.startswith("000000.jpg states no focal length (EXIF)")
    page.calibrate(CAMERA)
    page.find()
    assert re.fullmatch(r"mug\.ply cannot be read as a mesh \(.*\): export it again", page.error)
    assert not page.element("result").is_displayed()
    large = tmp_path / "large.stl"
    with open(large, "wb") as file:
        file.truncate(uploads.MAX_BYTES)
    page.choose_mesh(large)
    page.find()
    assert page.error == "The files have 64 MB together: choose smaller ones, at most 64 MB"


def test_it_fits_a_phone(browser, address):
    page = PageDriver(browser, address, width=390)
    page.choose_photo(PHOTO)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    browser.find_element("css selector", "[name=camera][value=fov]").click()
    assert page.field("fov").is_displayed() and not page.field("fx").is_displayed()
    unnamed = "input, select, img"
    script = f"return [...document.querySelectorAll('{unnamed}')].filter(e => !(e.alt || e.labels?.length))"
    assert browser.execute_script(script) == []


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
        ({"photo": b"\0\0\0\x24ftypheic" + bytes(99)}, "photo.png is a HEIC photo: convert it to JPEG"),
        ({"photo": picture((9, 9), "EPS")}, "photo.png is no picture that can be read"),
        ({"photo": picture((8000, 8000), "PNG")}, "photo.png has more than 50 million pixels"),
        ({"mesh": "mug.exe"}, "mug.exe: choose one mesh"),
        ({"mesh": ".ply"}, "'.ply' is no name for a file: rename it"),
        ({"mesh": 100 * "\u676f" + ".ply"}, "is no name for a file: rename it"),
        ({"mesh": "../../../mug.ply"}, "mug.ply cannot be read as a mesh"),
        ({"left": "x"}, "left 'x' is no number: correct it"),
        ({"left": "40"}, "box 40 1 30 30: nothing of 64x48 px"),
        ({"fov": "200"}, "field of view 200: give the photo's horizontal one"),
        ({"unit": "mile"}, "unit 'mile': choose one of"),
    ],
)
def test_what_is_sent_is_checked(client, asked, message):
    content = b"solid" if "unit" not in asked else (MINI / "models" / "obj_000004.ply").read_bytes()
    last = ask(client, content=content, **asked)[-1]
    assert message in last["error"]
    assert "/tmp" not in last["error"] and "--" not in last["error"]


@pytest.mark.parametrize(("config", "options"), [("lite", ["model.size=64"]), ("default", [])])
def test_progress_is_told_while_views_are_drawn(tmp_path, config, options):
    options = ["test.views=42", "test.hypotheses=1", *options]
    config = ROOT / "config" / f"{config}.yaml"
    estimator = PoseEstimator(None, config=config, device="cpu", log_dir=tmp_path, overrides=options)
    bowl = (MINI / "models" / "obj_000004.ply").read_bytes()
    *told, last = ask(server.make_app(estimator).test_client(), content=bowl)
    done = [message["done"] for message in told if "done" in message]
    assert len(done) > 2 and done == sorted(done) and done[-1] == 42
    assert told[-1]["doing"] == "Finding the pose"
    assert set(last["result"]) == {"numbers", "size", "overlay", "matches", "scene"}
    assert estimator.objects == {}  # a page may run for days


def test_one_after_the_other(client, monkeypatch):
    running, most = [], []

    def find(estimator, upload, tell):
        running.append(upload)
        most.append(len(running))
        time.sleep(0.1)
        running.pop()
        return {}

    monkeypatch.setattr(server, "find", find)
    with ThreadPoolExecutor() as pool:
        answers = [job.result() for job in [pool.submit(ask, client) for _ in range(4)]]
    assert [answer[-1] for answer in answers] == 4 * [{"result": {}}]
    assert most == [1, 1, 1, 1]


def test_uploads_leave_nothing_behind(client, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ask(client)
    ask(client, photo=b"")
    assert list(tmp_path.iterdir()) == []


def test_what_is_too_large_is_refused_before_it_is_read(address):
    connection = http.client.HTTPConnection(address.split("/")[2], timeout=60)
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


def test_the_page_names_its_method(client):
    assert "<p>Method: render, match and refine, untrained for the object</p>" in client.get("/").text
    trained = server.method_of(Config(checkpoint="weights/mine.pt"))
    assert trained == "PicoPose, weights mine.pt"


def test_the_page_needs_nothing_from_elsewhere(client):
    for name in ("", "page/page.css", "page/page.js"):
        text = client.get(f"/{name}").text
        assert text and not re.search(r"https?://|@import|url\(", text)


def test_a_port_that_is_taken(address):
    port = int(address.rstrip("/").rsplit(":", 1)[1])
    with pytest.raises(InputError, match=f"--port {port}: cannot be had"):
        server.make_page(shipped.estimator(), "127.0.0.1", port)
