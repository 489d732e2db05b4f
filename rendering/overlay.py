"""Draws an estimated pose onto its photo, for people to look at."""

from collections.abc import Sequence

import cv2
import numpy as np

GREEN = (60, 220, 80)


def draw_outline(
    image: np.ndarray, mask: np.ndarray, colour: Sequence[int] = GREEN, *, width: int | None = None
) -> np.ndarray:
    """The image (H, W, 3) uint8 with the outlines of a mask (H, W) bool, `width` px wide."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    width = width or max(1, round(image.shape[1] / 300))
    return cv2.drawContours(
        np.ascontiguousarray(image).copy(), outlines, -1, tuple(colour), width, cv2.LINE_AA
    )


def draw_axes(image: np.ndarray, K: np.ndarray, cam_from_obj: np.ndarray, length: float) -> np.ndarray:
    """The image with the object frame's axes, `length` metres long: x red, y green, z blue."""
    points = np.vstack([np.zeros(3), length * np.eye(3)]) @ cam_from_obj[:3, :3].T + cam_from_obj[:3, 3]
    if points[:, 2].min() <= 0:
        return image
    xy = points @ K.T
    xy = np.round(xy[:, :2] / xy[:, 2:]).astype(int)
    image = image.copy()
    for end, colour in zip(xy[1:], ((230, 60, 60), (60, 220, 80), (70, 110, 255)), strict=True):
        cv2.line(image, xy[0].tolist(), end.tolist(), colour, max(1, image.shape[1] // 320), cv2.LINE_AA)
    return image
