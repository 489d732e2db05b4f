"""Writes files that are never half there, and locks folders against other programs.

Every writer of the program goes through these functions.
"""

import fcntl
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from picopose.utils.errors import DISK_FULL, InputError

_LOG = logging.getLogger(__name__)
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp(\.[^.]*)?")  # the names that `write_atomically` makes
_SAFETENSORS = re.compile(r"\.tmp[0-9A-Za-z]{6}")  # what that library writes before it takes the given name
_NEARLY_NOTHING = 1 << 16  # bytes free on a disk that a writer has just filled


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
