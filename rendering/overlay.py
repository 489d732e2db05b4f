"""Draws an estimated pose and its matches onto the photo."""

from collections.abc import Sequence

import cv2
import numpy as np

from picopose.rendering.boxes import EDGES, corners
from picopose.rendering.mesh import Mesh

GREEN, YELLOW, ORANGE, RED = (60, 220, 80), (250, 210, 60), (255, 150, 30), (235, 50, 50)
PANEL = 480  # px, height of the pictures of matches
MARGIN = 0.1  # margin in the picture of matches, in longer sides of the box


def draw_pose(
    image: np.ndarray,
    mask: np.ndarray,
    mesh: Mesh,
    cam_from_obj: np.ndarray,
    K: np.ndarray,
    label: str,
    colour: Sequence[int] = GREEN,
) -> np.ndarray:
    """The photo (H, W, 3) uint8 with the bounding box, outline and axes of a mesh at a pose.

    The outline, of the mask (H, W) bool where the mesh is seen, and the label are of the colour.
    """
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    # The outline, whose colour has a meaning, is drawn over the bounding box.
    image = draw_outline(draw_bounding_box(image, K, cam_from_obj, low, high), mask, colour)
    image = draw_axes(image, K, cam_from_obj, float(np.linalg.norm(high - low)) / 2)
    if mask.any():
        left, top = np.argwhere(mask.T)[0][0], np.argwhere(mask)[0][0]
        image = draw_label(image, label, int(left), int(top), colour)
    return image


def draw_sized_box(
    image: np.ndarray,
    size: np.ndarray,
    cam_from_obj: np.ndarray,
    K: np.ndarray,
    label: str,
    colour: Sequence[int] = YELLOW,
) -> np.ndarray:
    """The photo (H, W, 3) uint8 with a box of `size` (3,) m about an object's origin, its axes and a label.

    The axes end at the box's faces; box and label are of the colour. Nothing is drawn of a box that reaches
    behind the camera.
    """
    half = np.asarray(size) / 2
    xy = _projected(corners(-half, half), K, cam_from_obj)
    if xy is None:
        return image
    image = draw_bounding_box(image, K, cam_from_obj, -half, half, colour)
    image = draw_axes(image, K, cam_from_obj, half)
    left, top = xy.min(axis=0).tolist()
    return draw_label(image, label, left, top, colour)


def draw_label(image: np.ndarray, label: str, left: int, top: int, colour: Sequence[int]) -> np.ndarray:
    """The image (H, W, 3) uint8 with text above a point (px), or within the image near to it."""
    image, (height, width) = image.copy(), image.shape[:2]
    scale = width / 1300
    extent = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, scale, max(1, round(4 * scale)))[0][0]
    low = min(max(top - round(10 * scale), round(24 * scale)), height)
    place = max(0, min(left, width - extent)), low
    for ink, weight in (((0, 0, 0), 4), (colour, 1.6)):  # a dark border keeps it legible
        thickness = max(1, round(weight * scale))
        cv2.putText(image, label, place, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, thickness, cv2.LINE_AA)
    return image


def draw_bounding_box(
    image: np.ndarray,
    K: np.ndarray,
    cam_from_obj: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    colour: Sequence[int] = YELLOW,
) -> np.ndarray:
    """The image with the edges of a box from corner `low` (3,) to `high` (3,), m in the object's frame."""
    xy = _projected(corners(low, high), K, cam_from_obj)
    if xy is None:
        return image
    image = image.copy()
    for first, second in EDGES:
        ends = xy[first].tolist(), xy[second].tolist()
        cv2.line(image, *ends, colour, max(1, image.shape[1] // 640), cv2.LINE_AA)
    return image


def _projected(points: np.ndarray, K: np.ndarray, cam_from_obj: np.ndarray) -> np.ndarray | None:
    """The pixels (N, 2) of points (N, 3) m in an object's frame; None if one is not before the camera."""
    seen = points @ cam_from_obj[:3, :3].T + cam_from_obj[:3, 3]
    if seen[:, 2].min() <= 0:
        return None
    xy = seen @ K.T
    return np.round(xy[:, :2] / xy[:, 2:]).astype(int)


def draw_matches(
    image: np.ndarray, beside: np.ndarray, there: np.ndarray, here: np.ndarray, box: Sequence[float]
) -> np.ndarray:
    """A picture (S, S, 3) beside the part of a photo about a box (4,) px, with lines between matched points.

    there (M, 2) px: points in the picture; here (M, 2) px: points in the photo (H, W, 3) uint8.
    """
    left, top, right, bottom = _about(box, image.shape)
    part = image[top:bottom, left:right]
    scale, zoom = PANEL / len(part), PANEL / len(beside)
    size = max(1, round(scale * part.shape[1])), PANEL
    photo = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    canvas = np.hstack([cv2.resize(beside, (PANEL, PANEL), interpolation=cv2.INTER_CUBIC), photo])
    there = (there + 0.5) * zoom
    here = (here - [left, top] + 0.5) * scale + [PANEL, 0]
    for start, end, colour in zip(there, here, _hues(there), strict=True):
        points = np.round(start).astype(int).tolist(), np.round(end).astype(int).tolist()
        cv2.line(canvas, *points, colour, 1, cv2.LINE_AA)
        for point in points:
            cv2.circle(canvas, point, 3, colour, -1, cv2.LINE_AA)
    return canvas


def _about(box: Sequence[float], shape: Sequence[int]) -> list[int]:
    """Left, top, right, bottom (px) of a box with a margin, clipped to an image of this shape."""
    margin = MARGIN * max(box[2] - box[0], box[3] - box[1])
    low = np.floor(np.maximum(np.subtract(box[:2], margin), 0)).astype(int)
    high = np.ceil(np.minimum(np.add(box[2:], margin), shape[1::-1])).astype(int)
    return [*low.tolist(), *high.tolist()]


def _hues(xy: np.ndarray) -> list[tuple[int, ...]]:
    """A colour for each point (M, 2) by its direction from the middle, so neighbours look alike."""
    offset = xy - xy.mean(axis=0) if len(xy) else xy
    angle = np.degrees(np.arctan2(offset[:, 1], offset[:, 0])) % 360
    hsv = np.stack([angle, np.full(len(xy), 0.8), np.ones(len(xy))], axis=-1).astype(np.float32)
    rgb = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0] if len(xy) else hsv
    return [tuple(map(int, colour)) for colour in np.round(255 * rgb)]


def draw_outline(image: np.ndarray, mask: np.ndarray, colour: Sequence[int]) -> np.ndarray:
    """The image (H, W, 3) uint8 with the outlines of a mask (H, W) bool."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    width = max(1, round(image.shape[1] / 300))
    return cv2.drawContours(image.copy(), outlines, -1, tuple(colour), width, cv2.LINE_AA)


def draw_axes(
    image: np.ndarray, K: np.ndarray, cam_from_obj: np.ndarray, length: float | np.ndarray
) -> np.ndarray:
    """The image with the object frame's axes, of one length or (3,) in m: x red, y green, z blue."""
    xy = _projected(np.vstack([np.zeros(3), length * np.eye(3)]), K, cam_from_obj)
    if xy is None:
        return image
    image = image.copy()
    for end, colour in zip(xy[1:], ((230, 60, 60), (60, 220, 80), (70, 110, 255)), strict=True):
        cv2.line(image, xy[0].tolist(), end.tolist(), colour, max(1, image.shape[1] // 320), cv2.LINE_AA)
    return image
