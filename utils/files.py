"""Reading JSON that may be damaged and writing files that are never half there.

Every reader and writer of the program goes through these functions.
"""

import fcntl
import json
import logging
import os
import re
import reprlib
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from picopose.utils.errors import DISK_FULL, InputError

_LOG = logging.getLogger(__name__)
_CHUNK = 1 << 20  # characters
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp(\.[^.]*)?")  # the names that `write_atomically` makes
_SAFETENSORS = re.compile(r"\.tmp[0-9A-Za-z]{6}")  # what that library writes before it takes the given name
_NEARLY_NOTHING = 1 << 16  # bytes free on a disk that a writer has just filled
_GAP = re.compile(r"[\s,]*")
_DIGITS = re.compile(r"\s*[0-9]{1,19}\s*")
LARGEST_ID = 2**62  # times in nanoseconds serve as ids


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
        return open(path, encoding="utf-8-sig", errors="replace")
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


def finite_matrix(value: Any, rows: int, columns: int, where: str) -> list[float]:
    """As `finite_numbers`, row by row, of a matrix that may also be a list of its rows."""
    lists = isinstance(value, list) and all(isinstance(row, list) and len(row) == columns for row in value)
    numbers = [number for row in value for number in row] if lists else value
    return finite_numbers(numbers, rows * columns, where)


def integer(value: Any, where: str) -> int:
    """`value` of a JSON file as a whole number from 0 on, such as an id; it may be text that spells one."""
    number = value
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        number = int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:  # beyond, it is rounded
        number = int(value)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= LARGEST_ID:
        raise InputError(f"{where} must be an integer from 0 on, not {reprlib.repr(value)}: correct the file")
    return number


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


@contextmanager
def write_atomically(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `path`; it becomes `path` when the block ends without an error.

    The temporary name keeps the suffix, by which image writers choose their format; folders are made. What a
    killed process leaves of it is known by its name and by having no lock, see `remove_leftovers`.

    Raises an `InputError` where the disk is full, with its name, or where nothing can be written.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    try:
        with _held(temporary):
            yield temporary
            os.replace(temporary, path)
    except Exception as error:
        if (told := write_error(path, error)) is None:
            raise
        raise told from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _held(temporary: Path) -> Iterator[None]:
    """Makes the file, with a lock that ends with the process however it ends."""
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    try:
        lock(handle)
        yield
    finally:
        os.close(handle)


def write_error(path: Path, error: Exception) -> InputError | None:
    """What a failure to write `path` means to a user; None for an error that has nothing to do with it.

    Libraries tell of a full disk in words of their own, so the space that is left is looked at.
    """
    if isinstance(error, InputError):
        return None
    number = getattr(error, "errno", None)
    if in_words := re.search(r"\(os error (\d+)\)", str(error)):  # as safetensors tells it
        number = int(in_words[1])
    if number is not None and number not in DISK_FULL:
        ours = Path(getattr(error, "filename", None) or path).parent == path.parent
        reason = f"{path} cannot be written ({os.strerror(number)}): name another folder"
        return InputError(reason) if ours else None
    disk = path.parent.resolve()
    while not (disk.exists() and os.path.ismount(disk)):
        disk = disk.parent
    free = shutil.disk_usage(disk).free
    if number in DISK_FULL or free < _NEARLY_NOTHING:
        left = f"{free / 1e6:.1f} MB free on the disk at {disk}"
        return InputError(f"{path} does not fit, {left}: free some, or name another folder")
    return None


def make_folder(folder: Path, option: str = "") -> None:
    """Makes a folder and those above it; an `InputError`, which names the option, where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{option}{folder} cannot be made ({error.strerror}): name another folder") from None


@contextmanager
def locked(folder: Path, refusal: str) -> Iterator[None]:
    """Keeps other programs out of a folder, which is made; an `InputError` with `refusal` if one is in it."""
    make_folder(folder)
    handle = os.open(folder, os.O_RDONLY)
    try:
        if lock(handle) is False:
            raise InputError(f"{folder}: {refusal}")
        yield
    finally:
        os.close(handle)


def remove_leftovers(*folders: Path) -> None:
    """Removes, from folders and those below, what processes that were killed have left half written."""
    for folder in folders:
        hidden = list(folder.rglob(".*"))
        found = [path for path in hidden if _TEMPORARY.fullmatch(path.name)]
        removed = [path for path in found if _remove_if_left(path)]
        held = {path.parent for path in found if path not in removed}
        others = [path for path in hidden if _SAFETENSORS.fullmatch(path.name)]
        others = [path for path in others if path.parent not in held]  # else perhaps being written
        for path in others:
            path.unlink(missing_ok=True)
        if count := len(removed) + len(others):
            _LOG.info("%s: %d files that a killed run has left half written are removed", folder, count)


def _remove_if_left(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:  # finished meanwhile, or another user's
        return False
    try:
        if left := lock(handle) is True:
            path.unlink(missing_ok=True)
        return left
    finally:
        os.close(handle)


def lock(handle: int) -> bool | None:
    """Locks an open file or folder until it is closed or the process ends, however it ends.

    False where another process has it; None where the file system has no locks, so that nobody knows.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
