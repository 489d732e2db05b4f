"""The page of a method of categories: a depth image and a category in place of a mesh."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from picopose import CategoryEstimator
from picopose.datasets.nocs.frames import read_mask
from picopose.datasets.nocs.layout import CLASSES, SPLITS
from picopose.demo import server
from picopose.utils.config import Config
from tests.shared import shared
from tools.pictures.page import PageDriver, running_page

FRAME = "Real/test/scene_1/0000"
CAMERA_ID, BOX = 2, (275, 255, 405, 345)
K = SPLITS["real_test"].K
KNOWN = {"fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]}


def part(name: str):
    return shared(f"reference_dualposenet/sample/{FRAME}_{name}.png")


@pytest.fixture(scope="module")
def estimator() -> CategoryEstimator:
    """One that knows the true poses in the frame."""
    file = shared("reference_dualposenet/sample/true_poses.json")
    options = [f"options.true_boxes.file={file}", f"options.true_boxes.frame={FRAME}"]
    options.append("method=tests.toys.true_boxes")
    return CategoryEstimator(config="config/default.yaml", device="cpu", overrides=options)


@pytest.fixture(scope="module")
def mask(tmp_path_factory):
    """The image of the camera's mask."""
    path = tmp_path_factory.mktemp("mask") / "mask.png"
    Image.fromarray((read_mask(part("mask")) == CAMERA_ID) * np.uint8(255)).save(path)
    return path


@pytest.fixture(scope="module")
def client(estimator):
    return server.make_app(estimator).test_client()


def ask(client, **changes) -> list[dict]:
    """The lines that answer a request; files are given as name and content."""
    picture = lambda name: (f"{name}.png", part(name).read_bytes())  # noqa: E731
    given = {"photo": picture("color"), "depth": picture("depth"), "category": "camera", "camera": "K"}
    given |= {name: f"{value}" for name, value in KNOWN.items()}
    given |= dict(zip(("left", "top", "right", "bottom"), map(str, BOX), strict=True)) | changes
    files = {name: (io.BytesIO(v[1]), v[0]) for name, v in given.items() if isinstance(v, tuple)}
    answer = client.post("/pose", data=given | files)
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_pose_from_photo_depth_mask_and_category(browser, estimator, mask):
    with running_page(estimator) as address:
        page = PageDriver(browser, address)
        page.choose_photo(part("color"))
        page.find()
        assert page.error == "Choose the photo's depth image first"
        page.field("depth").send_keys(str(part("depth")))
        page.find()
        assert page.error == "Draw a box around the object on the photo"
        page.field("mask").send_keys(str(mask))
        page.field("category").send_keys("camera")
        page.calibrate(KNOWN)
        page.find()
        assert page.error == "" and page.element("result").is_displayed()
        assert page.element("position").text == "20.0 60.0 700.0 mm"
        assert page.element("size").text == "110 x 77 x 87 mm"
        assert page.element("verdict").text == "90 % of 6787 fit"
        heights = "return [...document.querySelectorAll('figure img')].map(image => image.naturalHeight)"
        assert browser.execute_script(heights) == [480]  # no picture of matches
        unnamed = (
            "[...document.querySelectorAll('input, select, img')].filter(e => !(e.alt || e.labels?.length))"
        )
        assert browser.execute_script(f"return {unnamed}") == []
        assert browser.get_log("browser") == []


def test_the_page_asks_for_depth_and_not_for_a_mesh(client):
    text = client.get("/").text
    assert 'name="depth"' in text and 'name="mesh"' not in text
    assert all(f"<option>{name}</option>" in text for name in CLASSES)


def test_the_box_serves_without_a_mask(client):
    lines = ask(client)
    assert {
        "warning": "camera: in a box is more than the object, so its pose is doubtful; give a mask"
    } in lines
    result = lines[-1]["result"]
    assert set(result) == {"numbers", "size", "overlay", "scene"}
    (pose,) = result["numbers"]["poses"]
    assert pose["category"] == "camera" and pose["box"] == list(BOX)


def array(values) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": ""}, "no depth image: choose one"),
        (
            {"depth": ("depth.png", b"GIF89a")},
            "depth.png is no picture that can be read: choose a PNG or TIFF",
        ),
        (
            {"depth": ("depth.npy", array(np.ones((4, 5))))},
            "depth depth.npy has 5x4 px for a photo of 640x480",
        ),
        (
            {"depth": ("depth.npy", array(np.array([{}])))},
            "depth.npy cannot be read (no whole array without pick",
        ),
        ({"depth": ("../../depth.npy", b"")}, "depth depth.npy cannot be read"),
        (
            {"photo": ("photo.npy", array(np.ones((4, 5))))},
            "photo.npy is no picture that can be read: choose a JP",
        ),
        ({"mask": ("mask.npy", array(np.ones((4, 5))))}, "mask.npy is no picture that can be read"),
        ({"depth_unit": "mile"}, "depth.png: unit 'mile' is unknown; give its unit"),
        ({"depth_unit": "m"}, "would be 1.03e+03 m in m; give its unit"),
        ({"category": "cup"}, "category 'cup': unknown; give one of bottle"),
        ({"category": ""}, "category '': unknown"),
        ({"left": "x"}, "left 'x' is no number: correct it"),
        ({"right": "277", "bottom": "257"}, "no pose is found from 3 points: choose another mask or draw"),
    ],
)
def test_what_is_sent_is_checked(client, changes, message):
    last = ask(client, **changes)[-1]
    assert message in last["error"]
    assert "/tmp" not in last["error"] and "--" not in last["error"]


def test_uploads_leave_nothing_behind(client, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert "result" in ask(client)[-1]
    ask(client, depth="")
    assert list(tmp_path.iterdir()) == []


def test_the_page_names_its_method():
    assert (
        server.method_of(Config(method="dualposenet", checkpoint="a/model.pt"))
        == "DualPoseNet, weights model.pt"
    )
