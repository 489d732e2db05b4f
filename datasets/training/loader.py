"""Sources of training samples and the loader that feeds them to a training loop.

A sample is a function of its index alone, and a step of its number: so a run that is taken up again, or that
has other numbers of workers or processes, sees the same samples.
"""

from __future__ import annotations

import atexit
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from torch.utils.data import DataLoader, Dataset

from picopose.utils.errors import InputError
from picopose.utils.processes import end_with_parent, stay_on_one_core
from picopose.utils.records import Record
from picopose.utils.scratch import remove_leftovers, scratch_folder


class Source(Protocol):
    """An endless sequence of training samples, records of any kind."""

    def sample(self, index: int) -> Record:
        """The unbatched sample of an index (>= 0), a pure function of it."""

    def name(self, index: int) -> str:
        """What the sample shows, for messages."""


class Repeated:
    """The first `count` samples of a source over and over, to see whether a network learns them by heart."""

    def __init__(self, source: Source, count: int):
        self._source, self._count = source, count

    def sample(self, index: int) -> Record:
        return self._source.sample(index % self._count)

    def name(self, index: int) -> str:
        return self._source.name(index % self._count)


@dataclass(frozen=True)
class Share:
    """The part of every step that one of several training processes computes."""

    batch: int  # samples per process and step
    rank: int = 0
    processes: int = 1

    def indices(self, step: int) -> range:
        """Indices of a step's samples: together the processes' shares are one stretch of the sequence."""
        first = (step * self.processes + self.rank) * self.batch
        return range(first, first + self.batch)


def sample_loader(
    source: Source,
    share: Share,
    *,
    first_step: int,
    steps: int,
    workers: int,
    pin_memory: bool = False,
) -> Iterator[Record]:
    """The batches, records with (batch, ...) tensors, of the steps from `first_step` to `steps` (exclusive).

    Args:
        workers: processes that make samples, each with its own copy of the source; 0: the caller's does.

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
    """Turns what PyTorch raises, wherever the program is, when a process that makes samples dies."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        reason = str(error).split("\n")[0].split(". ")[0]
        raise InputError(
            f"a process that makes training samples has ended ({reason}): memory, or a container's shared "
            "memory, has run out most likely; lower train.workers or train.batch_size, and go on "
            "from the last checkpoint"
        ) from error


class _Samples(Dataset):
    """A source as PyTorch's loader wants it.

    An `InputError` is handed on as a sample: raised in a worker it would come as a traceback of many lines.
    """

    def __init__(self, source: Source):
        self._source = source

    def __getitem__(self, index: int) -> Record | InputError:
        try:
            return self._source.sample(index)
        except InputError as error:
            return error
        except MemoryError:
            return InputError(f"{self._source.name(index)}: out of memory; lower train.workers")


def _batch(samples: Sequence[Record | InputError]) -> Record | InputError:
    failed = (sample for sample in samples if isinstance(sample, InputError))
    return next(failed, None) or type(samples[0]).stack(samples)


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
