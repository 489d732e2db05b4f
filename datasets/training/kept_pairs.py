"""Training pairs that were rendered once and are kept on disk: shards, and what they were made with.

A shard holds the pairs of a stretch of scenes, a pure function of (seed, number of the shard), as records of
one size, so that any pair is read without its neighbours. Each time a pair comes up again its photo is turned
by other quarters of a circle; `pairs.Augmented` gives it other colours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from picopose.datasets.training.streams import stream
from picopose.utils.errors import InputError
from picopose.utils.files import write_atomically
from picopose.utils.lru import Lru
from picopose.utils.reading import integer, read_array, read_json
from picopose.utils.records import Pair, View

VERSION = 1  # of the records, and of what scenes and views are drawn with
SCENES = 64  # of a shard
DEPTH_STEPS = 65534  # between an object's nearest and farthest pixel
RECORD = "pairs.json"
FARTHEST = 100.0  # m; scenes are a few metres deep
REMEDY = "remove the folder and make the pairs again"


def record_type(size: int) -> np.dtype:
    """A pair with crops of `size` px as one record."""
    view = [
        ("rgb", "u1", (3, size, size)),
        ("mask", "u1", (size * size // 8,)),  # bits
        ("depth", "u2", (size, size)),  # 0: none; else steps from near to far, from 1 on
        ("range", "f4", (2,)),  # m: near and far
        ("K", "f4", (3, 3)),
        ("cam_from_obj", "f4", (4, 4)),
    ]
    return np.dtype([("real", view), ("template", view)])


def to_records(pairs: Sequence[Pair], size: int) -> np.ndarray:
    """Pairs as records (N,); colours are rounded to bytes and depths to steps of the object's own range."""
    records = np.zeros(len(pairs), record_type(size))
    for record, pair in zip(records, pairs, strict=True):
        for name, view in vars(pair).items():
            _fill(record[name], view)
    return records


def _fill(record: np.void, view: View) -> None:
    depth = view.depth.numpy()
    shown = depth > 0
    near, far = (depth[shown].min(), depth[shown].max()) if shown.any() else (0.0, 0.0)
    steps = np.rint((depth - near) / max(far - near, 1e-9) * DEPTH_STEPS) + 1
    record["rgb"] = (view.rgb * 255).round().byte().numpy()
    record["mask"] = np.packbits(view.mask.numpy())
    record["depth"] = np.where(shown, steps, 0)
    record["range"] = near, far
    record["K"], record["cam_from_obj"] = view.K.numpy(), view.cam_from_obj.numpy()


def from_record(record: np.void) -> Pair:
    return Pair(real=_view(record["real"]), template=_view(record["template"]))


def _view(record: np.void) -> View:
    near, far = record["range"]
    steps = torch.from_numpy(record["depth"].astype(np.float32))
    depth = near + (steps - 1) * float((far - near) / DEPTH_STEPS)
    size = len(steps)
    mask = np.unpackbits(record["mask"], count=size * size).reshape(size, size)
    return View(
        rgb=torch.from_numpy(record["rgb"].copy()) / 255,
        mask=torch.from_numpy(mask.view(bool)),
        K=torch.from_numpy(record["K"].copy()),
        depth=torch.where(steps > 0, depth, 0.0),
        cam_from_obj=torch.from_numpy(record["cam_from_obj"].copy()),
    )


def turned(view: View, quarters: int) -> View:
    """A view as a camera sees it that is turned about its optical axis by quarters of a circle; exact."""
    for _ in range(quarters % 4):
        x, y, z = view.cam_from_obj[:3]
        (fx, _, cx), (_, fy, cy), _ = view.K.tolist()
        right = view.rgb.shape[-1] - 1  # px, of the last column
        view = View(
            rgb=view.rgb.rot90(1, (-2, -1)),
            mask=view.mask.rot90(1, (-2, -1)),
            K=torch.tensor([[fy, 0, cy], [0, fx, right - cx], [0, 0, 1]]),
            depth=view.depth.rot90(1, (-2, -1)),
            cam_from_obj=torch.stack([y, -x, z, view.cam_from_obj[3]]),
        )
    return view.map(torch.Tensor.contiguous)


class KeptPairs:
    """The pairs of a folder over and over, in another order and turned otherwise each time.

    Args:
        made_with: what the run asks its pairs to be made with.

    Raises:
        InputError: there are none, not all, or such as were made with something else.
    """

    def __init__(self, folder: Path, made_with: Mapping[str, Any], *, seed: int):
        self._folder, self._seed = folder, seed
        record = read_record(folder)
        if record is None:
            raise InputError(f"{folder / RECORD} not found: make the pairs by python -m tools.keep_pairs")
        check_record(folder, record, made_with)
        self._ends, self._size = np.cumsum(record["shards"]), made_with["size"]
        if not len(self._ends) or self._ends[-1] == 0:
            raise InputError(f"{folder} holds no pairs yet: python -m tools.keep_pairs makes them")
        for number, count in enumerate(record["shards"]):
            if (found := len(self._open(number))) != count:
                raise InputError(f"{shard_path(folder, number)} has {found} pairs, not {count}: {REMEDY}")
        self._shards, self._orders = Lru(len(self._ends)), Lru(2)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def sample(self, index: int) -> Pair:
        record = self._record(self._place(index))
        if not (_can_be(record["real"]) and _can_be(record["template"])):
            raise InputError(f"{self.name(index)} is damaged: remove that file and make the pairs again")
        pair = from_record(record)
        quarters = int(stream("quarters", self._seed, index).integers(4))
        return replace(pair, real=turned(pair.real, quarters))

    def name(self, index: int) -> str:
        shard, place = self._found(self._place(index))
        return f"pair {place} of {shard_path(self._folder, shard)}"

    def _place(self, index: int) -> int:
        n_round, place = divmod(index, len(self))
        return int(self._orders.get(n_round, self._order)[place])

    def _order(self, n_round: int) -> np.ndarray:
        return stream("order", self._seed, n_round).permutation(len(self))

    def _found(self, place: int) -> tuple[int, int]:
        """The shard of a pair and its place there."""
        shard = int(np.searchsorted(self._ends, place, side="right"))
        return shard, place - int(self._ends[shard - 1] if shard else 0)

    def _record(self, place: int) -> np.void:
        shard, place = self._found(place)
        return self._shards.get(shard, self._open)[place]

    def _open(self, shard: int) -> np.ndarray:
        return read_shard(self._folder, shard, self._size)


def _can_be(view: np.void) -> bool:
    """Whether a view's numbers are those of a camera, of a pose and of distances."""
    K, pose, (near, far) = view["K"], view["cam_from_obj"], view["range"]
    if not (np.isfinite(K).all() and np.abs(pose).max() < FARTHEST and 0 <= near <= far < FARTHEST):
        return False
    is_camera = min(K[0, 0], K[1, 1]) > 0 and K[2].tolist() == [0, 0, 1]
    skewed = np.abs(pose[:3, :3] @ pose[:3, :3].T - np.eye(3)).max() > 0.01
    return is_camera and not skewed and pose[2, 3] > 0 and pose[3].tolist() == [0, 0, 0, 1]


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"pairs-{number:06d}.npy"


def write_shard(folder: Path, number: int, pairs: Iterable[Pair], size: int) -> None:
    with write_atomically(shard_path(folder, number)) as temporary:
        np.save(temporary, to_records(list(pairs), size))


def begin_record(folder: Path, made_with: Mapping[str, Any], seed: int) -> None:
    """Notes what a folder's pairs are made with, before the first is.

    Raises:
        InputError: the folder has pairs that were made with something else.
    """
    asked = {"version": VERSION, "seed": seed, "made_with": dict(made_with), "shards": []}
    record = read_record(folder)
    if record is not None:
        check_record(folder, record, made_with)
        if record["seed"] != seed:
            raise InputError(f"{folder} holds pairs of train.seed={record['seed']}: take another folder")
    _write(folder, record or asked)  # pairs that are there already stay in use while more are made


def read_shard(folder: Path, number: int, size: int) -> np.ndarray:
    """The records (N,) of a shard of pairs with crops of `size` px, read when they are used."""
    path = shard_path(folder, number)
    try:
        records = read_array(path)
        if records.ndim != 1 or records.dtype != record_type(size):
            raise ValueError(f"no pairs of {size} px")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is missing or damaged ({error}): remove it and make the pairs again"
        ) from None
    return records


def end_record(folder: Path, shards: int) -> int:
    """Notes that all shards are there; returns the number of pairs."""
    record = read_record(folder)
    counts = [len(read_shard(folder, number, record["made_with"]["size"])) for number in range(shards)]
    _write(folder, record | {"shards": counts})
    return sum(counts)


def read_record(folder: Path) -> dict[str, Any] | None:
    """What is noted of a folder's pairs; None where there is nothing."""
    path = folder / RECORD
    if not path.is_file():
        return None
    record = read_json(path, remedy=REMEDY)
    kinds = {"seed": int, "made_with": dict, "shards": list}
    if not isinstance(record, dict) or any(not isinstance(record.get(key), kinds[key]) for key in kinds):
        raise InputError(f"{path} is no record of pairs: {REMEDY}")
    return record | {"shards": [integer(count, f"{path}: shards") for count in record["shards"]]}


def check_record(folder: Path, record: Mapping[str, Any], made_with: Mapping[str, Any]) -> None:
    """Refuses a folder whose pairs are not those that are asked for."""
    found = {"version": record.get("version")} | record["made_with"]
    asked = {"version": VERSION} | json.loads(json.dumps(made_with))
    other = sorted(key for key in found.keys() | asked.keys() if found.get(key) != asked.get(key))
    if other:
        raise InputError(
            f"{folder} holds pairs that were made with other {', '.join(other)}: remove it, or take another "
            "folder, and make pairs by python -m tools.keep_pairs"
        )


def _write(folder: Path, record: Mapping[str, Any]) -> None:
    with write_atomically(folder / RECORD) as temporary:
        temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
