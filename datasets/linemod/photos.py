"""What the layouts of LINEMOD have in common: photos of one object with its pose, as a sequence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from picopose.datasets.images import read_image
from picopose.utils.errors import InputError
from picopose.utils.records import Observation

# Of LINEMOD's camera; its photos have 640 x 480 px.
K = np.array([[572.4114, 0.0, 325.2611], [0.0, 573.57043, 242.04899], [0.0, 0.0, 1.0]])


class Photos(Protocol):
    """A sequence of photos of one object."""

    def __len__(self) -> int: ...

    def photo(self, index: int) -> Observation:
        """Raises an `InputError` for files that are missing or damaged."""
        ...

    def name(self, index: int) -> str:
        """What an index shows, for messages."""
        ...


class Joined:
    """Photos of several sequences, one behind the other."""

    def __init__(self, parts: Sequence[Photos]):
        self._parts = list(parts)
        self._ends = np.cumsum([len(part) for part in self._parts])

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._parts else 0

    def photo(self, index: int) -> Observation:
        part, own = self._find(index)
        return part.photo(own)

    def name(self, index: int) -> str:
        part, own = self._find(index)
        return part.name(own)

    def _find(self, index: int) -> tuple[Photos, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        place = int(np.searchsorted(self._ends, index, side="right"))
        return self._parts[place], index - (int(self._ends[place - 1]) if place else 0)


def observation(
    photo: Path, depth: np.ndarray, K: np.ndarray, pose: np.ndarray, initial: np.ndarray | None = None
) -> Observation:
    """Of a photo file; depth (H, W) m of the object alone; K (3, 3); poses (4, 4) m."""
    rgb = read_image(photo)
    if tuple(rgb.shape[1:]) != depth.shape:
        sizes = [f"{shape[1]}x{shape[0]} px" for shape in (rgb.shape[1:], depth.shape)]
        raise InputError(f"{photo} has {sizes[0]}, and its depth {sizes[1]}: download both again")
    return Observation(
        rgb=rgb,
        depth=torch.from_numpy(np.ascontiguousarray(depth, dtype=np.float32)),
        K=torch.from_numpy(K).float(),
        cam_from_obj=torch.from_numpy(pose).float(),
        initial=None if initial is None else torch.from_numpy(initial).float(),
    )


def check_there(folder: Path, wanted: Iterable[str]) -> None:
    """An `InputError` that names the first file that a folder lacks."""
    there = names_in(folder)
    missing = next((name for name in wanted if name not in there), None)
    if missing is not None:
        raise InputError(f"{folder / missing} not found: download the set again, or correct its list")


def names_in(folder: Path) -> set[str]:
    """The names of the files in a folder; none if it is missing."""
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
