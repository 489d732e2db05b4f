"""Frames of a camera: the newest one, whatever the reader's pace."""

import threading
import time

import numpy as np
import pytest

from picopose.datasets import live
from picopose.datasets.live import Newest, is_live, open_live
from picopose.utils.errors import InputError


class Camera:
    """Gives frames whose blue is their number, each when it is let go."""

    def __init__(self, count: int):
        self.count, self.given, self.released = count, 0, False
        self.go = threading.Semaphore(0)

    def read(self):
        self.go.acquire()
        if self.given == self.count:
            return False, None
        self.given += 1
        return True, np.full((2, 2, 3), (self.given, 0, 0), np.uint8)

    def release(self):
        self.released = True

    def let_go(self, count: int) -> None:
        self.go.release(count)
        deadline = time.monotonic() + 10
        while self.go._value and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)


def test_a_slow_reader_gets_the_newest_frame():
    camera = Camera(10)
    newest = Newest(camera)
    frames = iter(newest)
    camera.let_go(1)
    first_time, first = next(frames)
    assert first[0, 0].tolist() == [0, 0, 1]  # RGB
    camera.let_go(5)
    second_time, second = next(frames)
    assert second[0, 0, 2] == 6 and newest.dropped == 4 and second_time > first_time
    camera.let_go(5)  # four more, and the end
    assert next(frames)[1][0, 0, 2] == 10
    assert next(frames, None) is None and camera.released


def test_a_silent_camera_ends(monkeypatch, caplog):
    monkeypatch.setattr(live, "PATIENCE", 0.05)
    camera = Camera(1)
    newest = Newest(camera)
    assert list(newest) == []
    assert "no frame for 0.05 s" in caplog.text
    camera.let_go(2)
    newest.close()
    assert camera.released


@pytest.mark.parametrize(
    ("source", "live"),
    [("0", True), ("rtsp://10.0.0.1/stream", True), ("clip.mp4", False), ("frames", False), ("-1", False)],
)
def test_what_is_a_camera(source, live):
    assert is_live(source) == live


def test_a_camera_that_is_not_there():
    with pytest.raises(InputError, match="camera 63 cannot be opened"):
        open_live("63")
