"""What makes a test run resumable: finished images, appended line by line to a file per process.

A process killed while it writes leaves half a line, which the next reader ignores.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from datasets.results import ImageResult, from_json, to_json
from utils.errors import InputError

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
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"rank{rank}.jsonl"
        lines = _whole_lines(path)
        _check(path, lines, fingerprint)
        if len(lines) < 2:
            lines = []
        self._file = path.open("ab")
        self._file.truncate(sum(map(len, lines)))
        if not lines:
            self._write({"fingerprint": dict(fingerprint)})

    def append(self, result: ImageResult) -> None:
        """Adds one finished image; it survives the end of the process, however sudden."""
        self._write(to_json(result))

    def _write(self, entry: dict) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def read_journals(folder: Path | str, fingerprint: Fingerprint) -> dict[tuple[int, int], ImageResult]:
    """The finished images of all processes of a run, by (scene_id, im_id); empty where nothing was begun.

    Raises an `InputError` for a journal of another configuration or a damaged one.
    """
    results = {}
    for path in sorted(Path(folder).glob("rank*.jsonl")):
        lines = _whole_lines(path)
        _check(path, lines, fingerprint)
        for number, line in enumerate(lines[1:], start=2):
            result = _result(line, f"{path}, line {number}")
            results.setdefault(result.image, result)
    return results


def _whole_lines(path: Path) -> list[bytes]:
    """The lines of a journal without the half one at its end; none if it is not there."""
    if not path.exists():
        return []
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def _check(path: Path, lines: list[bytes], fingerprint: Fingerprint) -> None:
    """Raises an `InputError` for what is no journal, and for finished images of another run."""
    if not lines:
        return
    try:
        found = dict(json.loads(lines[0])["fingerprint"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} does not begin like a journal: delete it to start again") from None
    differing = sorted(
        key for key in found.keys() | fingerprint.keys() if found.get(key) != fingerprint.get(key)
    )
    if differing and len(lines) > 1:  # a run that failed at once does not stand in the way of its remedy
        changed = f"{path} belongs to a run with another {', '.join(differing)}"
        raise InputError(f"{changed}: name another log_dir or version_id, or delete it")


def _result(line: bytes, where: str) -> ImageResult:
    try:
        return from_json(json.loads(line))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{where} is damaged ({error!r}): delete the file to start again") from None
