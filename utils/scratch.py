"""Temporary folders that are removed even if the program is killed.

Every folder is locked by its process; the system releases the lock when the process ends, so an unlocked
folder is a leftover.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from picopose.utils.errors import InputError
from picopose.utils.files import lock

PREFIX = "picopose-scratch-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new temporary folder, removed at the end of the block or, after a kill, by `remove_leftovers`."""
    folder, opened = _make()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(opened)


def remove_leftovers() -> None:
    """Removes the folders that killed processes of this user left behind."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        opened = _locked(folder)
        if opened is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(opened)


def _make() -> tuple[Path, int]:
    """A new folder and its lock."""
    for _ in range(3):  # a program that is just starting may take a new folder for a leftover
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        opened = _locked(folder)
        if opened is not None:
            return folder, opened
        shutil.rmtree(folder, ignore_errors=True)
    raise InputError(f"{tempfile.gettempdir()}: folders cannot be locked there, name another with TMPDIR")


def _locked(folder: Path) -> int | None:
    """An open lock on a folder; None if it is locked, gone, or not one of this user's folders."""
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    if lock(opened) and os.fstat(opened).st_uid == os.getuid() and folder.exists():
        return opened
    os.close(opened)
    return None
