"""Has damaged files read in another process, which may hang, be killed or eat all memory, and watches it."""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Self

from tests.mutation_cases import READERS, Case
from tests.shared import ROOT

SECONDS, MEMORY = (
    10.0,
    2 << 30,
)  # of the processor, and bytes more than before, that reading one file may take
_START = 60.0  # to import what the readers need and to write their good files
_PATIENCE = 6  # times as long by the clock, since other programs may have the processors
_LOOK = 0.1  # s
_TICKS, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


class Watch:
    """Runs cases one by one; a process that does not end its case is ended, and the next one gets another."""

    def __init__(self, readers: str = READERS, *, seconds: float = SECONDS, memory: int = MEMORY):
        self._readers, self._seconds, self._memory = readers, seconds, memory
        self._process: subprocess.Popen | None = None
        self._begun: set[str] = set()
        self._folder = tempfile.TemporaryDirectory(prefix="mutations-")

    def run(self, reader: str, seeds: Iterable[int]) -> Iterator[Case]:
        for seed in seeds:
            yield self._run(reader, seed)

    def _run(self, reader: str, seed: int) -> Case:
        if self._process is None or reader not in self._begun:
            begun = self._ask(reader, None, _START)
            if begun.fault:
                return replace(begun, seed=seed)
            self._begun.add(reader)
        return self._ask(reader, seed, self._seconds)

    def _ask(self, reader: str, seed: int | None, seconds: float) -> Case:
        """One case, or, with no seed, whether the reader reads its good files."""
        process = self._started()
        process.stdin.write(json.dumps([reader, seed]).encode() + b"\n")
        process.stdin.flush()
        fault, line = self._wait(process, seconds), b""
        if not fault:
            line = process.stdout.readline()
            fault = "" if line else f"ended the process ({process.wait()})"
        if fault:
            self._end()
            return Case(seed, "", (), fault, "")
        case = Case(**json.loads(line))
        if case.seconds > seconds or case.grown > self._memory:
            return replace(case, fault=f"took {case.seconds:.1f} s and {case.grown / 1e9:.1f} GB")
        return case

    def _wait(self, process: subprocess.Popen, seconds: float) -> str:
        """Waits for an answer; why there will be none, or nothing."""
        start, used, held = time.monotonic(), *_usage(process.pid)
        while not select.select([process.stdout], [], [], _LOOK)[0]:
            now, resident = _usage(process.pid)
            if now - used > seconds or time.monotonic() - start > _PATIENCE * seconds:
                return f"took over {seconds:g} s"
            if resident - held > 2 * self._memory:
                return f"took over {2 * self._memory / 1e9:.1f} GB"
        return ""

    def _started(self) -> subprocess.Popen:
        if self._process is None:
            environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.mutation_cases", "--serve", self._readers, self._folder.name],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            self._begun = set()
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self._end()
        self._folder.cleanup()


def _usage(pid: int) -> tuple[float, int]:
    """Seconds of the processor, and bytes that are resident; nothing of a process that has ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0, 0
    return (int(fields[11]) + int(fields[12])) / _TICKS, int(fields[21]) * _PAGE
