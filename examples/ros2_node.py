"""A node of ROS 2 that finds objects, of which it has meshes, in what a camera shows.

    source /opt/ros/jazzy/setup.bash  # Jazzy or newer, with the package vision_msgs
    python3 -m venv --system-site-packages venv
    venv/bin/pip install .
    venv/bin/python -m examples.ros2_node --ros-args -p "meshes:=[mug.ply, drill.obj]" \
        -r image:=/camera/color/image_raw -r camera_info:=/camera/color/camera_info

Topics:
    image: sensor_msgs/Image in rgb8, bgr8, rgba8, bgra8 or mono8.
    camera_info: sensor_msgs/CameraInfo of the same size, without binning and region of interest.
    detections: vision_msgs/Detection2DArray with the stamps of its images, for `use_detections`.
    poses (published): vision_msgs/Detection3DArray: names, confidences, poses of the meshes, boxes.
    /tf (published): from the camera's frame to NAME, and to NAME_1 ... for more of the same object.

Parameters:
    meshes: PLY, OBJ, glTF, STL or OFF files; models_info.json (BOP) beside them tells symmetries.
    names: of the objects, as the detector calls them; by default the files' without suffix.
    unit: of the meshes: m, cm, mm, or auto, which guesses and says so (default).
    use_detections: poses are estimated in the boxes of detections, in each image anew. By default the objects
        are looked for all over the picture and then followed.
    rectified: the images are, so that P holds and not K and D. By default if their topic's name has `rect`.
    min_confidence: of poses that go to /tf (default 0.75); `poses` has all.

Poses are in metres, in the frame that the image's header names: x right, y down, z forward, as REP 103 has it
for optical frames. Raw images are undistorted first, and boxes with them. Of what comes while one image is
looked at only the newest is kept.
"""

import logging
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeVar

try:
    import rclpy
    from builtin_interfaces.msg import Time
    from geometry_msgs.msg import Point, Pose, Quaternion, Transform, TransformStamped, Vector3
    from message_filters import Subscriber, TimeSynchronizer
    from rclpy.executors import ExternalShutdownException
    from rclpy.node import Node
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import CameraInfo, Image
    from std_msgs.msg import Header
    from tf2_ros import TransformBroadcaster
    from vision_msgs.msg import (
        BoundingBox3D,
        Detection2D,
        Detection2DArray,
        Detection3D,
        Detection3DArray,
        ObjectHypothesisWithPose,
    )
except ImportError as missing:
    print(f"error: {missing}: source the setup.bash of ROS 2 and install its vision_msgs", file=sys.stderr)
    sys.exit(2)

import numpy as np

from picopose import ObjectPose, PoseEstimator
from picopose.datasets.cameras.lens import Lens
from picopose.datasets.cameras.tables import Camera, camera_of_table
from picopose.pipeline.verdict import GOOD
from picopose.utils.errors import InputError, exits_cleanly

# Channels of an encoding, and their order as RGB.
ENCODINGS = {"rgb8": (3, [0, 1, 2]), "bgr8": (3, [2, 1, 0]), "mono8": (1, [0, 0, 0])}
ENCODINGS |= {"rgba8": (4, [0, 1, 2]), "bgra8": (4, [2, 1, 0])}
WAITING = 30  # images, for their detections
TOLD_EVERY = 5.0  # s

Message = TypeVar("Message")


@dataclass(frozen=True, eq=False)
class View:
    """What a camera without distortion would have seen."""

    rgb: np.ndarray  # (H, W, 3) uint8
    K: np.ndarray  # (3, 3)
    lens: Lens | None  # whose distortion was removed

    def box(self, detection: Detection2D) -> list[float]:
        """left, top, right, bottom px of a detection's box, or of what a turned one covers."""
        box = detection.bbox
        sine, cosine = abs(np.sin(box.center.theta)), abs(np.cos(box.center.theta))
        half_x = (box.size_x * cosine + box.size_y * sine) / 2
        half_y = (box.size_x * sine + box.size_y * cosine) / 2
        x, y = box.center.position.x, box.center.position.y
        sides = [x - half_x, y - half_y, x + half_x, y + half_y]
        return sides if self.lens is None else self.lens.straight_box(sides, self.K)


def view_of(image: Image, info: CameraInfo, rectified: bool) -> View:
    """Raises an `InputError` for images and cameras that cannot be used."""
    rgb, camera = rgb_of(image), camera_of(info, image.width, image.height, rectified)
    K = camera.K.double().numpy()
    if camera.lens is None:
        return View(rgb, K, None)
    camera.lens.check(K, image.width, image.height)
    return View(camera.lens.straighten(rgb, K), K, camera.lens)


def rgb_of(image: Image) -> np.ndarray:
    """(H, W, 3) uint8 of an image, whose rows may be longer than its pixels."""
    if image.encoding not in ENCODINGS:
        raise InputError(f"image has the encoding {image.encoding!r}: publish one of {', '.join(ENCODINGS)}")
    channels, order = ENCODINGS[image.encoding]
    used = channels * image.width
    if image.step < used or len(image.data) != image.height * image.step:
        raise InputError(
            f"image of {image.width}x{image.height} px in {image.encoding} has {len(image.data)} bytes in "
            f"rows of {image.step}: correct its step or data"
        )
    rows = np.frombuffer(image.data, np.uint8).reshape(image.height, image.step)[:, :used]
    return np.ascontiguousarray(rows.reshape(image.height, image.width, channels)[..., order])


def camera_of(info: CameraInfo, width: int, height: int, rectified: bool) -> Camera:
    """The camera of an image of this size."""
    if (info.width, info.height) != (width, height):
        raise InputError(
            f"camera_info is of {info.width}x{info.height} px, the image of {width}x{height} px: publish "
            "the camera of this very image"
        )
    table = {
        "roi": {"x_offset": info.roi.x_offset, "y_offset": info.roi.y_offset},
        "binning_x": info.binning_x,
        "binning_y": info.binning_y,
    }
    if rectified:
        table["P"] = [float(value) for value in info.p]
    else:
        table["K"] = [float(value) for value in info.k]
        table["D"] = [float(value) for value in info.d]
        table["distortion_model"] = info.distortion_model
    return camera_of_table(table, "camera_info", width, height)


def class_of(detection: Detection2D) -> str | None:
    """What the detector takes it for; None if it does not say."""
    guesses = [result.hypothesis for result in detection.results]
    return max(guesses, key=attrgetter("score")).class_id or None if guesses else None


def frame_names(poses: Sequence[ObjectPose]) -> list[str]:
    """NAME, and NAME_1 ... for further instances of an object."""
    seen: Counter[str] = Counter()
    names = []
    for pose in poses:
        names.append(f"{pose.name}_{seen[pose.name]}" if seen[pose.name] else pose.name)
        seen[pose.name] += 1
    return names


def named(kind: type[Message], numbers: np.ndarray) -> Message:
    """A message of x, y, z, and w if there are four numbers."""
    return kind(**dict(zip("xyzw", numbers.tolist(), strict=False)))


def detection_message(pose: ObjectPose, vertices: np.ndarray, name: str, header: Header) -> Detection3D:
    """A pose with the box about the mesh's vertices (N, 3) m, along the axes of the mesh's frame."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    middle = pose.cam_from_obj @ np.append((low + high) / 2, 1)
    turned = named(Quaternion, pose.quaternion_xyzw)
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = pose.name, float(pose.confidence)
    result.pose.pose = Pose(position=named(Point, pose.translation), orientation=turned)
    box = BoundingBox3D(
        center=Pose(position=named(Point, middle[:3]), orientation=turned), size=named(Vector3, high - low)
    )
    return Detection3D(header=header, results=[result], bbox=box, id=name)


def transform_message(pose: ObjectPose, name: str, header: Header) -> TransformStamped:
    moved = Transform(
        translation=named(Vector3, pose.translation), rotation=named(Quaternion, pose.quaternion_xyzw)
    )
    return TransformStamped(header=header, child_frame_id=name, transform=moved)


class PoseNode:
    """Looks at what arrives at a node of ROS and publishes the poses."""

    def __init__(self, node: Node):
        self.node, self.info = node, None
        self.tracker, self.K, self.time = None, None, 0.0  # of what is followed
        self.last: list[ObjectPose] = []
        self.estimator = self._estimator()
        self.least = self._parameter("min_confidence", GOOD)
        rectified = re.search("[/_]rect", node.resolve_topic_name("image")) is not None
        self.rectified = self._parameter("rectified", rectified)
        self.poses = node.create_publisher(Detection3DArray, "poses", 1)
        self.frames = TransformBroadcaster(node)
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        node.create_subscription(CameraInfo, "camera_info", self._keep, newest)
        if self._parameter("use_detections", False):
            kinds = ((Image, "image"), (Detection2DArray, "detections"))
            topics = [Subscriber(node, kind, name, qos_profile=newest) for kind, name in kinds]
            self.both = TimeSynchronizer(topics, WAITING)
            self.both.registerCallback(self.look)
        else:
            node.create_subscription(Image, "image", self.look, newest)

    def _parameter(self, name: str, default: Any) -> Any:
        return self.node.declare_parameter(name, default).value

    def _texts(self, name: str) -> list[str]:
        return [text for text in self._parameter(name, [""]) if text]  # ROS gives empty lists no type

    def _estimator(self) -> PoseEstimator:
        """With the objects of the parameters."""
        meshes, names, unit = self._texts("meshes"), self._texts("names"), self._parameter("unit", "auto")
        if not meshes or len(names) not in (0, len(meshes)):
            raise InputError(
                f"{len(meshes)} meshes, {len(names)} names: set meshes, and names of all or none"
            )
        estimator = PoseEstimator()
        for mesh, name in zip(meshes, names or [None] * len(meshes), strict=True):
            estimator.add_object(mesh, name=name, unit=unit)
        return estimator

    def _keep(self, info: CameraInfo) -> None:
        self.info = info

    def look(self, image: Image, detections: Detection2DArray | None = None) -> None:
        """Publishes the poses in an image; what cannot be used is told and left out."""
        try:
            if self.info is None:
                raise InputError("no camera_info yet: remap it to the camera's topic")
            view = view_of(image, self.info, self.rectified)
            if view.lens is not None:
                self.node.get_logger().info(f"images are undistorted by {view.lens}", once=True)
            if detections is None:
                poses = self._follow(view, image.header.stamp)
            else:
                poses = self._estimate(view, detections.detections)
        except InputError as error:
            self.node.get_logger().error(str(error), throttle_duration_sec=TOLD_EVERY)
            return
        self._publish(poses, image.header)

    def _follow(self, view: View, stamp: Time) -> list[ObjectPose]:
        """Anew where time or camera jump, as where a bag is played again."""
        before, self.time = self.time, stamp.sec + 1e-9 * stamp.nanosec
        if self.tracker is not None and self.time > before and np.array_equal(view.K, self.K):
            return self.tracker.update(view.rgb, self.time)
        self.tracker, self.K = self.estimator.track(view.K, cropped=True), view.K
        return self.tracker.start(view.rgb, time=self.time)

    def _estimate(self, view: View, detections: Sequence[Detection2D]) -> list[ObjectPose]:
        """Of the detections of objects that there are meshes of, or that may be any object."""
        classes = [class_of(detection) for detection in detections]
        if others := sorted(set(classes) - {None, *self.estimator.objects}):
            self.node.get_logger().warning(
                f"detections of {', '.join(others)} are left out: there are meshes of "
                f"{', '.join(self.estimator.objects)}; set names to what the detector calls them",
                throttle_duration_sec=TOLD_EVERY,
            )
        used = [i for i, name in enumerate(classes) if name is None or name in self.estimator.objects]
        boxes, objects = [view.box(detections[i]) for i in used], [classes[i] for i in used]
        self.last = self.estimator.estimate(
            view.rgb, view.K, boxes, objects=objects, last=self.last, cropped=True
        )
        return self.last

    def _publish(self, poses: Sequence[ObjectPose], header: Header) -> None:
        found, sure = [], []
        for pose, name in zip(poses, frame_names(poses), strict=True):
            vertices = self.estimator.objects[pose.name].mesh.vertices
            found.append(detection_message(pose, vertices, name, header))
            if pose.confidence >= self.least:
                sure.append(transform_message(pose, name, header))
        self.poses.publish(Detection3DArray(header=header, detections=found))
        self.frames.sendTransform(sure)


@exits_cleanly
def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    rclpy.init()
    node = rclpy.create_node("picopose")
    try:
        PoseNode(node)
        rclpy.spin(node)
    except ExternalShutdownException:
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
