"""Makes the frames of the set in several processes; what was interrupted is gone on with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

from picopose.datasets.nocs.detections import read_result
from picopose.datasets.nocs.layout import find_frame
from picopose.datasets.training.sources import digest
from picopose.utils.errors import InputError
from picopose.utils.files import locked, remove_leftovers, write_atomically
from picopose.utils.processes import run
from picopose.utils.reading import read_json
from tools.category_set.frames import DETECTIONS, FrameMaker
from tools.mini_set.bop_files import segmentation, write_json

VERSION = 1  # of what a seed gives
MADE_WITH = "category_set.json"
LISTED = "detections.json"

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
        _begin(root, made_with)
        remove_leftovers(root)
        yield from run(partial(_write, root, tuple(backgrounds), seed), jobs, processes)
        _list_detections(root)


@cache
def _maker(root: Path, backgrounds: tuple[Path, ...], seed: int) -> FrameMaker:
    """This process's, with objects and backdrops kept from frame to frame."""
    return FrameMaker(root, backgrounds, seed)


def _write(root: Path, backgrounds: tuple[Path, ...], seed: int, job: tuple[str, int]) -> None:
    _maker(root, backgrounds, seed).write(*job)


def _begin(root: Path, made_with: Mapping[str, int | str]) -> None:
    path = root / MADE_WITH
    if path.is_file():
        if read_json(path, remedy=_REMEDY) != made_with:
            raise InputError(f"{path}: the folder holds a set of another seed or backgrounds: {_REMEDY}")
        return
    if any(root.iterdir()):
        raise InputError(f"{root} holds something else: {_REMEDY}")
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(made_with) + "\n", encoding="ascii")


def _list_detections(root: Path) -> None:
    """The detections of all frames in one JSON file, whose masks take a hundredth of the space."""
    entries = []
    for path in sorted((root / DETECTIONS).glob("*.pkl")):
        result = read_result(path)
        files = find_frame(root, result.image_path)
        for index, (top, left, bottom, right) in enumerate(result.boxes.astype(int).tolist()):
            entry = {"scene_id": int(files.folder), "image_id": int(files.number)}
            entry |= {"category_id": int(result.class_ids[index]), "score": round(result.scores[index], 4)}
            entry |= {"bbox": [left, top, right - left, bottom - top]}
            entries.append(entry | {"segmentation": segmentation(result.masks[..., index])})
    write_json(root / LISTED, entries)
