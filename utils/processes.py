"""Worker processes: one core each, and ended when their parent ends."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def stay_on_one_core() -> None:
    """Stops Mesa and OpenCV from using threads, which would compete with the other processes."""
    os.environ.setdefault("LP_NUM_THREADS", "0")
    cv2.setNumThreads(0)


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Blocks SIGINT; processes started in the block never receive it, only the one that started them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def end_with_parent() -> None:
    """From now on this process is killed when its parent ends, even if the parent is killed (Linux only).

    So no process of a killed run writes beside those of the next run. The parent must have started this
    process from a thread that lives as long as the parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():  # it ended before the request
        os._exit(1)
