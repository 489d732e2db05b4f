"""Ending a run when the system asks for it: the request is noted, and the run ends when it is ready."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Holds SIGINT back; processes that are begun meanwhile never get it, only the one that began them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


class StopRequest:
    """In a `with` block, true once the process got SIGTERM or SIGINT; a second SIGINT interrupts at once."""

    def __init__(self):
        self._requested = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        self._before = {
            number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        return self._requested

    def _note(self, number: int, _frame: object) -> None:
        self._requested = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
