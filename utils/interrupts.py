"""Ctrl-C while a program's libraries are still being loaded, which takes seconds: one line, and out.

A program imports this before them, and only where it is the program. Some libraries would swallow the
exception that Python raises; nothing has begun by then that were to be cleared away.
"""

import os
import signal
import sys


def _leave(_number: int, _frame: object) -> None:
    print("\nstopped", file=sys.stderr, flush=True)
    os._exit(128 + signal.SIGINT)


def may_raise() -> None:
    """From here on Ctrl-C raises `KeyboardInterrupt` again, if it did not."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def leave_at_once() -> None:
    """Until `may_raise` is called."""
    signal.signal(signal.SIGINT, _leave)
