"""A process that hangs ends the run, but one whose work takes long is waited for."""

import socket
import time
from datetime import timedelta

import pytest
import torch

from picopose.utils import distributed
from picopose.utils.distributed import join, leave, summed


def process(rank: int, port: int) -> None:
    distributed.HUNG = timedelta(seconds=2)
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in environment.items():
        distributed.os.environ[name] = str(value)
    world = join()
    summed(torch.ones(1))
    if rank == 1:
        time.sleep(4)
    world.barrier()
    if rank == 0:
        with pytest.raises(RuntimeError, match=r"[Tt]imed out"):
            summed(torch.ones(1))
    else:
        time.sleep(4)
    leave()


def test_a_hung_process_is_noticed_and_a_slow_one_waited_for():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(process, (port,), nprocs=2)
