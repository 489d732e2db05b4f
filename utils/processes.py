"""Processes that share the cores of a machine."""

import os

import cv2


def stay_on_one_core() -> None:
    """Keeps the threads of Mesa and OpenCV from competing with the other processes."""
    os.environ.setdefault("LP_NUM_THREADS", "0")
    cv2.setNumThreads(0)
