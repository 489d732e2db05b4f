"""The processes started by `torchrun`, and differentiable sums and gathers over them.

Everything also works in a single process, where sums and gathers do nothing.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from picopose.utils.processes import end_with_parent

T = TypeVar("T")

HUNG = timedelta(minutes=30)  # after which a process that others wait for in a step is given up, and the run
PATIENCE = timedelta(hours=12)  # at a barrier, where one may have work to do that takes long

_patient: dist.ProcessGroup | None = None  # of barriers


@dataclass(frozen=True)
class World:
    """This process's place among all."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among the processes of this machine

    def barrier(self) -> None:
        """Waits until all processes are here, however long the work of one of them takes."""
        if self.size > 1:
            dist.barrier(_patient)


def join() -> World:
    """Joins the processes started by `torchrun`; a world of one if it did not start this one."""
    if "TORCHELASTIC_RUN_ID" in os.environ:  # a killed torchrun cannot end its processes
        end_with_parent()
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World()
    global _patient
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=HUNG)
    _patient = dist.new_group(backend="gloo", timeout=PATIENCE)
    return World(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))


def leave() -> None:
    """Leaves the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def own_first(jobs: Sequence[T]) -> list[T]:
    """Jobs that all processes have, so ordered that each begins with a share of its own.

    Where the result of one serves all, as in a folder that they share, none is done twice.
    """
    first = len(jobs) * rank() // world_size()
    return [*jobs[first:], *jobs[:first]]


def summed(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes; gradients flow to every process's share."""
    return _Sum.apply(value) if world_size() > 1 else value


def gathered(value: Tensor) -> Tensor:
    """Tensors of equal shape (B, ...) of all processes as one (processes * B, ...), with gradients."""
    return _Gather.apply(value) if world_size() > 1 else value


def _total(value: Tensor) -> Tensor:
    total = value.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value: Tensor) -> Tensor:
        return _total(value)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _total(gradient)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value: Tensor) -> Tensor:
        parts = [torch.empty_like(value, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(parts, value.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _total(gradient).chunk(world_size())[rank()]
