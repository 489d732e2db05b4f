"""Prepares the training instances of a split in several processes; what was interrupted is gone on with."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from picopose.datasets.nocs.instances import instances_of
from picopose.datasets.nocs.layout import FrameFiles, list_frames
from picopose.datasets.nocs.prepared import PreparedInstances, records_path, write_shard
from picopose.datasets.training.streams import stream
from picopose.utils.errors import InputError
from picopose.utils.files import locked, remove_leftovers, write_atomically
from picopose.utils.processes import run
from picopose.utils.reading import integer, read_json

VERSION = 1  # of the shards and of what is drawn for them
MADE_WITH = "preparation.json"

_FRAMES = 200  # of a shard
_REMEDY = "remove the folder and prepare the set again"


@dataclass(frozen=True)
class _Job:
    """One shard."""

    folder: Path
    number: int
    frames: Sequence[FrameFiles]
    first: int  # of its frames, in the split
    seed: int


def prepare(
    root: Path, split: str, folder: Path, *, seed: int = 0, processes: int = 1, frames: int = _FRAMES
) -> Iterator[tuple[int, int]]:
    """Writes the instances of a split, yielding after each shard how many of all are done.

    A shard depends on the seed and its own frames alone, so that neither the number of processes nor an
    interruption changes it. An `InputError` names a damaged file, or a folder that is in use or holds the
    instances of something else.

    Args:
        root: the folder with `CAMERA`, `Real` and `obj_models`.
        frames: a shard.
    """
    listed = list_frames(root, split).frames
    names = zlib.crc32(" ".join(f"{files.folder}/{files.number}" for files in listed).encode())
    starts = range(0, len(listed), frames)
    made_with = {"version": VERSION, "split": split, "seed": seed, "frames": frames, "names": names}
    with locked(folder, "another program is preparing instances there: wait for it"):
        remove_leftovers(folder)
        _begin(folder, made_with | {"shards": len(starts)})
        jobs = [_Job(folder, n, listed[at : at + frames], at, seed) for n, at in enumerate(starts)]
        missing = [job for job in jobs if not records_path(folder, job.number).is_file()]
        done = len(jobs) - len(missing)
        yield done, len(jobs)
        for _ in run(_make, missing, processes):
            done += 1
            yield done, len(jobs)


def open_prepared(folder: Path) -> PreparedInstances:
    """The instances of a folder; an `InputError` unless its preparation has ended."""
    path = folder / MADE_WITH
    if not path.is_file():
        raise InputError(f"{path} not found: prepare the set first, see picopose nocs")
    made_with = read_json(path, remedy=_REMEDY)
    if not isinstance(made_with, dict) or made_with.get("version") != VERSION:
        raise InputError(f"{path} is no record of a preparation of version {VERSION}: {_REMEDY}")
    shards = integer(made_with.get("shards"), f"{path}: shards")
    if not all(records_path(folder, number).is_file() for number in range(shards)):
        raise InputError(f"{folder} lacks some of its {shards} shards: go on with its preparation")
    return PreparedInstances(folder, shards)


def _begin(folder: Path, made_with: dict[str, int | str]) -> None:
    path = folder / MADE_WITH
    if path.is_file():
        found = read_json(path, remedy=_REMEDY)
        if found != made_with:
            raise InputError(f"{path}: the folder holds instances of other frames or settings: {_REMEDY}")
        return
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(made_with, indent=1), encoding="utf-8")


def _make(job: _Job) -> None:
    write_shard(job.folder, job.number, (made for n in range(len(job.frames)) for made in _instances(job, n)))


def _instances(job: _Job, index: int) -> Iterator:
    random = np.random.RandomState(stream("nocs", job.seed, job.first + index).bit_generator)
    return instances_of(job.frames[index], random)
