"""Unpacks archives of strangers: nothing gets out of the folder, and no more than the disk can take."""

import lzma
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from tqdm import tqdm

from picopose.utils.errors import MALFORMED, InputError
from picopose.utils.files import check_space, write_error

_RATIO = 100  # bytes unpacked for a byte of an archive; beyond that it is made to fill disks
_SMALL = 1 << 20  # bytes that any archive may hold
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error)
_DAMAGED += (EOFError, RuntimeError, OSError, *MALFORMED)


class BadArchive(InputError):
    """A file that is no archive, or a damaged or harmful one."""


class _Member(NamedTuple):
    """A file or folder in an archive."""

    name: str
    size: int  # bytes, unpacked
    plain: bool  # neither a link nor a device
    folder: bool
    open: Callable[[], IO[bytes]]

    @property
    def path(self) -> PurePosixPath:
        return PurePosixPath(self.name.replace("\\", "/"))


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a zip or tar file into a folder, which is made if all in the archive is well.

    Raises:
        BadArchive: it is neither, or damaged; or it holds links, paths that lead out of the folder, or far
            more than its size suggests.
        InputError: the disk is too small.
    """
    try:
        with _members(archive) as found:
            members = list(_checked(found, archive))
            check_space(folder, sum(member.size for member in members), f"{archive.name}, unpacked,")
            folder.mkdir(parents=True, exist_ok=True)
            for member in tqdm(members, f"unpacking {archive.name}", unit="file", leave=False, disable=None):
                _write(member, folder.joinpath(*member.path.parts))
    except InputError:
        raise
    except _DAMAGED as error:
        full = write_error(folder, error) if isinstance(error, OSError) else None
        reason = str(error).split("\n")[0]
        raise full or BadArchive(f"{archive}: damaged, or no archive ({reason}); download it again") from None


@contextmanager
def _members(archive: Path) -> Iterator[Iterable[_Member]]:
    with open(archive, "rb") as file:
        zipped = file.read(2) == b"PK"
    if zipped:
        with zipfile.ZipFile(archive) as content:
            yield [_zipped(content, info) for info in content.infolist()]
    else:
        with tarfile.open(archive) as content:
            yield (_tarred(content, info) for info in content)


def _zipped(content: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 from systems without such kinds
    plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
    return _Member(info.filename, info.file_size, plain, info.is_dir(), partial(content.open, info))


def _tarred(content: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    plain = info.isreg() or info.isdir()
    return _Member(info.name, info.size, plain, info.isdir(), partial(content.extractfile, info))


def _checked(members: Iterable[_Member], archive: Path) -> Iterator[_Member]:
    """The members, of which none does harm."""
    limit, total = _RATIO * archive.stat().st_size + _SMALL, 0
    for member in members:
        if member.path.is_absolute() or ".." in member.path.parts or re.match(r"[A-Za-z]:", member.name):
            raise BadArchive(f"{archive}: {member.name!r} leads out of it; do not use this file")
        if not member.plain:
            raise BadArchive(f"{archive}: {member.name!r} is a link or a device; do not use this file")
        total += abs(member.size)  # a tar file's may be negative
        if total > limit:
            raise BadArchive(f"{archive}: unpacked it is over {_RATIO} times as large; do not use this file")
        yield member


def _write(member: _Member, path: Path) -> None:
    if member.folder:
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as source, open(path, "wb") as file:
        shutil.copyfileobj(source, file)
