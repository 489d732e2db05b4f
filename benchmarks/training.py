"""Training throughput by phase: `python -m benchmarks.training --config config/small.yaml [key=value ...]`.

CPU time of one process for every phase of making a pair; pairs per second of the loader alone; and a step's
forward and backward pass, so that the slower side of the two is seen.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import islice

import cv2
import torch

from datasets.pairs import Augmented, PairSource, Share, pair_loader
from model.factory import build_network
from model.supervision import draw_noise
from model.training import TrainingPass
from rendering.studio import Studio
from run_train import training_source
from utils.config import Config, load_config
from utils.device import choose_device
from utils.errors import exits_cleanly
from utils.structs import Pair

PHASES = ("load and make objects", "render photo", "render template", "render depth")
PHASES += ("read, crop, masks, scene",)
WARM_UP = 400  # pairs


class TimedStudio(Studio):
    """A studio that adds up the CPU time of what it does."""

    def __init__(self):
        super().__init__()
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


for _name in ("load", "random_shape", "random_image", "board", "hull", "template_poses"):
    setattr(TimedStudio, _name, _timed_method(_name))


def time_phases(config: Config, pairs: int) -> dict[str, float]:
    """CPU ms per pair by phase, in one process, once most objects of a pool have been shown."""
    studio, share = TimedStudio(), config.train_dataset.augment
    plain = replace(config, train_dataset=replace(config.train_dataset, augment=0.0))
    source = training_source(plain, studio=studio)
    for index in range(WARM_UP):
        source.sample(index)
    studio.seconds.clear()
    start = time.process_time()
    made = [source.sample(index) for index in range(WARM_UP, WARM_UP + pairs)]
    total = time.process_time() - start
    seconds = studio.seconds
    seconds["read, crop, masks, scene"] = total - seconds.total()
    return {phase: 1000 * seconds[phase] / pairs for phase in PHASES} | {"colours": time_colours(made, share)}


def time_colours(pairs: list[Pair], share: float) -> float:
    """CPU ms per pair."""
    source = Augmented(_Made(pairs), seed=0, share=share)
    start = time.process_time()
    for index in range(len(pairs)):
        source.sample(index)
    return 1000 * (time.process_time() - start) / len(pairs)


class _Made:
    """Pairs that are there already, as a source."""

    def __init__(self, pairs: list[Pair]):
        self._pairs = pairs

    def sample(self, index: int) -> Pair:
        return self._pairs[index]

    def name(self, index: int) -> str:
        return f"pair {index}"


def time_loader(source: PairSource, config: Config, steps: int) -> float:
    """Pairs per second of the loader with nothing else to do, after its first steps."""
    share, warm_up = Share(config.train.batch_size), 2 * max(config.train.workers, 1)
    loader = pair_loader(source, share, first_step=0, steps=warm_up + 3 * steps, workers=config.train.workers)
    batches = iter(loader)
    for _ in islice(batches, warm_up):
        pass
    start = time.perf_counter()
    for _ in islice(batches, steps):
        pass
    return steps * share.batch / (time.perf_counter() - start)


def time_step(source: PairSource, config: Config, device: torch.device, steps: int) -> dict[str, float]:
    """Wall-clock seconds per pair of the forward and the backward pass."""
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    share = Share(config.train.batch_size)
    pair = Pair.stack([source.sample(index) for index in share.indices(0)]).to(device)
    network = build_network(**asdict(config.model)).train()
    network = network.to(device, memory_format=torch.channels_last)
    forward = TrainingPass(network, bf16=config.train.bf16)
    generator, seconds = torch.Generator().manual_seed(0), Counter()
    for step in range(steps + 1):
        if step == 1:  # the first step is slower
            seconds.clear()
        noise = draw_noise(share.batch, size=config.model.size, generator=generator).to(device)
        start = _now(device)
        total = forward(pair, noise).total
        middle = _now(device)
        total.backward()
        network.zero_grad()
        seconds["forward"] += middle - start
        seconds["backward"] += _now(device) - middle
    return {phase: seconds[phase] / (steps * share.batch) for phase in ("forward", "backward")}


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="config/small.yaml")
    parser.add_argument("--gpus", help="index of the GPU, or cpu")
    parser.add_argument("--pairs", type=int, default=300, help="that are made for the phases")
    parser.add_argument("--steps", type=int, default=5, help="of the loader and of training")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args()
    config = load_config(options.config, options.overrides)
    device = choose_device(options.gpus, 0)
    source = training_source(config)
    # Workers are started before this process draws anything itself.
    loaded = time_loader(source, config, options.steps)
    cv2.setNumThreads(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    phases = time_phases(config, options.pairs)
    torch.set_num_threads(threads)
    for phase, ms in phases.items():
        print(f"{phase:24s}{ms:8.2f} ms/pair")
    total = sum(phases.values())
    print(f"{'one process':24s}{total:8.2f} ms/pair = {1000 / total:.0f} pairs/s per core")
    print(f"{'loader':24s}{loaded:8.1f} pairs/s with {config.train.workers} worker(s)")
    steps = time_step(source, config, device, options.steps)
    for phase, seconds in steps.items():
        print(f"{phase:24s}{1000 * seconds:8.2f} ms/pair")
    trained = 1 / sum(steps.values())
    print(f"{'training':24s}{trained:8.1f} pairs/s with nothing else to do, on {device}")


if __name__ == "__main__":
    main()
