"""Reading JSON that may be damaged and writing files that are never half there.

Every reader and writer of the program goes through these functions.
"""

import json
import os
import re
import reprlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from utils.errors import InputError

_CHUNK = 1 << 20  # characters
_GAP = re.compile(r"[\s,]*")


def read_json(path: Path | str, *, remedy: str = "download or create it again") -> Any:
    """The content of a JSON file; an `InputError` names the file and the remedy where it cannot be read."""
    with _open(path, remedy) as file:
        text = file.read()
    if not text.strip():
        raise InputError(f"{path} is empty: {remedy}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is truncated or not JSON ({error}): {remedy}") from None


def iterate_json(path: Path | str, *, remedy: str = "download or create it again") -> Iterator[dict]:
    """The objects of a JSON list one by one, for files too large to hold: about a chunk is held at a time."""
    decoder = json.JSONDecoder()
    with _open(path, remedy) as file:
        text, position = file.read(_CHUNK).lstrip(), 1
        if not text.startswith("["):
            raise InputError(f"{path} is {'not a JSON list' if text else 'empty'}: {remedy}")
        while True:
            position = _GAP.match(text, position).end()
            if text[position : position + 1] == "]":
                return
            try:
                entry, position = decoder.raw_decode(text, position)
            except (ValueError, RecursionError) as error:  # perhaps only cut by the end of the chunk
                more = file.read(max(_CHUNK, len(text) - position))
                if not more:
                    raise InputError(f"{path} is truncated or not JSON ({error}): {remedy}") from None
                text, position = text[position:] + more, 0
                continue
            if not isinstance(entry, dict):
                raise InputError(f"{path} holds {reprlib.repr(entry)} where an object is expected: {remedy}")
            yield entry


def _open(path: Path | str, remedy: str) -> TextIO:
    try:
        return open(path, encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: {remedy}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {remedy}") from None


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
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
