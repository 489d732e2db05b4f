"""Lens distortion and its removal from photos, with OpenCV's model."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from picopose.utils.errors import InputError

UNDISTORT = "undistort the photo first and pass the camera of that"
ALONG = 33  # points along the side of a box
BENT = 0.5  # of the distance to the centre, half way to the border: no lens distorts more


@dataclass(frozen=True)
class Lens:
    """Distortion coefficients of OpenCV's model; undistorted photos keep K and size."""

    coefficients: tuple[float, ...]  # k1 k2 p1 p2 [k3 [k4 k5 k6 ...]]
    where: str  # its source, for errors

    def __str__(self) -> str:
        return " ".join(f"{value:g}" for value in self.coefficients)

    def check(self, K: np.ndarray, width: int, height: int) -> None:
        """Refuses a distortion that no lens with camera K (3, 3) and photos of this size has."""
        away = np.diag([width / 4, height / 4])  # px from the centre: two points
        rays = np.column_stack([away / np.diag(K)[:2], np.ones(2)])
        bent = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), K, np.array(self.coefficients))[0][:, 0]
        moved = np.abs(bent - K[:2, 2] - away).max(axis=1)
        if not (moved < BENT * away.max(axis=1)).all():
            raise InputError(f"{self.where}: no lens has the distortion {self}: correct it")

    def straighten(self, image: np.ndarray, K: np.ndarray) -> np.ndarray:
        """An image (H, W) or (H, W, C) of a camera K (3, 3), undistorted."""
        return cv2.undistort(image, K, np.array(self.coefficients))

    def straighten_unmixed(self, values: np.ndarray, K: np.ndarray) -> np.ndarray:
        """Values (H, W) of pixels, such as depths, undistorted without mixing any; 0 where there is none."""
        size = values.shape[::-1]
        maps = cv2.initUndistortRectifyMap(K, np.array(self.coefficients), None, K, size, cv2.CV_32FC1)
        return cv2.remap(values, *maps, cv2.INTER_NEAREST)

    def straight_box(self, box: Sequence[float], K: np.ndarray) -> list[float]:
        """The bounding box (left, top, right, bottom) px of a box's content in the undistorted photo."""
        left, top, right, bottom = (float(value) - 0.5 for value in box)
        x, y = np.linspace(left, right, ALONG), np.linspace(top, bottom, ALONG)
        sides = [np.stack(np.broadcast_arrays(x, v), axis=-1) for v in (top, bottom)]
        sides += [np.stack(np.broadcast_arrays(u, y), axis=-1) for u in (left, right)]
        points = np.concatenate(sides)
        coefficients = np.array(self.coefficients)
        stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-9)
        straight = cv2.undistortImagePoints(points[:, None], K, coefficients, arg1=stop)[:, 0]
        rays = np.concatenate([straight, np.ones((len(straight), 1))], axis=1) @ np.linalg.inv(K).T
        again = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), K, coefficients)[0][:, 0]
        if not (np.abs(again - points) < 0.5).all():
            raise InputError(f"{self.where}: its distortion ({self}) cannot be undone at a box: {UNDISTORT}")
        (left, top), (right, bottom) = straight.min(axis=0) + 0.5, straight.max(axis=0) + 0.5
        return [left, top, right, bottom]
