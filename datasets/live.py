"""Frames of a camera or a stream as they come; those that come too fast for the reader are dropped."""

import logging
import threading
import time
from collections.abc import Iterator
from typing import Protocol

import cv2
import numpy as np

from picopose.utils.errors import InputError

LOG = logging.getLogger(__name__)
PATIENCE = 10.0  # s without a frame after which a source is taken to have ended


class Capture(Protocol):
    """What is used of `cv2.VideoCapture`."""

    def read(self) -> tuple[bool, np.ndarray | None]: ...

    def release(self) -> None: ...


def is_live(source: str) -> bool:
    """Whether it names a camera by its number, or a stream by its address, and no file."""
    return source.isdecimal() or "://" in source


def open_live(source: str) -> Capture:
    """Opens a camera or a stream, see `is_live`; an `InputError` where that fails."""
    capture = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    if not capture.isOpened():
        what = f"camera {source}" if source.isdecimal() else source
        raise InputError(f"{what} cannot be opened: check that it is there and that nothing else uses it")
    return capture


class Newest:
    """The newest frame of a source whenever one is asked for.

    A thread reads all that comes and keeps the last, so that what works on frames drops some and does not
    lag behind. It ends when the source does.

    Attributes:
        dropped: how many frames nobody has asked for.
    """

    def __init__(self, capture: Capture):
        self.dropped = 0
        self._capture, self._began = capture, time.monotonic()
        self._frame: tuple[float, np.ndarray] | None = None
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        """Seconds since the source was opened, and the frame (H, W, 3) uint8 RGB."""
        while (newest := self._take()) is not None:
            seconds, frame = newest
            yield seconds, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        """Ends reading."""
        with self._changed:
            self._ended = True
        self._thread.join(PATIENCE)

    def _take(self) -> tuple[float, np.ndarray] | None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._frame is not None or self._ended, PATIENCE):
                LOG.warning("no frame for %g s: the camera or stream is taken to have ended", PATIENCE)
            newest, self._frame = self._frame, None
            return newest

    def _read(self) -> None:
        try:
            while not self._ended:
                there, frame = self._capture.read()
                if not there:
                    break
                with self._changed:
                    self.dropped += self._frame is not None
                    self._frame = time.monotonic() - self._began, frame
                    self._changed.notify()
        finally:
            self._capture.release()
            with self._changed:
                self._ended = True
                self._changed.notify()
