"""Errors that a user can fix: one line that names the file or option and the remedy, exit code 2."""

import errno
import functools
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

# What Python raises when it converts malformed data from outside.
MALFORMED = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
_LONGEST = 600  # characters of a message
_OUT_OF_MEMORY = ("OutOfMemory", "can't allocate memory", "Insufficient memory")  # of torch and of OpenCV
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class InputError(ValueError):
    """A file or option that cannot be used; the message names it and the remedy.

    The message is cut to one short line of printable characters.
    """

    def __init__(self, message: str):
        if len(message) > _LONGEST:
            message = f"{message[: _LONGEST // 2]} ... {message[-_LONGEST // 2 :]}"
        line = re.sub(r"\s*[^\S ]\s*", " ", message.strip())
        super().__init__("".join(sign if sign.isprintable() else "\ufffd" for sign in line))


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C so that the program cleans up."""


def exits_cleanly(main: Callable | None = None, *, stopped: str = "stopped") -> Callable:
    """Decorates a program's `main`: errors that a user can fix end it with one line on stderr.

    Exit codes: 2 for an `InputError`, a full disk or too little memory; 130 after Ctrl-C and 143 after
    SIGTERM, with the line `stopped`; 141, silently, where nobody reads the output any more.
    """
    if main is None:
        return functools.partial(exits_cleanly, stopped=stopped)

    @functools.wraps(main)
    def wrapper(*args, **kwargs):
        try:
            with _terminated():
                return main(*args, **kwargs)
        except KeyboardInterrupt as error:
            print(f"\n{stopped}", file=sys.stderr)
            sys.exit(128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT))
        except BrokenPipeError:
            if not _is_unread(sys.stdout):
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or flushing at the end fails
            sys.exit(128 + signal.SIGPIPE)
        except Exception as error:
            if (line := _fixable(error)) is None:
                raise
            print(f"error: {line}", file=sys.stderr)
            sys.exit(2)

    return wrapper


def _is_unread(output: TextIO) -> bool:
    """Whether who reads an output has ended, such as `head`."""
    poll = select.poll()
    poll.register(output.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _fixable(error: Exception) -> str | None:
    """The line for an error that a user can fix; None for the program's own errors."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{os.strerror(error.errno)}: free some, or write elsewhere"
    text = str(error).split("\n")[0]
    if isinstance(error, MemoryError) or any(words in f"{type(error)} {text}" for words in _OUT_OF_MEMORY):
        return f"out of memory ({text or 'none left'}): end other programs, or give smaller files and photos"
    return None


@contextmanager
def _terminated() -> Iterator[None]:
    """Turns SIGTERM into `Terminated`, except under torchrun, where other processes may be waiting."""
    alone = os.environ.get("WORLD_SIZE", "1") == "1"
    if not alone or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
