"""Runs a function on batches, which are halved when memory runs out."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from picopose.utils.errors import InputError

T = TypeVar("T")
LOG = logging.getLogger(__name__)


class Batches:
    """Runs a function on consecutive batches; one that runs out of memory is halved and tried again.

    Args:
        size: initial number of items in a batch; it does not grow again.
    """

    def __init__(self, size: int):
        self.size = size

    def run(self, function: Callable[[slice], T], count: int) -> list[T]:
        """The results of `function` for consecutive batches of `count` items.

        Raises:
            InputError: a single item does not fit.
        """
        results, start = [], 0
        while start < count:
            part = slice(start, min(start + self.size, count))
            try:
                results.append(function(part))
            except torch.OutOfMemoryError as error:
                self._halve(error)
                continue
            start = part.stop
        return results

    def _halve(self, error: torch.OutOfMemoryError) -> None:
        if self.size == 1:
            raise InputError(
                f"runtime.batch=1: the device has too little memory ({str(error).splitlines()[0]}); "
                "lower runtime.template_memory, or compute on the CPU"
            ) from None
        self.size //= 2
        torch.cuda.empty_cache()
        LOG.warning("out of memory: continuing with runtime.batch=%d", self.size)


def automatic_batch(bytes_per_item: float, device: torch.device) -> int:
    """The batch size that fits into a quarter of the device's free memory: 1 to 64, on CPUs at most 8.

    Larger batches gain nothing: they saturate a GPU and exceed a CPU's caches.
    """
    if device.type == "cuda":
        free, most = torch.cuda.mem_get_info(device)[0], 64
    else:
        free, most = _available_memory(), 8
    return int(min(max(free / 4 // bytes_per_item, 1), most))


def _available_memory() -> int:
    """Bytes of available main memory, including file caches."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # not Linux
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
