"""Ends training at SIGTERM or Ctrl-C when it is ready to: after the step under way."""

import signal


class StopRequest:
    """In a `with` block: true once SIGTERM or SIGINT came; a second SIGINT interrupts at once."""

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
