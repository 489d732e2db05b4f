"""The frames of a video file, one after the other."""

import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from picopose.utils.errors import InputError

LOG = logging.getLogger(__name__)
RATE, FASTEST = 30.0, 1000.0  # frames per second: where nothing is stated, and the most that is believed
SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")


def is_video(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def read_video(path: Path) -> Iterator[np.ndarray]:
    """The frames (H, W, 3) uint8 RGB, upright; an `InputError` for a file that has none.

    A file that ends early is told, with what can be read of it.
    """
    if not path.is_file():
        raise InputError(f"{path} not found: check the path")
    capture = cv2.VideoCapture(str(path))
    try:
        count, stated = 0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        while True:
            there, frame = capture.read()
            if not there:
                break
            count += 1
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()
    if 0 < count < stated:
        LOG.warning("%s: only %d of its %d frames can be read", path, count, stated)
    if count == 0:
        raise InputError(f"{path} cannot be read as a video: check the file, or convert it to MP4 (H.264)")


def rate_of(path: Path) -> float:
    """Frames per second of a video file as it states them; `RATE` where it does not."""
    capture = cv2.VideoCapture(str(path))
    try:
        stated = float(capture.get(cv2.CAP_PROP_FPS))
    finally:
        capture.release()
    return stated if 0 < stated <= FASTEST else RATE
