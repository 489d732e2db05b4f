"""Training instances that were prepared once: shards of masked points with their labels.

A shard holds the instances of a stretch of frames in two files: the points of all, one behind the other, and
a record an instance, which is written last.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from picopose.datasets.nocs.instances import Instance, Label
from picopose.datasets.nocs.layout import CLASSES
from picopose.utils.errors import InputError
from picopose.utils.files import write_atomically
from picopose.utils.lru import Lru
from picopose.utils.reading import read_array

POINT = np.dtype([("xyz", "f4", (3,)), ("rgb", "u1", (3,))])
RECORD = np.dtype(
    [
        ("end", "i8"),  # of its points among those of the shard
        ("class_id", "u1"),
        ("rotation", "f4", (4,)),
        ("translation", "f4", (3,)),
        ("size", "f4", (3,)),
    ]
)

_OPEN_SHARDS = 64
_REMEDY = "remove it and prepare the set again"


def points_path(folder: Path, number: int) -> Path:
    return folder / f"points-{number:06d}.npy"


def records_path(folder: Path, number: int) -> Path:
    """Where it is, the shard is complete."""
    return folder / f"instances-{number:06d}.npy"


def write_shard(folder: Path, number: int, instances: Iterable[Instance]) -> None:
    """Writes the instances of one shard; one that is killed leaves none."""
    made = list(instances)
    points = np.zeros(sum(len(instance.points) for instance in made), POINT)
    records, start = np.zeros(len(made), RECORD), 0
    for record, instance in zip(records, made, strict=True):
        end, label = start + len(instance.points), instance.label
        points["xyz"][start:end], points["rgb"][start:end] = instance.points, instance.rgb
        record["end"], record["class_id"] = end, instance.class_id
        record["rotation"], record["translation"] = label.rotation, label.translation
        record["size"] = label.size
        start = end
    for path, array in ((points_path(folder, number), points), (records_path(folder, number), records)):
        with write_atomically(path) as temporary:
            np.save(temporary, array)


class PreparedInstances:
    """The instances of a folder's first `shards` shards, a sequence; points stay on the disk until asked for.

    Raises an `InputError` for a shard that is missing or damaged.
    """

    def __init__(self, folder: Path, shards: int):
        self._folder = folder
        self._records = [_read(records_path(folder, number), RECORD) for number in range(shards)]
        for number, records in enumerate(self._records):
            _check(records, records_path(folder, number))
        self._ends = np.cumsum([len(records) for records in self._records])
        self._points = Lru(_OPEN_SHARDS)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Instance:
        if not 0 <= index < len(self):
            raise IndexError(index)
        shard = int(np.searchsorted(self._ends, index, side="right"))
        place = index - int(self._ends[shard - 1] if shard else 0)
        record = self._records[shard][place]
        start = int(self._records[shard][place - 1]["end"]) if place else 0
        points = self._points.get(shard, self._open)[start : int(record["end"])]
        if not np.isfinite(points["xyz"]).all():
            raise InputError(f"{points_path(self._folder, shard)} has points that are not finite: {_REMEDY}")
        label = Label(*(np.array(record[name]) for name in ("rotation", "translation", "size")))
        return Instance(int(record["class_id"]), points["xyz"].copy(), points["rgb"].copy(), label)

    def _open(self, shard: int) -> np.ndarray:
        path, records = points_path(self._folder, shard), self._records[shard]
        points, expected = _read(path, POINT), int(records[-1]["end"]) if len(records) else 0
        if len(points) != expected:
            raise InputError(f"{path} has {len(points)} points, not {expected}: {_REMEDY}")
        return points


def _read(path: Path, kind: np.dtype) -> np.ndarray:
    """The records (N,) of a file, read when they are used."""
    try:
        records = read_array(path)
        if records.ndim != 1 or records.dtype != kind:
            raise ValueError("other records")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is missing or damaged ({error}): {_REMEDY}") from None
    return records


def _check(records: np.ndarray, path: Path) -> None:
    """An `InputError` for records that cannot be."""
    counts = np.diff(records["end"], prepend=0)
    known = (records["class_id"] > 0) & (records["class_id"] <= len(CLASSES))
    norms = np.linalg.norm(records["rotation"], axis=1)
    finite = np.isfinite(records["translation"]).all() and np.isfinite(records["size"]).all()
    sound = (counts > 0).all() and known.all() and finite and (np.abs(norms - 1) < 1e-3).all()
    if not (sound and (records["size"] > 0).all()):
        raise InputError(f"{path} has instances that cannot be: {_REMEDY}")
