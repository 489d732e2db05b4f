"""Makes the frames of the set in several processes; what was interrupted is gone on with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

from picopose.datasets.training.sources import digest
from picopose.utils.errors import InputError
from picopose.utils.files import locked, remove_leftovers, write_atomically
from picopose.utils.processes import end_with_parent, stay_on_one_core, without_interrupts
from picopose.utils.reading import read_json
from tools.category_set.frames import FrameMaker

VERSION = 1  # of what a seed gives
MADE_WITH = "category_set.json"

_FRAMES = 10  # that a process is given at a time
_REMEDY = "name another folder"


def make(
    root: Path, frames: Mapping[str, int], backgrounds: Sequence[Path], seed: int, processes: int
) -> Iterator[None]:
    """Makes the numbers of frames of `train` and `val` that are missing, yielding after each frame.

    An `InputError` for a folder that is in use or holds a set of another seed or other backgrounds.
    """
    made_with = {"version": VERSION, "seed": seed, "backgrounds": digest(backgrounds)}
    jobs = [(split, index) for split, count in frames.items() for index in range(count)]
    with locked(root, "another program makes a set there: wait for it"):
        remove_leftovers(root)
        _begin(root, made_with)
        with ProcessPoolExecutor(
            max(1, processes),
            get_context("spawn"),
            initializer=_begin_process,  # a fork has no OpenGL
        ) as pool:
            with without_interrupts():  # the processes end with their parent
                made = pool.map(
                    partial(_write, root, tuple(backgrounds), seed),
                    *zip(*jobs, strict=True),
                    chunksize=_FRAMES,
                )
            yield from made


def _begin_process() -> None:
    end_with_parent()
    stay_on_one_core()


@cache
def _maker(root: Path, backgrounds: tuple[Path, ...], seed: int) -> FrameMaker:
    """This process's, with objects and backdrops kept from frame to frame."""
    return FrameMaker(root, backgrounds, seed)


def _write(root: Path, backgrounds: tuple[Path, ...], seed: int, split: str, index: int) -> None:
    _maker(root, backgrounds, seed).write(split, index)


def _begin(root: Path, made_with: Mapping[str, int | str]) -> None:
    path = root / MADE_WITH
    if path.is_file():
        if read_json(path, remedy=_REMEDY) != made_with:
            raise InputError(f"{path}: the folder holds a set of another seed or backgrounds: {_REMEDY}")
    elif any(root.iterdir()):
        raise InputError(f"{root} holds something else: {_REMEDY}")
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(made_with) + "\n", encoding="ascii")
