"""Random access to the samples of WebDataset shards: tar files as they were downloaded, or unpacked.

WebDataset reads a tar from its beginning; here it is handed the stretch of the file that holds one sample, so
that any sample can be read at any time and a damaged shard costs only what it has lost.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tarfile
from pathlib import Path

import numpy as np
from webdataset.tariterators import base_plus_ext, group_by_keys, tar_file_expander

from utils.errors import InputError
from utils.files import read_json
from utils.lru import Lru

log = logging.getLogger(__name__)

OPEN_SHARDS = 64  # whose tables of contents a process keeps
Files = dict[str, bytes]  # of a sample: suffix -> content


class UnreadableSample(Exception):
    """A sample that is missing or damaged."""


class Shards:
    """The shards of a folder, whose samples `key_to_shard.json` lists.

    Args:
        folder: holds `shard-NNNNNN.tar`, or folders `shard-NNNNNN` of unpacked files, or all the files.
        listing: JSON, the shard's number by the sample's key.
        suffixes: of the files that make a sample, `rgb.jpg` for example.
    """

    def __init__(self, folder: Path, listing: Path, suffixes: tuple[str, ...]):
        self._folder, self._suffixes = folder, suffixes
        self._keys, self._numbers, self.starts = _read_listing(listing)
        self._flat = (folder / f"{self.key(0)}.{suffixes[0]}").is_file()
        self._contents = Lru(OPEN_SHARDS)
        self._reported: set[str] = set()
        if not self._flat and next(folder.glob("shard-*"), None) is None:
            raise InputError(f"{folder} holds no shard-*.tar and no unpacked samples: download the shards")

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, position: int) -> str:
        """The key of a sample; positions run through the shards one after the other."""
        return self._keys[position].decode()

    def shard(self, position: int) -> Path:
        """The tar, or the folder, that a sample lies in."""
        if self._flat:
            return self._folder
        number = self._numbers[np.searchsorted(self.starts, position, side="right") - 1]
        unpacked = self._folder / f"shard-{number:06d}"
        return unpacked if unpacked.is_dir() else unpacked.with_suffix(".tar")

    def read(self, position: int) -> Files:
        """The files of a sample.

        Raises `UnreadableSample` where any is missing or the shard is damaged; the log then names the shard.
        """
        shard, key = self.shard(position), self.key(position)
        try:
            if shard.suffix != ".tar":
                return {suffix: (shard / f"{key}.{suffix}").read_bytes() for suffix in self._suffixes}
            return self._read_tar(shard, key)
        except (OSError, ValueError, tarfile.TarError) as error:
            self.report(position, f"sample {key}: {error}")
            raise UnreadableSample(f"{shard}: {key}") from error

    def report(self, position: int, reason: str) -> None:
        """Logs that the shard of a sample is damaged, once for each shard."""
        shard = self.shard(position)
        if shard.name not in self._reported:
            self._reported.add(shard.name)
            log.warning("%s is damaged and used as far as it goes; download it again (%s)", shard, reason)

    def _read_tar(self, tar: Path, key: str) -> Files:
        contents = self._contents.get(tar, _table_of_contents)
        if key not in contents:
            raise ValueError("not in the tar")
        start, end = contents[key]
        with tar.open("rb") as file:
            file.seek(start)
            stretch = io.BytesIO(file.read(end - start) + bytes(2 * tarfile.BLOCKSIZE))  # a tar's end
        sample = next(group_by_keys(tar_file_expander([{"url": str(tar), "stream": stretch}])), {})
        missing = [suffix for suffix in self._suffixes if suffix not in sample]
        if missing:
            raise ValueError(f"lacks {', '.join(missing)}")
        return {suffix: sample[suffix] for suffix in self._suffixes}


def _read_listing(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys (N,) as bytes in the order of the shards, the shards' numbers (M,), and their first keys (M,).

    Arrays, since a dictionary of a million keys would take ten times the memory in every process.
    """
    table = read_json(path, remedy="download it with the shards")
    whole = isinstance(table, dict) and table and all(isinstance(n, int) for n in table.values())
    if not whole:
        raise InputError(f"{path} is no table of the shards by sample: download it with the shards")
    keys, numbers = np.array(list(table), dtype=np.bytes_), np.array(list(table.values()))
    order = np.lexsort([keys, numbers])
    shards, starts = np.unique(numbers[order], return_index=True)
    return keys[order], shards, starts


def _table_of_contents(tar: Path) -> dict[str, tuple[int, int]]:
    """First and last byte (exclusive) of every sample, from the headers alone, as far as they go."""
    contents: dict[str, tuple[int, int]] = {}
    # A truncated file ends in an error; what it lacks is noticed, and told, when it is asked for.
    with tarfile.open(tar, "r:") as archive, contextlib.suppress(tarfile.ReadError):
        for member in archive:
            key, _ = base_plus_ext(Path(member.name).name)
            if key is not None:
                first, _ = contents.get(key, (member.offset, 0))
                blocks = -(-member.size // tarfile.BLOCKSIZE)
                contents[key] = first, member.offset_data + blocks * tarfile.BLOCKSIZE
    return contents
