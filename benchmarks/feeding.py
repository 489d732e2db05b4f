"""What a training pair costs, part by part, and how many of them feed a GPU: `python -m benchmarks.feeding`.

A core's time for each part of making a pair: here; on a machine whose GPU draws; and with crops, compositing
and colours on the GPU as well, which no program does yet. Where Mesa draws, the GPU is emulated: the same
drawings once more with Mesa's driver that draws nothing, so that what is left is what a core does for them.
"""

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from unittest.mock import patch

import cv2
import numpy as np
import torch

from benchmarks.levels import markdown
from benchmarks.training import parser_of, time_colours
from picopose.datasets.training import disturbed, imperfect, shared_scenes, synthetic
from picopose.model.methods import learner_of
from picopose.rendering import renderer, studio
from picopose.rendering.context import create_context
from picopose.rendering.renderer import Renderer
from picopose.rendering.studio import Studio
from picopose.utils.config import Config
from picopose.utils.config_files import load_config
from picopose.utils.device import choose_device
from picopose.utils.errors import exits_cleanly
from picopose.utils.records import Pair

REST = "scene, masks, rest"
PARTS = ("load and make objects", "draw", "read back", "composite", "crop", "colour", "copy", REST)
ON_CARD = ("read back", "composite", "crop", "colour", "copy")  # that a GPU could do instead of a core
OBJECTS = ("load", "vary", "random_shape", "random_image", "board", "hull", "template_poses")  # of a Studio
PIXELS = {
    "composite": ((shared_scenes, "on_backdrop"), (synthetic, "on_backdrop"), (studio, "drawing")),
    "crop": ((disturbed, "_warped"), (imperfect, "view_of")),
    "colour": ((disturbed, "photographed"), (disturbed, "scanned")),
}
DRAW = ("render", "render_depth")  # of a Renderer
EMULATED = {"GALLIUM_NOOP": "true"}  # Mesa's driver that draws nothing

Call = tuple[str, tuple, dict]  # name of a Renderer's method, and what it was given


class Clock:
    """Adds up the CPU seconds of parts; a part within another is not counted to that."""

    def __init__(self):
        self.seconds: Counter[str] = Counter()
        self._part, self._since = REST, time.process_time()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        outer = self._switch(name)
        try:
            yield
        finally:
            self._switch(outer)

    def timed(self, name: str, function: Callable) -> Callable:
        def run(*arguments, **options):
            with self.part(name):
                return function(*arguments, **options)

        return run

    def restart(self) -> None:
        self._switch(self._part)
        self.seconds.clear()

    def stop(self) -> Counter[str]:
        self._switch(self._part)
        return self.seconds

    def _switch(self, name: str) -> str:
        outer, now = self._part, time.process_time()
        self.seconds[outer] += now - self._since
        self._part, self._since = name, now
        return outer


@contextmanager
def watched(clock: Clock, calls: list[Call] | None = None) -> Iterator[None]:
    """Everything that makes pairs is timed by its part, and drawings are noted down in `calls`."""

    def drawing(name: str) -> Callable:
        draw = getattr(Renderer, name)

        def run(self, *arguments, **options):
            if calls is not None:
                calls.append((name, arguments, options))
            with clock.part("draw"):
                return draw(self, *arguments, **options)

        return run

    read = renderer._Target.read

    def reading(self, *arguments):
        self._ctx.finish()  # drawing ends before reading begins
        with clock.part("read back"):
            return read(self, *arguments)

    with ExitStack() as stack:
        for name in OBJECTS:
            made = clock.timed(PARTS[0], getattr(Studio, name))
            stack.enter_context(patch.object(Studio, name, made))
        for part, functions in PIXELS.items():
            for module, name in functions:
                timed = clock.timed(part, getattr(module, name))
                stack.enter_context(patch.object(module, name, timed))
        for name in DRAW:
            stack.enter_context(patch.object(Renderer, name, drawing(name)))
        stack.enter_context(patch.object(renderer._Target, "read", reading))
        yield


def measure(config: Config, device: torch.device, pairs: int) -> tuple[dict[str, float], list[Call], int]:
    """CPU ms of a pair by part, the drawings that the pairs took, and the bytes of one."""
    plain = replace(config, train_dataset=replace(config.train_dataset, augment=0.0))
    source = learner_of(config.method, plain, resumes=True).source(held_out=False)
    clock, calls = Clock(), []
    with watched(clock, calls):
        for index in range(pairs):  # until most objects have been shown
            source.sample(index)
        calls.clear()
        clock.restart()
        made = [source.sample(index) for index in range(pairs, 2 * pairs)]
        ms = {part: 1000 * seconds / pairs for part, seconds in clock.stop().items()}
    ms["colour"] = ms.get("colour", 0.0) + time_colours(made, config.train_dataset.augment)
    ms["copy"] = time_copy(made, config.train.batch_size, device)
    tensors: list[torch.Tensor] = []
    made[0].map(tensors.append)
    return {part: ms.get(part, 0.0) for part in PARTS}, calls, sum(tensor.nbytes for tensor in tensors)


def time_copy(pairs: list[Pair], size: int, device: torch.device) -> float:
    """CPU ms per pair: batches made of them, handed to another process, and copied to the device."""
    start = time.process_time()
    for first in range(0, len(pairs), size):
        batch = Pair.stack(pairs[first : first + size])
        batch.map(lambda tensor: tensor.clone().share_memory_()).to(device)
    return 1000 * (time.process_time() - start) / len(pairs)


def redraw(calls: list[Call]) -> dict[str, float]:
    """CPU seconds that drawings take a core, by part, once everything is on the device."""
    os.environ["LP_NUM_THREADS"] = "0"
    clock = Clock()
    with watched(clock), Renderer() as drawer, np.errstate(invalid="ignore"):  # nobody wrote the pixels
        for _ in range(2):
            clock.restart()
            for name, arguments, options in calls:
                getattr(drawer, name)(*arguments, **options)
        return dict(clock.stop())


def emulated(calls: list[Call]) -> dict[str, float]:
    """`redraw` in a process whose driver draws nothing."""
    with patch.dict(os.environ, EMULATED):
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(redraw, calls).result()


def table(ms: dict[str, float], drawn: dict[str, float]) -> tuple[list[list[str]], list[float]]:
    """Rows of parts, and the ms of a pair: here, where a GPU draws, and where it does `ON_CARD` too."""
    total = sum(ms.values())
    rows, totals = [], [0.0, 0.0, 0.0]
    for part in PARTS:
        with_card = drawn.get(part, ms[part])
        spent = ms[part], with_card, 0.0 if part in ON_CARD else with_card
        totals = [total + ms for total, ms in zip(totals, spent, strict=True)]
        rows.append([part, f"{ms[part]:.2f}", f"{ms[part] / total:.0%}", *(f"{x:.2f}" for x in spent[1:])])
    return rows, totals


@exits_cleanly
def main() -> None:
    parser = parser_of(__doc__, config="config/refine.yaml")
    parser.add_argument("--pairs", type=int, default=200, help="that are made, after as many to begin with")
    parser.add_argument("--cores", type=int, default=16, help="of the machine with the GPU")
    options = parser.parse_intermixed_args()
    config, device = load_config(options.config, options.overrides), choose_device(options.gpus)
    os.environ["LP_NUM_THREADS"] = "0"  # Mesa draws in this thread
    cv2.setNumThreads(0)
    torch.set_num_threads(1)  # as in a worker
    driver = create_context().info["GL_RENDERER"]
    ms, calls, size = measure(config, device, options.pairs)
    drawn = {}
    if "llvmpipe" in driver:
        seconds = emulated(calls)
        drawn = {part: 1000 * seconds[part] / options.pairs for part in ("draw", "read back")}
    rows, totals = table(ms, drawn)
    rows.append(["all", f"{totals[0]:.2f}", "100%", *(f"{total:.2f}" for total in totals[1:])])
    for name, cores in (("pairs/s of a core", 1), (f"pairs/s of {options.cores} cores", options.cores)):
        rates = [f"{1000 * cores / total:.0f}" for total in totals]
        rows.append([name, rates[0], "", *rates[1:]])
    print(f"{options.config}, drawn by {driver}")
    print(f"{len(calls) / options.pairs:.1f} drawings a pair, which has {size / 1e6:.2f} MB\n")
    print(markdown(["part, ms/pair of a core", "here", "share", "a GPU draws", "and does the pixels"], rows))


if __name__ == "__main__":
    main()
