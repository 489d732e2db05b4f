"""Processes end with the one that started them, also with one that is killed before they have begun."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.shared import ROOT

POOL = """
import multiprocessing, threading, time
from picopose.utils.processes import run
def tell():
    while len(multiprocessing.active_children()) < 2:
        time.sleep(0.001)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
if __name__ == "__main__":
    threading.Thread(target=tell).start()
    for _ in run(time.sleep, [600, 600], 2):
        pass
"""

LOADER = """
import multiprocessing, threading, time
from picopose.datasets.training.loader import Share, sample_loader
from tests.test_pairs import Numbers
def tell():
    while len(multiprocessing.active_children()) < 2:
        time.sleep(0.001)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
if __name__ == "__main__":
    threading.Thread(target=tell).start()
    for batch in sample_loader(Numbers(), Share(1), first_step=0, steps=10**9, workers=2):
        pass
"""

RANK = """
import os, time
from picopose.utils.distributed import join
join()
print(os.getpid(), flush=True)
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie, which nobody waits for in a container."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def children_left(tmp_path: Path, program: str, *launcher: str, delay: float) -> list[int]:
    """The processes that a program leaves behind when it is killed some seconds after it has named them."""
    (tmp_path / "program.py").write_text(program)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(tmp_path / "program.py")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        children = [int(pid) for pid in run.stdout.readline().split()]
        time.sleep(delay)
        os.kill(run.pid, signal.SIGKILL)
    assert children
    deadline = time.monotonic() + 60  # one that has not begun imports PyTorch first
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in children if is_running(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return left


@pytest.mark.parametrize("delay", [0.0, 6.0], ids=["at once", "later"])  # the second time they have begun
@pytest.mark.parametrize("program", [POOL, LOADER], ids=["pool", "loader"])
def test_a_killed_program_leaves_no_process(tmp_path, program, delay):
    assert not children_left(tmp_path, program, delay=delay)


def test_a_killed_torchrun_leaves_no_process(tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1"]
    assert not children_left(tmp_path, RANK, *torchrun, delay=0.0)
