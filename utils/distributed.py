"""The processes that `torchrun` started, or the single one that it did not."""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from picopose.utils.processes import end_with_parent


@dataclass(frozen=True)
class World:
    """This process among all."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among the processes of this machine

    def barrier(self) -> None:
        """Waits until all processes are here."""
        if self.size > 1:
            dist.barrier()


def join() -> World:
    """Joins the processes that `torchrun` started; alone if it did not start this one."""
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun cannot end its processes when it is killed itself
        end_with_parent()
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=timedelta(hours=12))
    return World(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))


def leave() -> None:
    """Ends this process's part in the group."""
    if dist.is_initialized():
        dist.destroy_process_group()
