"""Renders training pairs once: python -m tools.keep_pairs --config config/lite.yaml --shards 160

They are stored in the folder `train_dataset.kept`. Existing shards are kept, so the same command continues an
interrupted run or adds more.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import torch

from picopose.datasets.training.kept_pairs import SCENES, begin_record, end_record, shard_path, write_shard
from picopose.datasets.training.shared_scenes import SharedScenes
from picopose.datasets.training.sources import made_with, make_scenes
from picopose.rendering.studio import Studio
from picopose.utils.config import Config
from picopose.utils.config_files import load_config
from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.processes import end_with_parent, stay_on_one_core


@cache
def _scenes(config: str, overrides: tuple[str, ...]) -> tuple[SharedScenes, Config]:
    """This process's scenes, with objects and templates cached from shard to shard."""
    loaded = load_config(config, overrides)
    data = loaded.train_dataset
    studio = Studio(max_faces=data.max_faces)
    return make_scenes(studio, data, size=loaded.model.size, seed=loaded.train.seed), loaded


def make_shard(config: str, overrides: tuple[str, ...], number: int) -> None:
    scenes, loaded = _scenes(config, overrides)
    numbers = range(number * SCENES, (number + 1) * SCENES)
    pairs = (pair for scene in numbers for pair in scenes.pairs(scene))
    write_shard(Path(loaded.train_dataset.kept), number, pairs, loaded.model.size)


def _begin_process() -> None:
    end_with_parent()
    stay_on_one_core()
    torch.set_num_threads(1)


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="config/lite.yaml")
    parser.add_argument("--shards", type=int, default=160, help=f"of {SCENES} scenes each, about 100 MB")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args()
    config = load_config(options.config, options.overrides)
    data = config.train_dataset
    if data.kept is None:
        raise InputError("train_dataset.kept is not set: name the folder that the pairs shall be kept in")
    folder = Path(data.kept)
    begin_record(folder, made_with(data, config.model.size), config.train.seed)
    missing = [n for n in range(options.shards) if not shard_path(folder, n).is_file()]
    start = time.perf_counter()
    # A forked process could not use OpenGL.
    with ProcessPoolExecutor(options.processes, get_context("spawn"), initializer=_begin_process) as pool:
        arguments = options.config, tuple(options.overrides)
        jobs = [pool.submit(make_shard, *arguments, number) for number in missing]
        for done, job in enumerate(as_completed(jobs), start=1):
            job.result()
            print(f"{done}/{len(missing)} shards, {time.perf_counter() - start:.0f} s", flush=True)
    print(f"{end_record(folder, options.shards)} pairs in {folder}")


if __name__ == "__main__":
    main()
