"""Reads and writes the pickles of NOCS and DualPoseNet, one an image: truths, detections, estimated poses.

Poses are in OpenCV's frame with the scale inside, RT = [scale * R | t]; the sides of an object's box are the
scale times `scales`, a vector of length 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from picopose.datasets.nocs.layout import CLASSES
from picopose.datasets.safe_pickle import read_pickle, write_pickle
from picopose.utils.errors import MALFORMED, InputError

_REMEDY = "download or create it again"


@dataclass(frozen=True)
class Truths:
    """The objects of an image, G rows."""

    class_ids: np.ndarray  # (G,) int, 1 to 6
    boxes: np.ndarray  # (G, 4) px: top, left, bottom, right
    RTs: np.ndarray  # (G, 4, 4) float64, m
    scales: np.ndarray  # (G, 3) float64
    handle_visible: np.ndarray  # (G,) bool; counts for mugs alone


@dataclass(frozen=True)
class Poses:
    """What was estimated of the detections, N rows."""

    RTs: np.ndarray  # (N, 4, 4) float64, m
    scales: np.ndarray  # (N, 3) float64


@dataclass(frozen=True)
class ImageResult:
    """An image with its truths and detections, N rows; what a file lacks is None."""

    image_path: str  # such as data/Real/test/scene_1/0000
    truths: Truths
    class_ids: np.ndarray  # (N,) int, 1 to 6
    boxes: np.ndarray  # (N, 4) px: top, left, bottom, right
    scores: np.ndarray  # (N,) float64
    masks: np.ndarray | None = None  # (H, W, N) bool
    poses: Poses | None = None


def read_truths(path: Path) -> Truths:
    """Of a file of `gts/`, or of results; an `InputError` if it is missing or damaged."""
    return _truths(_Content.read(path))


def read_result(path: Path) -> ImageResult:
    """Detections or estimated poses, `results_*.pkl`; an `InputError` if the file is missing or damaged."""
    content = _Content.read(path)
    image_path = content.values.get("image_path")
    if not isinstance(image_path, str):
        raise InputError(f"{path} has no image_path: {_REMEDY}")
    class_ids = content.classes("pred_class_ids")
    count = len(class_ids)
    return ImageResult(
        image_path,
        _truths(content),
        class_ids,
        content.array("pred_bboxes", count, 4),
        content.array("pred_scores", count),
        content.masks(count) if "pred_masks" in content.values else None,
        _poses(content, count) if "pred_RTs" in content.values else None,
    )


def write_truths(path: Path, truths: Truths) -> None:
    """Writes a file as those of `gts/`."""
    write_pickle(path, _stored(truths))


def write_result(path: Path, result: ImageResult) -> None:
    """Writes the original's form, which its own evaluation reads."""
    content: dict[str, Any] = {
        "image_path": result.image_path,
        **_stored(result.truths),
        "pred_class_ids": result.class_ids.astype(np.int32),
        "pred_bboxes": np.rint(result.boxes).astype(np.int32),
        "pred_scores": result.scores.astype(np.float32),
    }
    if result.masks is not None:
        content["pred_masks"] = result.masks
    if result.poses is not None:
        content |= {"pred_RTs": result.poses.RTs, "pred_scales": result.poses.scales}
    write_pickle(path, content)


def _stored(truths: Truths) -> dict[str, np.ndarray]:
    return {
        "gt_class_ids": truths.class_ids.astype(np.int32),
        "gt_bboxes": np.rint(truths.boxes).astype(np.int32),
        "gt_RTs": truths.RTs,
        "gt_scales": truths.scales,
        "gt_handle_visibility": truths.handle_visible.astype(np.int64),
    }


def _truths(content: _Content) -> Truths:
    class_ids = content.classes("gt_class_ids")
    count = len(class_ids)
    visible = np.ones(count, dtype=bool)  # as NOCS takes it where a file does not say
    if "gt_handle_visibility" in content.values:
        visible = content.array("gt_handle_visibility", count) != 0
    return Truths(
        class_ids,
        content.array("gt_bboxes", count, 4),
        content.array("gt_RTs", count, 4, 4),
        content.array("gt_scales", count, 3),
        visible,
    )


def _poses(content: _Content, count: int) -> Poses:
    return Poses(content.array("pred_RTs", count, 4, 4), content.array("pred_scales", count, 3))


@dataclass(frozen=True)
class _Content:
    """A file's dictionary, of which every array is checked."""

    path: Path
    values: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> _Content:
        values = read_pickle(path)
        if not isinstance(values, dict):
            raise InputError(f"{path} holds no dictionary of arrays: {_REMEDY}")
        return cls(path, values)

    def array(self, key: str, *shape: int) -> np.ndarray:
        """float64 of a shape; one without rows may be stored as an array of another shape."""
        values = self._numbers(key).astype(np.float64)
        if shape[0] == 0 and values.size == 0:
            return np.zeros(shape)
        if values.shape != shape:
            raise InputError(f"{self.path}: {key} has the shape {values.shape}, not {shape}: {_REMEDY}")
        if not np.isfinite(values).all():
            raise InputError(f"{self.path}: {key} has numbers that are not finite: {_REMEDY}")
        return values

    def classes(self, key: str) -> np.ndarray:
        """(N,) int64."""
        values = self.array(key, self._numbers(key).size)
        if not np.isin(values, range(1, len(CLASSES) + 1)).all():
            raise InputError(f"{self.path}: {key} has others than classes 1 to {len(CLASSES)}: {_REMEDY}")
        return values.astype(np.int64)

    def masks(self, count: int) -> np.ndarray:
        """(H, W, count) bool; (0, 0, 0) of a file without detections that does not tell the image's size."""
        values = self._numbers("pred_masks")
        if count == 0 and values.ndim != 3:
            return np.zeros((0, 0, 0), dtype=bool)
        if values.ndim != 3 or values.shape[2] != count:
            shape = f"{values.shape}, not (height, width, {count})"
            raise InputError(f"{self.path}: pred_masks has the shape {shape}: {_REMEDY}")
        return values != 0

    def _numbers(self, key: str) -> np.ndarray:
        if key not in self.values:
            raise InputError(f"{self.path} lacks {key}: {_REMEDY}")
        try:
            values = np.asarray(self.values[key])
        except MALFORMED:
            values = np.array("")
        if values.dtype.kind not in "biuf":
            raise InputError(f"{self.path}: {key} holds no numbers: {_REMEDY}")
        return values
