"""Writes files completely or not at all, and locks folders against other programs.

All files of the program are written with these functions.
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
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp(\.[^.]*)?")  # names made by `write_atomically`
_SAFETENSORS = re.compile(r"\.tmp[0-9A-Za-z]{6}")  # that library's temporary names
_NEARLY_NOTHING = 1 << 16  # bytes free on a full disk


@contextmanager
def write_atomically(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `path`; it becomes `path` when the block ends without an error.

    The temporary name keeps the suffix, by which image writers choose the format; folders are created.
    `remove_leftovers` finds the files of killed processes by their names and missing locks.

    Raises an `InputError` if the disk is full or the path cannot be written.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    try:
        with _held(temporary):
            yield temporary
            os.replace(temporary, path)
    except Exception as error:
        if (reported := write_error(path, error)) is None:
            raise
        raise reported from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _held(temporary: Path) -> Iterator[None]:
    """Creates the file with a lock, which the system releases when the process ends."""
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    try:
        lock(handle)
        yield
    finally:
        os.close(handle)


def write_error(path: Path, error: Exception) -> InputError | None:
    """A failure to write `path` as an `InputError`; None for an unrelated error.

    Libraries report a full disk in various ways, so the free space is checked.
    """
    if isinstance(error, InputError):
        return None
    number = getattr(error, "errno", None)
    if in_words := re.search(r"\(os error (\d+)\)", str(error)):  # as safetensors reports it
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
    """Creates a folder and its parents; raises an `InputError` that names the option if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{option}{folder} cannot be made ({error.strerror}): name another folder") from None


@contextmanager
def locked(folder: Path, refusal: str) -> Iterator[None]:
    """Locks a folder, created if missing; `InputError` with `refusal` if another program holds it."""
    make_folder(folder)
    handle = os.open(folder, os.O_RDONLY)
    try:
        if lock(handle) is False:
            raise InputError(f"{folder}: {refusal}")
        yield
    finally:
        os.close(handle)


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Locks a folder, created if missing, as `locked` does, but waits while another program holds it."""
    make_folder(folder)
    handle = os.open(folder, os.O_RDONLY)
    try:
        if lock(handle) is False:
            _LOG.warning("%s: another run is at work there; this one waits for it", folder)
            lock(handle, wait=True)
        yield
    finally:
        os.close(handle)


def size_in_words(count: float) -> str:
    """A number of bytes, in MB or GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raises an `InputError` unless so many bytes are free on the disk of a folder, which may be missing."""
    disk = folder.resolve()
    while not disk.exists():
        disk = disk.parent
    free = shutil.disk_usage(disk).free
    if needed > free:
        raise InputError(
            f"{what} needs {size_in_words(needed)} in {folder}, where {size_in_words(free)} are free: free "
            "some, or name another folder"
        )


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Waits until no other process is in such a block of the same path, of which nothing needs to exist.

    File systems without locks have nobody wait.
    """
    file = path.with_name(f".{path.stem}.lock")
    try:
        handle = os.open(file, os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise write_error(path, error) or error from error
    try:
        lock(handle, wait=True)
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(handle)


def remove_leftovers(*folders: Path) -> None:
    """Removes half-written files of killed processes from folders and their subfolders."""
    for folder in folders:
        hidden = list(folder.rglob(".*"))
        found = [path for path in hidden if _TEMPORARY.fullmatch(path.name)]
        removed = [path for path in found if _remove_if_left(path)]
        held = {path.parent for path in found if path not in removed}
        others = [path for path in hidden if _SAFETENSORS.fullmatch(path.name)]
        others = [path for path in others if path.parent not in held]  # otherwise perhaps being written
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


def lock(handle: int, *, wait: bool = False) -> bool | None:
    """Locks an open file or folder until it is closed or the process ends.

    False if another process holds the lock, unless it is to be waited for; None if the file system has no
    locks.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
