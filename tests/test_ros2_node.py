"""The node of ROS 2, with stand-ins for its messages: images, cameras, boxes, poses; and what it refuses."""

import importlib
import json
import subprocess
import sys
from array import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from picopose.pipeline.estimator import PoseEstimator
from picopose.pipeline.object_pose import ObjectPose
from picopose.utils.errors import InputError
from tests import ros2_stand_in as stand_in
from tests import shipped
from tests.ros2_stand_in import MESSAGES
from tests.shared import ROOT

MINI = ROOT / "data" / "mini"
MESH = str(MINI / "models" / "obj_000002.ply")
K = np.array([[612.3, 0, 319.6], [0, 611.8, 241.7], [0, 0, 1]])
BENT = [-0.2, 0.05, 0.001, -0.002, 0.01]  # k1 k2 p1 p2 k3
BOX = (333.0, 232.0, 485.0, 386.0)
PHOTO = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def ros2_node():
    """The example's module."""
    with pytest.MonkeyPatch.context() as patch:
        stand_in.install(patch)
        yield importlib.import_module("examples.ros2_node")
        del sys.modules["examples.ros2_node"]


def image_message(pixels: np.ndarray, encoding: str = "rgb8", padding: int = 0, sec: int = 1):
    """Of pixels (H, W, C) or (H, W), in rows that are longer by a padding."""
    height, width = pixels.shape[:2]
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (0, padding)), constant_values=77)
    header = MESSAGES["Header"](stamp=MESSAGES["Time"](sec=sec, nanosec=5), frame_id="camera_optical_frame")
    content = {"height": height, "width": width, "encoding": encoding, "step": rows.shape[1]}
    return MESSAGES["Image"](header=header, data=array("B", rows.tobytes()), **content)


def info_message(width: int = 640, height: int = 480, **given):
    content = {"k": K.ravel(), "distortion_model": "plumb_bob", "d": array("d", 5 * [0])}
    return MESSAGES["CameraInfo"](width=width, height=height, **content | given)


def detection_message(box, *guesses: tuple[str, float], turn: float = 0.0):
    left, top, right, bottom = map(float, box)
    middle = MESSAGES["Point2D"](x=(left + right) / 2, y=(top + bottom) / 2)
    centre = MESSAGES["Pose2D"](position=middle, theta=turn)
    found = MESSAGES["BoundingBox2D"](center=centre, size_x=right - left, size_y=bottom - top)
    results = [MESSAGES["ObjectHypothesisWithPose"]() for _ in guesses]
    for result, (name, score) in zip(results, guesses, strict=True):
        result.hypothesis = MESSAGES["ObjectHypothesis"](class_id=name, score=score)
    return MESSAGES["Detection2D"](bbox=found, results=results)


def numbers(message) -> np.ndarray:
    return np.array([getattr(message, name) for name in message.FIELDS])


@pytest.mark.parametrize("padding", [0, 7])
@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("rgb8", PHOTO),
        ("bgr8", cv2.cvtColor(PHOTO, cv2.COLOR_RGB2BGR)),
        ("rgba8", cv2.cvtColor(PHOTO, cv2.COLOR_RGB2RGBA)),
        ("bgra8", cv2.cvtColor(PHOTO, cv2.COLOR_RGB2BGRA)),
        ("mono8", PHOTO[..., 1]),
    ],
)
def test_images_of_every_encoding(ros2_node, encoding, pixels, padding):
    expected = PHOTO if encoding != "mono8" else PHOTO[..., [1, 1, 1]]
    assert np.array_equal(ros2_node.rgb_of(image_message(pixels, encoding, padding)), expected)


def test_images_that_cannot_be_used(ros2_node):
    with pytest.raises(InputError, match=r"encoding 'bayer_rggb8': publish one of rgb8, bgr8"):
        ros2_node.rgb_of(image_message(PHOTO[..., 0], "bayer_rggb8"))
    cut = image_message(PHOTO)
    cut.data = cut.data[:-1]
    with pytest.raises(InputError, match="64x48 px in rgb8 has 9215 bytes in rows of 192"):
        ros2_node.rgb_of(cut)
    with pytest.raises(InputError, match="in rows of 64"):
        ros2_node.rgb_of(image_message(PHOTO[..., 0], "rgb8"))


def test_the_camera_is_that_of_raw_or_of_rectified_images(ros2_node):
    rectified = np.array([[500, 0, 300, 0], [0, 500, 250, 0], [0, 0, 1, 0.0]])
    info = info_message(p=rectified.ravel(), d=array("d", BENT))
    raw = ros2_node.camera_of(info, 640, 480, False)
    assert np.allclose(raw.K, K) and raw.lens.coefficients == tuple(BENT)
    straight = ros2_node.camera_of(info, 640, 480, True)
    assert np.allclose(straight.K, rectified[:, :3]) and straight.lens is None


@pytest.mark.parametrize(
    ("given", "rectified", "message"),
    [
        ({"width": 1280, "height": 960}, False, "camera_info is of 1280x960 px, the image of 640x480 px"),
        ({"k": np.zeros(9)}, False, "camera_info is no camera matrix"),
        ({"distortion_model": "equidistant", "d": array("d", BENT)}, False, "distortion model 'equidistant'"),
        ({"binning_x": 2, "binning_y": 2}, False, "binning or roi"),
        ({"roi": {"x_offset": 8}}, False, "binning or roi"),
        ({"p": np.array([500, 0, 300, -60, 0, 500, 250, 0, 0, 0, 1, 0.0])}, True, "with the shift"),
    ],
)
def test_cameras_that_cannot_be_used(ros2_node, given, rectified, message):
    if "roi" in given:
        given = {"roi": MESSAGES["RegionOfInterest"](**given["roi"])}
    with pytest.raises(InputError, match=message):
        ros2_node.camera_of(info_message(**given), 640, 480, rectified)


def test_raw_images_and_boxes_are_undistorted(ros2_node):
    """A dot is seen where the lens bends its ray to, and found where the pinhole shows it."""
    ray = np.array([[-0.4, 0.3, 1.0]])
    seen = cv2.projectPoints(ray, np.zeros(3), np.zeros(3), K, np.array(BENT))[0].ravel()
    bent, straight = np.round(seen).astype(int), (ray @ K.T)[0, :2]
    assert np.linalg.norm(straight - bent) > 5
    photo = np.zeros((480, 640, 3), np.uint8)
    photo[bent[1] - 1 : bent[1] + 2, bent[0] - 1 : bent[0] + 2] = 255
    view = ros2_node.view_of(image_message(photo), info_message(d=array("d", BENT)), False)
    y, x = np.nonzero(view.rgb[..., 0] > 100)
    assert np.allclose([x.mean(), y.mean()], straight, atol=1) and np.array_equal(view.K, np.float32(K))
    box = view.box(detection_message((*bent - 4, *bent + 5)))
    assert np.allclose([(box[0] + box[2] - 1) / 2, (box[1] + box[3] - 1) / 2], straight, atol=1)


def test_a_turned_box_is_what_it_covers(ros2_node):
    view = ros2_node.View(PHOTO, K, None)
    assert view.box(detection_message(BOX)) == list(BOX)
    turn = np.radians(30)
    along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    corners = np.array([100, 50]) + [20 * along * i + 10 * across * j for i in (-1, 1) for j in (-1, 1)]
    expected = [*corners.min(axis=0), *corners.max(axis=0)]
    assert np.allclose(view.box(detection_message((80, 40, 120, 60), turn=turn)), expected)


def test_the_likeliest_class_counts(ros2_node):
    assert ros2_node.class_of(detection_message(BOX, ("mug", 0.2), ("bowl", 0.7))) == "bowl"
    assert ros2_node.class_of(detection_message(BOX)) is None
    assert ros2_node.class_of(detection_message(BOX, ("", 0.9))) is None


def as_pose(name: str, confidence: float) -> ObjectPose:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec([0.3, -2.0, 1.1]).as_matrix()
    pose[:3, 3] = 0.1, -0.2, 0.9
    return ObjectPose(name, pose, confidence, 1.0, 0, np.zeros((0, 4)), np.zeros(4))


class Estimator:
    """Keeps what it is asked; it and its trackers find the poses that it is told."""

    def __init__(self):
        low_and_high = np.array([[-0.1, 0.0, 0.2], [0.3, 0.1, 0.4]])
        self.objects = {
            name: SimpleNamespace(mesh=SimpleNamespace(vertices=low_and_high)) for name in ("mug", "bowl")
        }
        self.found, self.asked = [], []

    def estimate(self, rgb, K, boxes, **options):
        self.asked.append((boxes, options["objects"], options["last"]))
        return self.found

    def track(self, K, *, cropped):
        number = len(self.asked)

        def step(how: str):
            def call(rgb, time):
                self.asked.append((number, how, round(time, 6)))
                return self.found

            return call

        return SimpleNamespace(start=step("start"), update=step("update"))


@pytest.fixture
def estimator(ros2_node, monkeypatch) -> Estimator:
    made = Estimator()
    monkeypatch.setattr(ros2_node.PoseNode, "_estimator", lambda self: made)
    return made


def started(ros2_node, topic: str = "/camera/image_raw", **parameters) -> stand_in.Node:
    """A node that has been sent a camera."""
    node = stand_in.Node(topic, **parameters)
    ros2_node.PoseNode(node)
    node.send("camera_info", info_message(64, 48, k=np.array([60, 0, 32, 0, 60, 24, 0, 0, 1.0])))
    return node


def test_poses_are_published_with_boxes_and_the_sure_ones_as_transforms(ros2_node, estimator):
    node = started(ros2_node)
    estimator.found = [as_pose("mug", 0.9), as_pose("mug", 0.8), as_pose("bowl", 0.3)]
    image = image_message(PHOTO)
    node.send("image", image)
    (published,) = node.published
    assert [found.id for found in published.detections] == ["mug", "mug_1", "bowl"]
    assert published.header is image.header
    cam_from_obj = estimator.found[0].cam_from_obj
    for found, pose in zip(published.detections, estimator.found, strict=True):
        (result,) = found.results
        assert (result.hypothesis.class_id, result.hypothesis.score) == (pose.name, pose.confidence)
        assert np.allclose(numbers(result.pose.pose.position), cam_from_obj[:3, 3])
        turned = Rotation.from_quat(numbers(result.pose.pose.orientation)).as_matrix()
        assert np.allclose(turned, cam_from_obj[:3, :3])
        middle = cam_from_obj[:3, :3] @ [0.1, 0.05, 0.3] + cam_from_obj[:3, 3]
        assert np.allclose(numbers(found.bbox.center.position), middle)
        assert np.allclose(numbers(found.bbox.size), [0.4, 0.1, 0.2])
    (transforms,) = node.transforms
    assert [one.child_frame_id for one in transforms] == ["mug", "mug_1"]
    assert transforms[0].header.frame_id == "camera_optical_frame"
    assert np.allclose(numbers(transforms[0].transform.translation), cam_from_obj[:3, 3])
    turned = Rotation.from_quat(numbers(transforms[0].transform.rotation)).as_matrix()
    assert np.allclose(turned, cam_from_obj[:3, :3])


def test_what_is_found_is_followed_until_time_jumps_back(ros2_node, estimator):
    node = started(ros2_node)
    for sec in (7, 8, 9, 2, 3):
        node.send("image", image_message(PHOTO, sec=sec))
    steps = [(how, time) for _, how, time in estimator.asked]
    expected = [("start", 7), ("update", 8), ("update", 9), ("start", 2), ("update", 3)]
    assert steps == expected and len({number for number, *_ in estimator.asked}) == 2


def test_detections_are_of_meshes_or_of_any_or_left_out(ros2_node, estimator):
    node = started(ros2_node, use_detections=True)
    estimator.found = [as_pose("bowl", 0.9)]
    boxes = [(1.0, 2.0, 9.0, 8.0), (3.0, 3.0, 8.0, 8.0), (20.0, 20.0, 40.0, 30.0)]
    guesses = [[("bowl", 0.8), ("cup", 0.1)], [("cup", 0.8), ("bowl", 0.1)], []]
    detections = [detection_message(box, *guess) for box, guess in zip(boxes, guesses, strict=True)]
    for _ in range(2):
        node.send(
            "image+detections", image_message(PHOTO), MESSAGES["Detection2DArray"](detections=detections)
        )
    (asked, names, last), (*_, then) = estimator.asked
    assert asked == [list(boxes[0]), list(boxes[2])] and names == ["bowl", None]
    assert last == [] and then is estimator.found
    assert "detections of cup are left out: there are meshes of mug, bowl" in node.logger.told[0]


@pytest.mark.parametrize(
    ("topic", "rectified"),
    [("/left/image_rect", True), ("/zed/rect/image", True), ("/direct/image_raw", False)],
)
def test_topics_of_rectified_images(ros2_node, estimator, topic, rectified):
    node = stand_in.Node(topic)
    assert ros2_node.PoseNode(node).rectified is rectified
    assert ros2_node.PoseNode(stand_in.Node(topic, rectified=False)).rectified is False


def test_an_image_that_cannot_be_used_is_told_and_the_next_one_is_used(ros2_node, estimator):
    node = stand_in.Node()
    ros2_node.PoseNode(node)
    node.send("image", image_message(PHOTO))
    node.send("camera_info", info_message(64, 48, k=np.array([60, 0, 32, 0, 60, 24, 0, 0, 1.0])))
    node.send("image", image_message(PHOTO[..., 0], "mono16"))
    assert node.published == [] and len(node.logger.told) == 2
    assert node.logger.told[0].startswith("no camera_info yet") and "'mono16'" in node.logger.told[1]
    node.send("image", image_message(PHOTO))
    assert len(node.published) == 1 and len(node.logger.told) == 2


def test_it_finds_the_cereal_box(ros2_node, monkeypatch):
    """With the default estimator, in a photo of the mini set as a camera driver publishes it."""
    monkeypatch.setattr(ros2_node, "PoseEstimator", shipped.estimator)
    node = stand_in.Node(meshes=[MESH], names=["cereal"], unit="mm", use_detections=True)
    made = ros2_node.PoseNode(node)
    assert isinstance(made.estimator, PoseEstimator)
    photo = np.asarray(Image.open(MINI / "test/000001/rgb/000000.jpg"))
    node.send("camera_info", info_message())
    detections = MESSAGES["Detection2DArray"](detections=[detection_message(BOX, ("cereal", 0.9))])
    node.send("image+detections", image_message(photo[..., ::-1], "bgr8", padding=8), detections)
    ((found,),) = (published.detections for published in node.published)
    truth = json.loads((MINI / "test/000001/scene_gt.json").read_text())["0"][2]
    pose = found.results[0].pose.pose
    assert np.linalg.norm(numbers(pose.position) - np.array(truth["cam_t_m2c"]) / 1000) < 0.01
    turn = Rotation.from_matrix(np.reshape(truth["cam_R_m2c"], (3, 3))).inv()
    turn *= Rotation.from_quat(numbers(pose.orientation))
    assert np.degrees(turn.magnitude()) < 2
    size = json.loads((MINI / "models" / "models_info.json").read_text())["2"]
    assert np.allclose(1000 * numbers(found.bbox.size), [size[f"size_{axis}"] for axis in "xyz"], atol=0.01)
    assert found.id == "cereal" and [len(sent) for sent in node.transforms] == [1]


def test_wrong_parameters_are_one_line(ros2_node):
    for parameters in ({}, {"meshes": [""]}, {"meshes": [MESH], "names": ["a", "b"]}):
        with pytest.raises(InputError, match="set meshes, and names of all or none"):
            ros2_node.PoseNode(stand_in.Node(**parameters))


def test_without_ros_it_is_one_line():
    command = [sys.executable, "-m", "examples.ros2_node"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == (
        "error: No module named 'rclpy': source the setup.bash of ROS 2 and install its vision_msgs\n"
    )
