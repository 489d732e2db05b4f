"""Measures seconds per phase; GPU work counts towards the phase that launched it."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")
_END = object()


class Stopwatch:
    """Adds up seconds per phase while `running`; otherwise it does not wait for the GPU."""

    def __init__(self, *, running: bool = True):
        self.running = running
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        if not self.running:
            yield
            return
        start = _now()
        yield
        self.seconds[phase] += _now() - start

    def over(self, phase: str, items: Iterable[T]) -> Iterator[T]:
        """The items; the time spent waiting for each counts towards the phase."""
        iterator = iter(items)
        while True:
            with self(phase):
                item = next(iterator, _END)
            if item is _END:
                return
            yield item

    def table(self) -> str:
        """One line per phase: seconds and share of the total."""
        total = sum(self.seconds.values()) or 1.0
        lines = [
            f"{phase:<24}{seconds:9.3f} s{100 * seconds / total:7.1f} %"
            for phase, seconds in self.seconds.items()
        ]
        return "\n".join([*lines, f"{'together':<24}{total:9.3f} s"])


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
