"""Worker processes: one core each, and ended when their parent ends."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

import cv2

from picopose.utils.errors import InputError

Job = TypeVar("Job")
Result = TypeVar("Result")

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def run(task: Callable[[Job], Result], jobs: Sequence[Job], processes: int) -> Iterator[Result]:
    """The results of a task, each as soon as its job is done; with one process they are done here, in turn.

    Further processes are new ones, as forked ones could not use OpenGL. When the iteration is ended early,
    no further job is begun. Raises an `InputError` if a process is killed.
    """
    if processes <= 1:
        yield from map(task, jobs)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin)
    try:
        with without_interrupts():  # the processes end with their parent
            submitted = [pool.submit(task, job) for job in jobs]
        for done in as_completed(submitted):
            yield done.result()
    except BrokenProcessPool:
        raise InputError(
            "a process was ended from outside, perhaps for memory: use fewer processes"
        ) from None
    finally:  # after Ctrl-C no further job is begun
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    end_with_parent()
    stay_on_one_core()


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
