"""Sources of training pairs, their mixtures, and the loader that feeds them to a training loop.

A pair is a function of its index alone, and a step of its number: so a run that is taken up again, or that
has other numbers of workers or processes, sees the same pairs.
"""

from __future__ import annotations

import atexit
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from picopose.datasets.training.augment import SHARE, augment
from picopose.datasets.training.streams import stream
from picopose.utils.errors import InputError
from picopose.utils.processes import end_with_parent, stay_on_one_core
from picopose.utils.records import Pair
from picopose.utils.scratch import remove_leftovers, scratch_folder


class PairSource(Protocol):
    """An endless sequence of training pairs.

    In `sample(index).real`, `mask` is what a detector would have given and may be wrong at places, while
    `depth` shows the object's visible surface alone: it is 0 on all that is not the object.
    """

    def sample(self, index: int) -> Pair:
        """The unbatched pair of an index (>= 0), a pure function of it."""

    def name(self, index: int) -> str:
        """What the pair shows, for messages."""


class Mixture:
    """Several sources in one, each with the share of its weight."""

    def __init__(self, sources: Sequence[PairSource], weights: Sequence[float], *, seed: int):
        if len(sources) != len(weights) or not sources or min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(f"{len(sources)} sources with the weights {list(weights)}")
        self._sources, self._seed = list(sources), seed
        self._bounds = np.cumsum(weights) / np.sum(weights)

    def sample(self, index: int) -> Pair:
        return self._source(index).sample(index)

    def name(self, index: int) -> str:
        return self._source(index).name(index)

    def _source(self, index: int) -> PairSource:
        chance = stream("mixture", self._seed, index).random()
        return self._sources[int(np.searchsorted(self._bounds, chance, side="right"))]


class Augmented:
    """A source with the colours of a share of its real views changed; see `datasets.training.augment`."""

    def __init__(self, source: PairSource, *, seed: int, share: float = SHARE):
        self._source, self._seed, self._share = source, seed, share

    def sample(self, index: int) -> Pair:
        pair = self._source.sample(index)
        rng = stream("colours", self._seed, index)
        image = (pair.real.rgb * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        rgb = torch.from_numpy(augment(image, rng, share=self._share)).permute(2, 0, 1).contiguous() / 255
        return replace(pair, real=replace(pair.real, rgb=rgb))

    def name(self, index: int) -> str:
        return self._source.name(index)


class Repeated:
    """The first `count` pairs of a source over and over, to see whether a network can learn them by heart."""

    def __init__(self, source: PairSource, count: int):
        self._source, self._count = source, count

    def sample(self, index: int) -> Pair:
        return self._source.sample(index % self._count)

    def name(self, index: int) -> str:
        return self._source.name(index % self._count)


@dataclass(frozen=True)
class Share:
    """The part of every step that one of several training processes computes."""

    batch: int  # pairs per process and step
    rank: int = 0
    processes: int = 1

    def indices(self, step: int) -> range:
        """Indices of the pairs of a step: together the processes' shares are one stretch of the sequence."""
        first = (step * self.processes + self.rank) * self.batch
        return range(first, first + self.batch)


def pair_loader(
    source: PairSource,
    share: Share,
    *,
    first_step: int,
    steps: int,
    workers: int,
    prefetch: int = 2,
    pin_memory: bool = False,
) -> Iterator[Pair]:
    """The batches, `Pair`s with (batch, ...) tensors, of the steps from `first_step` to `steps` (exclusive).

    Args:
        workers: processes that make pairs, each with the source's copy of its own; 0: the caller's does.
        prefetch: batches that each of them makes in advance.

    Raises:
        InputError: the source's, wherever it was raised.
    """
    remove_leftovers()
    with scratch_folder() as scratch:
        loader = DataLoader(
            _Samples(source),
            batch_sampler=_StepIndices(share, first_step, steps),
            num_workers=workers,
            collate_fn=_batch,
            worker_init_fn=partial(_begin_worker, scratch),
            prefetch_factor=prefetch if workers else None,
            pin_memory=pin_memory,
            # A forked process can use neither its parent's OpenGL nor its CUDA, so workers start afresh.
            multiprocessing_context="spawn" if workers else None,
        )
        for batch in loader:
            if isinstance(batch, InputError):
                raise batch
            yield batch


@contextmanager
def noticing_dead_workers() -> Iterator[None]:
    """Turns what PyTorch raises, wherever the program is, when a process that makes pairs dies."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        reason = str(error).split("\n")[0].split(". ")[0]
        raise InputError(
            f"a process that makes training pairs has ended ({reason}): memory, or a container's shared "
            "memory, has run out most likely; lower train.workers or train.batch_size, and go on "
            "from the last checkpoint"
        ) from error


class _Samples(Dataset):
    """A source as PyTorch's loader wants it.

    An `InputError` is handed on as a sample: raised in a worker it would come as a traceback of many lines.
    """

    def __init__(self, source: PairSource):
        self._source = source

    def __getitem__(self, index: int) -> Pair | InputError:
        try:
            return self._source.sample(index)
        except InputError as error:
            return error
        except MemoryError:
            return InputError(f"{self._source.name(index)}: out of memory; lower train.workers")


def _batch(samples: Sequence[Pair | InputError]) -> Pair | InputError:
    failed = (sample for sample in samples if isinstance(sample, InputError))
    return next(failed, None) or Pair.stack(samples)


class _StepIndices:
    """The batches of indices of a process's steps."""

    def __init__(self, share: Share, first_step: int, steps: int):
        self._share, self._steps = share, range(first_step, steps)

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[int]]:
        return (list(self._share.indices(step)) for step in self._steps)


def _begin_worker(scratch: Path, worker: int) -> None:
    """Readies a worker, whose temporary files go into a folder; PyTorch sees to its own threads.

    Signals that end a run often go to all its processes: when workers end is for the training process to say.
    A worker that is stopped with batches on their way leaves at once: while Python tidies up, the thread that
    sends them would end inside PyTorch's code, and abort.
    """
    end_with_parent()  # PyTorch sees to it too, but only for a parent that lives until the worker has begun
    stay_on_one_core()
    tempfile.tempdir = str(scratch)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    atexit.register(os._exit, 0)
