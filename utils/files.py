"""Reading JSON that may be damaged and writing files that are never half there.

Every reader and writer of the program goes through these functions.
"""

import json
import os
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils.errors import InputError


def read_json(path: Path | str, *, remedy: str = "download or create it again") -> Any:
    """The content of a JSON file; an `InputError` names the file and the remedy where it cannot be read."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: {remedy}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}): {remedy}") from None
    if not text.strip():
        raise InputError(f"{path} is empty: {remedy}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is truncated or not JSON ({error}): {remedy}") from None


def finite_numbers(value: Any, count: int, where: str) -> list[float]:
    """`value` of a JSON file as `count` finite numbers; `where` names file and entry in the error."""
    entries = value if isinstance(value, list) else [value]
    if len(entries) != count or not all(_is_finite(entry) for entry in entries):
        expected = f"{count} finite numbers" if count > 1 else "a finite number"
        raise InputError(f"{where} must be {expected}, not {reprlib.repr(value)}: correct the file")
    return [float(entry) for entry in entries]


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


@contextmanager
def write_atomically(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `path`; it becomes `path` when the block ends without an error.

    The temporary name keeps the suffix, by which image writers choose their format; folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
