"""Stands in for ROS 2 where it is not installed: messages as they are defined, and what a node asks of it.

Like its Python library it refuses fields that a message does not have, and values of another type.
"""

import sys
from array import array
from collections.abc import Callable
from copy import copy
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

# Fields by message, as the packages' .msg files have them, with a value or the name of a message.
DEFINITIONS: dict[str, dict[str, dict[str, Any]]] = {
    "builtin_interfaces": {"Time": {"sec": 0, "nanosec": 0}},
    "std_msgs": {"Header": {"stamp": "Time", "frame_id": ""}},
    "geometry_msgs": {
        "Point": {"x": 0.0, "y": 0.0, "z": 0.0},
        "Vector3": {"x": 0.0, "y": 0.0, "z": 0.0},
        "Quaternion": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0},
        "Pose": {"position": "Point", "orientation": "Quaternion"},
        "PoseWithCovariance": {"pose": "Pose", "covariance": np.zeros(36)},
        "Transform": {"translation": "Vector3", "rotation": "Quaternion"},
        "TransformStamped": {"header": "Header", "child_frame_id": "", "transform": "Transform"},
    },
    "sensor_msgs": {
        "RegionOfInterest": {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False},
        "Image": {
            **{"header": "Header", "height": 0, "width": 0, "encoding": "", "is_bigendian": 0, "step": 0},
            "data": array("B"),
        },
        "CameraInfo": {
            **{"header": "Header", "height": 0, "width": 0, "distortion_model": "", "d": array("d")},
            **{"k": np.zeros(9), "r": np.zeros(9), "p": np.zeros(12), "binning_x": 0, "binning_y": 0},
            "roi": "RegionOfInterest",
        },
    },
    "vision_msgs": {
        "Point2D": {"x": 0.0, "y": 0.0},
        "Pose2D": {"position": "Point2D", "theta": 0.0},
        "BoundingBox2D": {"center": "Pose2D", "size_x": 0.0, "size_y": 0.0},
        "BoundingBox3D": {"center": "Pose", "size": "Vector3"},
        "ObjectHypothesis": {"class_id": "", "score": 0.0},
        "ObjectHypothesisWithPose": {"hypothesis": "ObjectHypothesis", "pose": "PoseWithCovariance"},
        "Detection2D": {"header": "Header", "results": [], "bbox": "BoundingBox2D", "id": ""},
        "Detection2DArray": {"header": "Header", "detections": []},
        "Detection3D": {"header": "Header", "results": [], "bbox": "BoundingBox3D", "id": ""},
        "Detection3DArray": {"header": "Header", "detections": []},
    },
}


class Message:
    """A message whose fields have default values."""

    FIELDS: ClassVar[dict[str, Any]]

    def __init__(self, **given: Any):
        for name, default in self.FIELDS.items():
            made = MESSAGES[default]() if isinstance(default, str) and default else copy(default)
            super().__setattr__(name, made)
        for name, value in given.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        known = type(getattr(self, name))  # an AttributeError for what is no field
        assert isinstance(value, known), f"{type(self).__name__}.{name} is {known}, not {type(value)}"
        super().__setattr__(name, value)


MESSAGES: dict[str, type[Message]] = {
    name: type(name, (Message,), {"FIELDS": fields})
    for messages in DEFINITIONS.values()
    for name, fields in messages.items()
}


class Logger:
    """Keeps what it is told."""

    def __init__(self):
        self.told: list[str] = []

    def info(self, text: str, **options: Any) -> None:
        self.told.append(text)

    warning = error = info


class Node:
    """A node with parameters and a topic of images; `send` calls what subscribes to a topic."""

    def __init__(self, topic: str = "/image", **parameters: Any):
        self.topic, self.parameters, self.logger = topic, parameters, Logger()
        self.subscribers: dict[str, Callable] = {}
        self.published: list[Message] = []
        self.transforms: list[list[Message]] = []

    def declare_parameter(self, name: str, default: Any) -> SimpleNamespace:
        return SimpleNamespace(value=self.parameters.get(name, default))

    def resolve_topic_name(self, name: str) -> str:
        return self.topic if name == "image" else f"/{name}"

    def create_subscription(self, kind: type, topic: str, call: Callable, qos: Any) -> None:
        self.subscribers[topic] = call

    def create_publisher(self, kind: type, topic: str, qos: Any) -> SimpleNamespace:
        return SimpleNamespace(publish=self.published.append)

    def get_logger(self) -> Logger:
        return self.logger

    def send(self, topic: str, *messages: Message) -> None:
        self.subscribers[topic](*messages)


class TimeSynchronizer:
    """Calls with messages that are sent together to the topics' names, joined by +."""

    def __init__(self, topics: list[SimpleNamespace], size: int):
        self.topics = topics

    def registerCallback(self, call: Callable) -> None:
        node = self.topics[0].node
        node.subscribers["+".join(topic.name for topic in self.topics)] = call


def install(patch: pytest.MonkeyPatch) -> None:
    """Lets ROS's packages be imported."""
    for package, messages in DEFINITIONS.items():
        _add(patch, f"{package}.msg", {name: MESSAGES[name] for name in messages})
    _add(patch, "rclpy.executors", {"ExternalShutdownException": RuntimeError})
    _add(patch, "rclpy.node", {"Node": Node})
    policy = SimpleNamespace(BEST_EFFORT=0)
    _add(patch, "rclpy.qos", {"QoSProfile": SimpleNamespace, "ReliabilityPolicy": policy})
    subscriber = {"Subscriber": lambda node, kind, name, qos_profile: SimpleNamespace(node=node, name=name)}
    _add(patch, "message_filters", subscriber | {"TimeSynchronizer": TimeSynchronizer})
    broadcaster = {"TransformBroadcaster": lambda node: SimpleNamespace(sendTransform=node.transforms.append)}
    _add(patch, "tf2_ros", broadcaster)


def _add(patch: pytest.MonkeyPatch, name: str, content: dict[str, Any]) -> None:
    package = name.partition(".")[0]
    for one in {package, name}:
        patch.setitem(sys.modules, one, ModuleType(one))
    vars(sys.modules[name]).update(content)
