"""The frames of a video file, one after the other."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from picopose.utils.errors import InputError

SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")


def is_video(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def read_video(path: Path) -> Iterator[np.ndarray]:
    """The frames (H, W, 3) uint8 RGB, upright; an `InputError` for a file that has none."""
    capture = cv2.VideoCapture(str(path))
    try:
        empty = True
        while True:
            there, frame = capture.read()
            if not there:
                break
            empty = False
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()
    if empty:
        raise InputError(f"{path} cannot be read as a video: check the file, or convert it to MP4 (H.264)")
