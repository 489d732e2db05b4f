"""Reading JSON that may be damaged and writing files that are never half there.

Every reader and writer of the program goes through these two functions.
"""

import json
import os
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
    except json.JSONDecodeError as error:
        state = "is truncated" if error.pos >= len(text.rstrip()) - 1 else "is not JSON"
        raise InputError(f"{path} {state} ({error.msg}, line {error.lineno}): {remedy}") from None
    except RecursionError:
        raise InputError(f"{path} is not JSON of a data set (nested too deeply): {remedy}") from None


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
