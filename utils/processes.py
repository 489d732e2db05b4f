"""Processes that share the cores of a machine, and that end with the one that started them."""

import ctypes
import multiprocessing
import os
import signal
import sys

import cv2

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def stay_on_one_core() -> None:
    """Keeps the threads of Mesa and OpenCV from competing with the other processes."""
    os.environ.setdefault("LP_NUM_THREADS", "0")
    cv2.setNumThreads(0)


def end_with_parent() -> None:
    """From now on this process ends at once when its parent does, however that comes about.

    So a killed run takes its processes along, and they do not write beside those of the next run. Linux sees
    to it; the parent must have started this process from a thread that lives as long as itself.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():  # it has ended before the request was made
        os._exit(1)
