"""Errors that a user can mend: one line that names the file or option and the remedy, exit code 2."""

import functools
import sys
from collections.abc import Callable


class InputError(ValueError):
    """A file or option that cannot be used; the message is one line that names it and the remedy."""


def exits_cleanly(main: Callable) -> Callable:
    """Decorates a program's `main`: an `InputError` becomes its one line on stderr and exit code 2."""

    @functools.wraps(main)
    def wrapper(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)

    return wrapper
