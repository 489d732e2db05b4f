"""Training throughput by phase: `python -m benchmarks.training --config config/lite.yaml [key=value ...]`.

CPU time of one process for every phase of making a pair; pairs per second of the loader alone; a step's
forward and backward pass, so that the slower side of the two is seen; and both at once.
`--before key=value ...` measures another configuration first and tells how many times faster this one is.
Phases of making a pair are those of PicoPose's; `benchmarks.feeding` has the parts of any method's.
"""

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from multiprocessing import active_children
from pathlib import Path
from types import SimpleNamespace

import cv2
import torch

from benchmarks.latency import peak, reset_peak
from picopose.datasets.training.loader import Share, sample_loader
from picopose.datasets.training.pairs import Augmented, PairSource
from picopose.datasets.training.sources import make_scenes
from picopose.model.learner import Learner
from picopose.model.methods import learner_of
from picopose.model.picopose.learner import pair_source
from picopose.rendering.studio import Studio
from picopose.utils.config import Config
from picopose.utils.config_files import load_config
from picopose.utils.device import choose_device
from picopose.utils.errors import exits_cleanly
from picopose.utils.records import Pair

PHASES = ("load and make objects", "render photo", "render template", "render depth")
PHASES += ("read, crop, masks, scene",)
WARM_UP, SCENES_WARM_UP = 400, 150  # pairs, scenes


class TimedStudio(Studio):
    """A studio that adds up the CPU time of what it does."""

    def __init__(self, max_faces: int | None):
        super().__init__(max_faces=max_faces)
        self.seconds: Counter[str] = Counter()

    def photo(self, instances, K, width, height, **light):
        with self._timed("render photo" if light else "render template"):
            return super().photo(instances, K, width, height, **light)

    def depth(self, *arguments):
        with self._timed("render depth"):
            return super().depth(*arguments)

    @contextmanager
    def _timed(self, phase: str):
        start = time.process_time()
        yield
        self.seconds[phase] += time.process_time() - start


def _timed_method(name: str) -> Callable:
    def method(self, *arguments):
        with self._timed("load and make objects"):
            return getattr(Studio, name)(self, *arguments)

    return method


for _name in ("load", "vary", "random_shape", "random_image", "board", "hull", "template_poses"):
    setattr(TimedStudio, _name, _timed_method(_name))


def time_phases(config: Config, pairs: int) -> dict[str, float]:
    """CPU ms per pair by phase, in one process, once most objects of a pool have been shown."""
    studio, share = TimedStudio(config.train_dataset.max_faces), config.train_dataset.augment
    plain = replace(config, train_dataset=replace(config.train_dataset, augment=0.0))
    source = pair_source(plain, studio=studio)
    for index in range(WARM_UP):
        source.sample(index)
    studio.seconds.clear()
    start = time.process_time()
    made = [source.sample(index) for index in range(WARM_UP, WARM_UP + pairs)]
    phases = _by_phase(studio, time.process_time() - start, pairs)
    return phases | {"colours": time_colours(made, share)}


def time_scenes(config: Config, pairs: int) -> dict[str, float]:
    """CPU ms per pair by phase of those that are rendered once and kept."""
    studio = TimedStudio(config.train_dataset.max_faces)
    scenes = make_scenes(studio, config.train_dataset, size=config.model.size, seed=config.train.seed)
    number, made = 0, 0
    while number < SCENES_WARM_UP:
        scenes.pairs(number)
        number += 1
    studio.seconds.clear()
    start = time.process_time()
    while made < pairs:
        made += len(scenes.pairs(number))
        number += 1
    return _by_phase(studio, time.process_time() - start, made)


def _by_phase(studio: TimedStudio, total: float, pairs: int) -> dict[str, float]:
    seconds = studio.seconds | {PHASES[-1]: total - studio.seconds.total()}
    return {phase: 1000 * seconds[phase] / pairs for phase in PHASES if phase in seconds}


def time_colours(pairs: list[Pair], share: float) -> float:
    """CPU ms per pair."""
    source = Augmented(SimpleNamespace(sample=pairs.__getitem__), seed=0, share=share)
    start = time.process_time()
    for index in range(len(pairs)):
        source.sample(index)
    return 1000 * (time.process_time() - start) / len(pairs)


def time_loader(source: PairSource, config: Config, steps: int) -> float:
    """Pairs per second of the loader with nothing else to do, after its first steps."""
    share, warm_up = Share(config.train.batch_size), 2 * max(config.train.workers, 1)
    end, workers = warm_up + 3 * steps, config.train.workers
    batches = iter(sample_loader(source, share, first_step=0, steps=end, workers=workers))
    for _ in islice(batches, warm_up):
        pass
    start = time.perf_counter()
    for _ in islice(batches, steps):
        pass
    return steps * share.batch / (time.perf_counter() - start)


def time_step(source: PairSource, config: Config, device: torch.device, steps: int) -> dict[str, float]:
    """Wall-clock seconds per pair of the forward and the backward pass."""
    share = Share(config.train.batch_size)
    pair = Pair.stack([source.sample(index) for index in share.indices(0)]).to(device)
    learner, seconds = _learner(config, device), Counter()
    reset_peak(device)
    for step in range(steps + 1):
        if step == 1:  # the first step is slower
            seconds.clear()
        start = _now(device)
        total = sum(learner.losses(pair, step).values())
        middle = _now(device)
        total.backward()
        learner.network.zero_grad()
        seconds["forward"] += middle - start
        seconds["backward"] += _now(device) - middle
    return {phase: seconds[phase] / (steps * share.batch) for phase in ("forward", "backward")}


def time_training(
    source: PairSource, config: Config, device: torch.device, steps: int
) -> tuple[float, float]:
    """Pairs that are made and trained on at once, after the first steps: a second, and a core's second.

    The latter is CPU time of all processes, so it says what free cores would do, however busy these are.
    """
    share, warm_up = Share(config.train.batch_size), 2 * max(config.train.workers, 1) + 1
    workers = config.train.workers
    loader = sample_loader(source, share, first_step=0, steps=warm_up + steps, workers=workers)
    learner = _learner(config, device)
    optimizer = torch.optim.AdamW(learner.network.parameters(), lr=1e-6)
    for step, pair in enumerate(loader):
        if step == warm_up:
            start, start_cpu = _now(device), _cpu_seconds()
        sum(learner.losses(pair.to(device), step).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step == warm_up + steps - 1:  # while the workers are still there to be asked
            seconds, cpu_seconds = _now(device) - start, _cpu_seconds() - start_cpu
    return steps * share.batch / seconds, steps * share.batch / cpu_seconds


def _cpu_seconds() -> float:
    """CPU time of this process and of its workers."""
    tick = os.sysconf("SC_CLK_TCK")
    stats = (Path(f"/proc/{worker.pid}/stat").read_text() for worker in active_children())
    return time.process_time() + sum(sum(map(int, stat.split()[13:15])) / tick for stat in stats)


def _learner(config: Config, device: torch.device) -> Learner:
    learner = learner_of(config.method, config, resumes=True)
    learner.network.train().to(device)
    return learner


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def measure(config: Config, options: argparse.Namespace) -> dict[str, float]:
    """Prints the table of a configuration; returns its pairs per second and core by what was done."""
    device = choose_device(options.gpus, 0)
    source = learner_of(config.method, config, resumes=True).source(held_out=False)
    # Workers are started before this process draws anything itself.
    loaded = time_loader(source, config, options.steps)
    print(f"{'loader':24s}{loaded:8.1f} pairs/s with {config.train.workers} worker(s)", flush=True)
    trained, per_core = time_training(source, config, device, options.steps)
    print(f"{'both':24s}{trained:8.1f} pairs/s, {per_core:.1f} pairs a core's second", flush=True)
    steps = time_step(source, config, device, options.steps)
    for phase, seconds in steps.items():
        print(f"{phase:24s}{1000 * seconds:8.2f} ms/pair")
    print(f"{'training':24s}{1 / sum(steps.values()):8.1f} pairs/s with nothing else to do, on {device}")
    print(f"{'peak memory':24s}{peak(device):8.2f} GB", flush=True)
    rates = _time_making(config, options) if config.method == "picopose" and options.pairs else {}
    return rates | {"trained": per_core}


def _time_making(config: Config, options: argparse.Namespace) -> dict[str, float]:
    """Prints the phases of making pairs; returns the pairs per second and core, rendered and used again."""
    threads = torch.get_num_threads()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)  # as in a worker
    rendered = time_scenes(config, options.pairs) if config.train_dataset.kept else None
    phases = time_phases(config, options.pairs)
    torch.set_num_threads(threads)
    _print_phases(phases, "kept pair, once more" if rendered else "one process")
    cost = sum(phases.values())
    if rendered:
        _print_phases(rendered, "kept pair, at first")
        cost += sum(rendered.values()) / options.uses
        print(
            f"{f'in each of {options.uses} uses':24s}{cost:8.2f} ms/pair = {1000 / cost:.0f} pairs/s per core"
        )
    return {"rendered": 1000 / sum((rendered or phases).values()), "made": 1000 / cost}


def _print_phases(phases: dict[str, float], title: str) -> None:
    for phase, ms in phases.items():
        print(f"{phase:24s}{ms:8.2f} ms/pair")
    total = sum(phases.values())
    print(f"{title:24s}{total:8.2f} ms/pair = {1000 / total:.0f} pairs/s per core")


def parser_of(doc: str, *, config: str) -> argparse.ArgumentParser:
    """With the options of what a configuration trains."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--config", default=config)
    parser.add_argument("--gpus", help="index of the GPU, or cpu")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="entries of the config")
    return parser


@exits_cleanly
def main() -> None:
    parser = parser_of(__doc__, config="config/lite.yaml")
    parser.add_argument("--pairs", type=int, default=300, help="that are made for the phases; 0: none")
    parser.add_argument("--steps", type=int, default=5, help="of the loader and of training")
    parser.add_argument("--uses", type=int, default=4, help="of a pair that is kept, over the whole training")
    parser.add_argument("--before", nargs="+", metavar="key=value", help="what was otherwise before")
    options = parser.parse_intermixed_args()
    config = load_config(options.config, options.overrides)
    before = None
    if options.before:
        print("before")
        before = measure(load_config(options.config, options.overrides + options.before), options)
        print("\nnow")
    now = measure(config, options)
    for name, rate in (before or {}).items():
        more = now[name] / rate
        print(f"{name:24s}{rate:8.1f} -> {now[name]:.1f} pairs/s per core: {more:.1f} times as many")


if __name__ == "__main__":
    main()
