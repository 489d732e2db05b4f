"""What makes a test run resumable: finished images, appended line by line to a file per process.

A process killed while it writes leaves half a line, which the next reader ignores. A file that is deleted
under the process is written again.
"""

import json
import logging
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from picopose.datasets.bop.image_result import ImageResult, from_json, to_json
from picopose.utils.errors import MALFORMED, InputError
from picopose.utils.files import make_folder, write_atomically, write_error

_LOG = logging.getLogger(__name__)

Fingerprint = Mapping[str, str | int | float | bool | None]


class Journal:
    """The finished images of one process.

    Args:
        folder: where the journals of a run lie; all its processes share it.
        fingerprint: everything that the poses depend on, by name; a journal with another one is refused,
            and one without a finished image begun anew.
        rank: of this process.
    """

    def __init__(self, folder: Path | str, fingerprint: Fingerprint, *, rank: int = 0):
        self._path = _path(folder, rank)
        make_folder(self._path.parent)
        lines = _whole_lines(self._path)
        _check(self._path, lines, fingerprint)
        self._lines = lines if len(lines) > 1 else [_encode({"fingerprint": dict(fingerprint)})]
        self._open()

    def append(self, result: ImageResult) -> None:
        """Adds one finished image; it survives the end of the process, however sudden."""
        self._restore()
        self._lines.append(_encode(_with_sum(result)))
        self._write(self._lines[-1])

    def close(self) -> None:
        self._restore()
        os.fsync(self._file)
        os.close(self._file)

    def _open(self) -> None:
        """The file with the lines that there are, without a half one at its end."""
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        whole = sum(map(len, self._lines))
        if len(self._lines) == 1 or os.fstat(self._file).st_size < whole:
            os.ftruncate(self._file, 0)
            self._write(b"".join(self._lines))
        else:
            os.ftruncate(self._file, whole)

    def _write(self, content: bytes) -> None:
        try:
            while content:
                content = content[os.write(self._file, content) :]
        except OSError as error:
            raise write_error(self._path, error) from error

    def _restore(self) -> None:
        """Writes the file again if somebody has deleted it or its folder while the run goes on."""
        if not self._path.exists():
            _LOG.warning("%s was deleted meanwhile and is written again", self._path)
            os.close(self._file)
            make_folder(self._path.parent)
            self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def read_journals(folder: Path | str, fingerprint: Fingerprint) -> dict[tuple[int, int], ImageResult]:
    """The finished images of all processes of a run, by (scene_id, im_id); empty where nothing was begun.

    Raises an `InputError` for a journal of another configuration or a damaged one.
    """
    results = {}
    for path in _paths(folder):
        lines = _whole_lines(path)
        _check(path, lines, fingerprint)
        for number, line in enumerate(lines[1:], start=2):
            result = _result(line, f"{path}, line {number}")
            results.setdefault(result.image, result)
    return results


def write_journal(folder: Path | str, fingerprint: Fingerprint, results: Iterable[ImageResult]) -> None:
    """Replaces the journals of all processes by one of these finished images."""
    first = _path(folder, 0)
    with write_atomically(first) as temporary:
        lines = [{"fingerprint": dict(fingerprint)}, *map(_with_sum, results)]
        temporary.write_bytes(b"".join(map(_encode, lines)))
    for path in _paths(folder):
        if path != first:
            path.unlink()


def _path(folder: Path | str, rank: int) -> Path:
    return Path(folder) / f"rank{rank}.jsonl"


def _paths(folder: Path | str) -> list[Path]:
    return sorted(Path(folder).glob("rank*.jsonl"))


def _encode(entry: dict) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _with_sum(result: ImageResult) -> dict:
    """A result as JSON values, with what tells whether they are still those that were written."""
    return to_json(result) | {"sum": _sum(result)}


def _sum(result: ImageResult) -> int:
    return zlib.crc32(_encode(to_json(result)))


def _whole_lines(path: Path) -> list[bytes]:
    """The lines of a journal without the half one at its end; none if it is not there."""
    if not path.exists():
        return []
    try:
        return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): delete it to start again") from None


def _check(path: Path, lines: list[bytes], fingerprint: Fingerprint) -> None:
    """Raises an `InputError` for what is no journal, and for finished images of another run.

    A journal that lacks an entry, or has one more, is of another version of the program, which is none of
    the run's business: the inputs of each image tell.
    """
    if not lines:
        return
    try:
        found = dict(json.loads(lines[0])["fingerprint"])
    except MALFORMED:
        raise InputError(f"{path} does not begin like a journal: delete it to start again") from None
    differing = sorted(key for key in found.keys() & fingerprint.keys() if found[key] != fingerprint[key])
    if differing and len(lines) > 1:  # a run that failed at once does not stand in the way of its remedy
        changed = f"{path} belongs to a run that differs in {', '.join(differing)}"
        raise InputError(f"{changed}: name another log_dir or version_id, or delete it")


def _result(line: bytes, where: str) -> ImageResult:
    try:
        entry = json.loads(line)
        result = from_json(entry)
        if entry.get("sum") != _sum(result):
            raise ValueError("its check sum is another")
    except MALFORMED as error:
        raise InputError(f"{where} is damaged ({error!r}): delete the file to start again") from None
    return result
