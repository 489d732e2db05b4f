"""The part of a photo about an object, as pictures of poses show it."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

SIDE = 320  # px, longer side of a photo's picture
_JPEG_QUALITY = 82
_MARGIN = 0.12  # about the object, as a share of its extent
_MIN_WINDOW = 48  # px of the photo


@dataclass(frozen=True)
class Picture:
    """A JPEG and the size of the coordinates that things are drawn in upon it."""

    uri: str
    width: float
    height: float


@dataclass(frozen=True, eq=False)
class PhotoPart:
    """The part of a photo that a picture shows, enlarged or made smaller."""

    window: tuple[int, int, int, int]  # px of the photo: left, top, right, bottom
    scale: float  # px of the picture per px of the photo
    photo_K: np.ndarray  # (3, 3)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture in px."""
        left, top, right, bottom = self.window
        return round(self.scale * (right - left)), round(self.scale * (bottom - top))

    @property
    def K(self) -> np.ndarray:
        """(3, 3) camera of the picture."""
        picture_from_photo = np.diag([self.scale, self.scale, 1.0])
        picture_from_photo[:2, 2] = self.scaled(np.zeros(2))
        return picture_from_photo @ self.photo_K

    def scaled(self, xy: np.ndarray) -> np.ndarray:
        """Points (..., 2) px of the photo in px of the picture."""
        return self.scale * (xy - self.window[:2] + 0.5) - 0.5


def photo_picture(rgb: np.ndarray, frame: PhotoPart) -> Picture:
    """A part of a photo (H, W, 3) uint8; it is the browser that enlarges."""
    left, top, right, bottom = frame.window
    part = rgb[top:bottom, left:right]
    if frame.scale < 1:
        part = cv2.resize(part, frame.size, interpolation=cv2.INTER_AREA)
    return Picture(jpeg(part), round(frame.scale * (right - left), 1), round(frame.scale * (bottom - top), 1))


def jpeg(rgb: np.ndarray) -> str:
    """A picture (H, W, 3) uint8 as a data URI."""
    options = (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1)
    _, content = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode("ascii")


def part_about(
    vertices: np.ndarray, poses: Sequence[np.ndarray], K: np.ndarray, size: tuple[int, int], *, side: int
) -> PhotoPart:
    """The part of a photo of size (H, W) with camera K (3, 3) that holds an object at several poses (3, 4) m.

    vertices (V, 3) m. Square where the photo allows, the longer side `side` px; the whole photo if nothing is
    in it.
    """
    window = _window(vertices, poses, K, size)
    return PhotoPart(window, side / max(window[2] - window[0], window[3] - window[1]), K)


def _window(
    vertices: np.ndarray, poses: Sequence[np.ndarray], K: np.ndarray, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom in px of the part of an image of size (H, W) that holds all poses' objects.

    Square where the image allows; the whole image if nothing is in it.
    """
    height, width = size
    low, high = np.array([width, height], float), np.zeros(2)
    for pose in poses:
        cam = vertices @ pose[:, :3].T + pose[:, 3]
        if not np.isfinite(cam).all() or cam[:, 2].min() <= 0:
            continue
        xy = cam @ K[:2].T / cam[:, 2:]
        if (xy.max(axis=0) > 0).all() and (xy.min(axis=0) < (width, height)).all():
            low, high = np.minimum(low, xy.min(axis=0)), np.maximum(high, xy.max(axis=0))
    low, high = np.clip(low, 0, (width, height)), np.clip(high, 0, (width, height))
    if (low >= high).any():
        return 0, 0, width, height
    side = max(_MIN_WINDOW, (1 + 2 * _MARGIN) * (high - low).max())
    extent = np.minimum(round(side), (width, height)).astype(int)
    corner = np.clip(np.round((low + high - extent) / 2), 0, np.array([width, height]) - extent).astype(int)
    return *corner.tolist(), *(corner + extent).tolist()
