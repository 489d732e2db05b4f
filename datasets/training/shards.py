"""Random access to the samples of WebDataset shards: tar files as they were downloaded, or unpacked.

The headers of a tar are gone through once; after that only the stretch of the file that holds a sample is
read, so that any sample can be read at any time and a damaged shard costs only what it has lost. Nothing is
taken to be there because a header claims it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tarfile
from pathlib import Path

import numpy as np

from picopose.utils.errors import InputError
from picopose.utils.lru import Lru
from picopose.utils.reading import read_json

log = logging.getLogger(__name__)

OPEN_SHARDS = 64  # whose tables of contents a process keeps
MAX_HEADER = 1 << 20  # bytes
MAX_SAMPLE = 16 << 20  # bytes of all files of a sample; MegaPose's have less than one million
MAX_KEY = 200  # bytes
TOO_MANY, AT_LEAST = 0.9, 100  # share of unreadable samples that ends a run, once so many were met
Files = dict[str, bytes]  # of a sample: suffix -> content


class UnreadableSample(Exception):
    """A sample that is missing or damaged."""


class Shards:
    """The shards of a folder, whose samples `key_to_shard.json` lists.

    Shards that are not there are left out, and a line in the log says so.

    Args:
        folder: holds `shard-NNNNNN.tar`, or folders `shard-NNNNNN` of unpacked files, or all the files.
        listing: JSON, the shard's number by the sample's key.
        suffixes: of the files that make a sample, `rgb.jpg` for example.
    """

    def __init__(self, folder: Path, listing: Path, suffixes: tuple[str, ...]):
        self._folder, self._suffixes = folder, suffixes
        keys, numbers = _read_listing(listing)
        self._flat = (folder / f"{_text(keys[0])}.{suffixes[0]}").is_file()
        if not self._flat and next(folder.glob("shard-*"), None) is None:
            raise InputError(f"{folder} holds no shard-*.tar and no unpacked samples: download the shards")
        here = np.ones(len(keys), bool) if self._flat else self._that_are_here(numbers, listing)
        self._keys = keys[here]
        self._numbers, self.starts = np.unique(numbers[here], return_index=True)
        self._contents = Lru(OPEN_SHARDS)
        self._reported: set[str] = set()
        self._read, self._unreadable = 0, 0

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, position: int) -> str:
        """The key of a sample; positions run through the shards one after the other."""
        return _text(self._keys[position])

    def shard(self, position: int) -> Path:
        """The tar, or the folder, that a sample lies in."""
        if self._flat:
            return self._folder
        return self._path(self._numbers[np.searchsorted(self.starts, position, side="right") - 1])

    def read(self, position: int) -> Files:
        """The files of a sample.

        Raises `UnreadableSample` where any is missing or the shard is damaged; the log then names the shard.
        """
        shard, key = self.shard(position), self.key(position)
        self._read += 1
        try:
            if shard.suffix != ".tar":
                return {suffix: _content(shard / f"{key}.{suffix}") for suffix in self._suffixes}
            return self._read_tar(shard, key)
        except (OSError, ValueError, tarfile.TarError) as error:
            self.report(position, str(error))
            raise UnreadableSample(f"{shard}: {key}") from error

    def report(self, position: int, reason: str) -> None:
        """Notes an unreadable sample; the log names the first of each shard, and now and then their number.

        Raises:
            InputError: nearly all of the samples that were read so far are unreadable.
        """
        shard, sample = self.shard(position), f"sample {self.key(position)}: {reason}"
        self._unreadable += 1
        if self._unreadable >= AT_LEAST and self._unreadable > TOO_MANY * self._read:
            raise InputError(
                f"{self._folder}: {self._unreadable} of {self._read} samples cannot be read, the last in "
                f"{shard.name} ({sample}): download the shards again"
            )
        if shard.name not in self._reported:
            self._reported.add(shard.name)
            log.warning("%s is damaged and used as far as it goes; download it again (%s)", shard, sample)
        elif self._unreadable in (10**k for k in range(1, 10)):
            log.warning(
                "%d of the %d samples that this process has read were unreadable, the last in %s (%s)",
                *(self._unreadable, self._read, shard, sample),
            )

    def _path(self, number: int) -> Path:
        unpacked = self._folder / f"shard-{number:06d}"
        return unpacked if unpacked.is_dir() else unpacked.with_suffix(".tar")

    def _that_are_here(self, numbers: np.ndarray, listing: Path) -> np.ndarray:
        """(N,) bool, which samples lie in shards that were downloaded, by the samples' shards (N,)."""
        shards = np.unique(numbers)
        missing = np.array([number for number in shards if not self._path(number).exists()], dtype=int)
        if len(missing) == len(shards):
            raise InputError(f"{self._folder} holds none of the shards that {listing} lists: download them")
        if len(missing):
            log.warning(
                "%d of the %d shards that %s lists are not there, %s for one: training does without them",
                *(len(missing), len(shards), listing, self._path(missing[0])),
            )
        return ~np.isin(numbers, missing)

    def _read_tar(self, tar: Path, key: str) -> Files:
        contents = self._contents.get(tar, _table_of_contents)
        if key not in contents:
            raise ValueError("not in the tar")
        start, end = contents[key]
        if end - start > MAX_SAMPLE:
            raise ValueError(f"claims {end - start} bytes, more than any sample has")
        with tar.open("rb") as file:
            file.seek(start)
            sample = _files(file.read(end - start), key)
        missing = [suffix for suffix in self._suffixes if suffix not in sample]
        if missing:
            raise ValueError(f"lacks {', '.join(missing)}")
        return {suffix: sample[suffix] for suffix in self._suffixes}


def _read_listing(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Keys (N,), bytes of UTF-8 in the order of the shards, and the numbers of their shards (N,).

    Arrays, since a dictionary of a million keys would take ten times the memory in every process.
    """
    table = read_json(path, remedy="download it with the shards")
    whole = isinstance(table, dict) and table and all(map(_is_number, table.values()))
    names = [key.encode("utf-8", "surrogatepass") for key in table] if whole else []
    if not names or max(map(len, names)) > MAX_KEY:
        raise InputError(f"{path} is no table of the shards by sample: download it with the shards")
    keys, numbers = np.array(names, dtype=np.bytes_), np.array(list(table.values()))
    order = np.lexsort([keys, numbers])
    return keys[order], numbers[order]


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogatepass")


class _Headers(io.FileIO):
    """A tar whose headers are gone through: what they make `tarfile` ask for is given within reason.

    tarfile reads as many bytes as a header claims, and at the end of a file would wait for ever for the rest
    of a sparse member's map.
    """

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        if not (content := super().read(size)) and size:
            raise tarfile.ReadError("unexpected end of data")
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if offset < 0 and whence == io.SEEK_SET:
            raise tarfile.ReadError(f"a header leads to byte {offset}")
        return super().seek(offset, whence)


def _table_of_contents(tar: Path) -> dict[str, tuple[int, int]]:
    """First and last byte (exclusive) of every sample, from the headers alone, as far as they go."""
    contents: dict[str, tuple[int, int]] = {}
    reached = -1
    # A truncated file ends in an error; what it lacks is noticed, and told, when it is asked for.
    damage = (tarfile.TarError, ValueError, OverflowError, RecursionError)
    with (
        _Headers(tar) as file,
        contextlib.suppress(*damage),
        tarfile.open(fileobj=file, mode="r:") as archive,
    ):
        # A negative size would lead back to what was read already.
        while (member := archive.next()) is not None and member.offset > reached:
            reached = member.offset
            key, _, _ = Path(member.name).name.partition(".")
            first, _ = contents.get(key, (member.offset, 0))
            contents[key] = first, archive.offset
    return contents


def _files(stretch: bytes, key: str) -> Files:
    """The files of a sample, by suffix, from the stretch of a tar that holds them."""
    files: Files = {}
    with tarfile.open(fileobj=io.BytesIO(stretch), mode="r:") as archive:
        for member in archive:
            name, _, suffix = Path(member.name).name.partition(".")
            if name != key:
                continue
            suffix = suffix.lower()
            content = stretch[member.offset_data : member.offset_data + member.size]
            if suffix in files or not member.isreg() or member.issparse():
                raise ValueError(f"its {suffix} is there twice, or a link or a sparse file")
            if len(content) < member.size:
                raise ValueError(f"its {suffix} claims {member.size} bytes and brings {len(content)}")
            files[suffix] = content
    return files


def _content(path: Path) -> bytes:
    """An unpacked file of a sample."""
    if not path.is_file():
        raise ValueError(f"lacks {path.name}")
    if path.stat().st_size > MAX_SAMPLE:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes, more than any sample")
    return path.read_bytes()
