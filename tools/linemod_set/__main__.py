"""Makes a small set like LINEMOD of two objects of the project's own: `python -m tools.linemod_set OUT`.

OUT has the layouts of the original's downloads: DeepIM's real and synthetic photos, PVNet's fused ones,
VOC's backgrounds, models, and poses to begin with in the files of PoseCNN, PVNet and BOP.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from picopose.datasets.training.streams import stream
from picopose.model.rnnpose.quirks import MENDED
from picopose.model.rnnpose.samples import PoseNoise
from picopose.rendering.renderer import Renderer
from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.files import make_folder
from tools.linemod_set import files
from tools.linemod_set.drawing import Drawer
from tools.linemod_set.objects import Thing, things, write_models

NOISE = PoseNoise(15.0, (0.01, 0.01, 0.05))


@dataclass(frozen=True)
class Counts:
    """How many images there are of each kind, of each object."""

    train: int  # real photos
    test: int
    initial: int  # poses to begin with of a real photo for training
    synthetic: int
    fused: int
    backdrops: int  # of the whole set


def make(out: Path, counts: Counts, seed: int) -> None:
    """Writes the set to a folder that is not there or empty.

    Raises:
        InputError: the folder holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already, and not empty: name another folder")
    make_folder(out.parent)
    with (
        tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder,
        Renderer() as renderer,
    ):
        made = Path(folder) / "set"
        made.mkdir()
        _Maker(made, Drawer(renderer), counts, seed).make()
        made.replace(out)


class _Maker:
    """Writes a set, kind by kind; every image is a function of the seed and its number."""

    def __init__(self, root: Path, drawer: Drawer, counts: Counts, seed: int):
        self._root, self._drawer, self._counts, self._seed = root, drawer, counts, seed
        self._things = things()

    def make(self) -> None:
        counts = self._counts
        each = counts.synthetic + counts.fused
        total = counts.backdrops + counts.train + counts.test + len(self._things) * each
        with tqdm(total=total, unit="image") as self._progress:
            write_models(self._root, self._things)
            backdrops = self._backdrops()
            self._real()
            self._synthetic()
            self._fused(backdrops)

    def _backdrops(self) -> list[np.ndarray]:
        made = [self._drawer.surroundings(rng) for _, rng in self._numbers("tables", self._counts.backdrops)]
        files.write_backdrops(self._root, made)
        return made

    def _real(self) -> None:
        """Photos for training and tests; each shows all objects and is one of every object."""
        train, data = self._counts.train, self._root / files.REAL / "data"
        initial: dict[str, dict[int, np.ndarray]] = {thing.name: {} for thing in self._things}
        for number, rng in self._numbers("photos", train + self._counts.test):
            view = self._drawer.photo(rng, self._things)
            for seen in view.seen:
                files.write_observed(data, f"{seen.thing.obj_id:02d}", number, view, seen)
                if number < train:
                    for k in range(self._counts.initial):
                        self._rendered(data, number, k, seen.thing, disturbed(seen.cam_from_obj, rng))
                else:
                    initial[seen.thing.name][number] = disturbed(seen.cam_from_obj, rng)
        lists = self._root / files.REAL / "image_set/observed"
        splits = {"train": range(train), "test": range(train, train + self._counts.test)}
        for thing in self._things:
            for split, numbers in splits.items():
                lines = [f"{thing.obj_id:02d}/{number:06d}" for number in numbers]
                files.write_text(lists / f"{thing.name}_{split}.txt", lines)
        files.write_initial(self._root, initial, self._things)

    def _synthetic(self) -> None:
        """Objects in front of black, each with one pose to begin with."""
        folder = self._root / files.SYNTHETIC
        for thing in self._things:
            lines = []
            for number, rng in self._numbers(f"synthetic {thing.name}", self._counts.synthetic):
                view = self._drawer.alone(rng, thing)
                files.write_observed(folder / "data", thing.name, number, view, view.seen[0])
                pose = disturbed(view.seen[0].cam_from_obj, rng)
                self._rendered(folder / "data", number, 0, thing, pose)
                lines.append(f"{thing.name}/{number:06d}")
            listing = f"image_set/observed/LM6d_data_syn_train_observed_{thing.name}.txt"
            files.write_text(folder / listing, lines)

    def _fused(self, backdrops: Sequence[np.ndarray]) -> None:
        for thing in self._things:
            others = [other for other in self._things if other is not thing]
            for number, rng in self._numbers(f"fused {thing.name}", self._counts.fused):
                behind = backdrops[rng.integers(len(backdrops))]
                files.write_fused(self._root, number, self._drawer.fused(rng, thing, others, behind))

    def _rendered(self, data: Path, number: int, k: int, thing: Thing, pose: np.ndarray) -> None:
        files.write_rendered(data, number, k, self._drawer.at(thing, pose))

    def _numbers(self, kind: str, count: int):
        """Numbers from 0 on, each with its random numbers."""
        for number in range(count):
            yield number, stream(f"linemod {kind}", self._seed, number)
            self._progress.update()


def disturbed(pose: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A pose (4, 4) off the true one as those are that methods begin with."""
    noisy = NOISE.disturb(torch.from_numpy(pose).float(), torch.zeros(3), rng, MENDED)
    return noisy.double().numpy()


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    parser.add_argument("--train", type=int, default=60, help="real photos for training (default: 60)")
    parser.add_argument("--test", type=int, default=24, help="real photos for tests (default: 24)")
    parser.add_argument("--initial", type=int, default=10, help="noisy poses of each for training (10)")
    parser.add_argument("--synthetic", type=int, default=60, help="of each object (default: 60)")
    parser.add_argument("--fused", type=int, default=60, help="of each object (default: 60)")
    parser.add_argument("--backdrops", type=int, default=6, help="photos of tables (default: 6)")
    parser.add_argument("--seed", type=int, default=0)
    options = vars(parser.parse_args(argv))
    out, seed = options.pop("out"), options.pop("seed")
    for name, count in options.items():
        if count < 1:
            raise InputError(f"--{name} {count}: give at least 1")
    if seed < 0:
        raise InputError(f"--seed {seed}: give 0 or more")
    make(out, Counts(**options), seed)


if __name__ == "__main__":
    main()
