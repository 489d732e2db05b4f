"""Importing PyTorch and the like: it takes seconds, so programs do it after they have read their options."""

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Around a program's heavy imports: Ctrl-C and SIGTERM end it at once; no garbage is collected.

    Some libraries swallow the exception that Ctrl-C raises. The million objects that they make all stay, and
    looking through them again and again would take a third of the time.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loaded = len(sys.modules)
    before = {number: signal.signal(number, _leave) for number in (signal.SIGINT, signal.SIGTERM)}
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > loaded:
            gc.freeze()
        gc.enable()
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, _frame: object) -> None:
    print("\nstopped", file=sys.stderr, flush=True)
    os._exit(128 + number)
