"""Kills training, testing, rendering and the page again and again, and looks for what is lost or left behind.

`python -m benchmarks.kills` kills each of them five times (`--kills`) by SIGKILL at random moments, starts it
again, and in the end lets it finish: then its results must be those of a run that nobody disturbed, no
process of the killed ones may be alive, and no temporary file may be there. It takes ten minutes on two
cores; nothing else should run beside it that uses /dev/shm.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import page_load
from benchmarks.page_load import MINI, ROOT
from picopose.model.checkpoint import read_checkpoint

SHARED_MEMORY = Path("/dev/shm")
PATIENCE = 10.0  # s that processes may take to notice that they are alone
LONGEST = 600.0  # s that an undisturbed run may take
TINY = ["model.backbone=resnet10t", "model.pretrained=scratch", "model.size=64", "model.features=32"]
TINY += ["model.dpt_channels=[32,32,32]", "model.width=32"]
TRAINING = ["batch_size=2", "steps=40", "save_every=4", "log_every=1", "validate_every=0", "workers=1"]
TRAINING += ["threads=1", "warmup=2", "bf16=false"]


class Program:
    """One of the programs, with a folder of its own for its results and one for temporary files."""

    def __init__(self, folder: Path):
        self.folder, self.temporary = folder, folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.prepare()

    def prepare(self) -> None:
        """Makes what the program reads from its folder."""

    def command(self) -> list[str]:
        """What starts it, or goes on where it was killed."""
        raise NotImplementedError

    def result(self) -> object:
        """What a finished run has made, without anything that differs from run to run."""
        raise NotImplementedError

    def start(self) -> subprocess.Popen:
        """Its process, in a session of its own, by which its children are found."""
        environment = os.environ | {"TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, *self.command()],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "stderr.txt").open("ab"),
            start_new_session=True,
        )

    def finish(self) -> object:
        """Runs it to its end and gives what it has made."""
        process = self.start()
        code = process.wait(timeout=LONGEST)
        if code:
            raise SystemExit(f"{self.folder}: ended with {code}, see stderr.txt")
        return self.result()


class Test(Program):
    def command(self) -> list[str]:
        given = ["--dataset", "mini", "--config", "config/lite.yaml", "--gpus", "cpu", "--no-score"]
        given += ["--checkpoint_path", "data/weights/refine.pt", "--view", "42", "--hypotheses", "1"]
        return ["run_test.py", *given, f"log_dir={self.folder / 'log'}"]

    def result(self) -> object:
        with (self.folder / "log/picopose_lite_id0/picopose_mini-test.csv").open() as file:
            return [row | {"time": None} for row in csv.DictReader(file)]


class Render(Program):
    def prepare(self) -> None:
        (self.folder / "data").mkdir()
        (self.folder / "data" / "mini").symlink_to(MINI)

    def command(self) -> list[str]:
        given = ["--dataset", "mini", "--data_dir", str(self.folder / "data"), "--views", "42"]
        return ["-m", "picopose", "templates", *given, "--processes", "2"]

    def result(self) -> object:
        templates = self.folder / "data" / "templates"
        files = sorted(path for path in templates.rglob("*") if path.is_file())
        return {str(path.relative_to(templates)): _digest(path.read_bytes()) for path in files}


class Train(Program):
    def prepare(self) -> None:
        self.run = self.folder / "log" / "picopose_default_id0"

    def command(self) -> list[str]:
        going_on = ["--ckpt_path", "last"] if any(self.run.glob("step_*.pt")) else []
        options = [*TINY, *(f"train.{option}" for option in TRAINING), f"log_dir={self.folder / 'log'}"]
        given = ["--config", "config/default.yaml", "--model", "picopose", "--gpus", "cpu"]
        return ["run_train.py", *given, *going_on, *options]

    def result(self) -> object:
        weights = read_checkpoint(max(self.run.glob("step_*.pt")))
        digests = {name: _digest(value.numpy().tobytes()) for name, value in weights["model"].items()}
        return digests, (self.run / "scalars.jsonl").read_text()


class Page(Program):
    """The page while it answers; it is asked as soon as it is there."""

    def prepare(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def command(self) -> list[str]:
        given = ["--serve", "--port", str(self.port), "--gpus", "cpu", "test.views=42", "test.hypotheses=1"]
        return ["run_demo.py", *given, f"log_dir={self.folder / 'log'}"]

    def start(self) -> subprocess.Popen:
        (self.folder / "pose.json").unlink(missing_ok=True)
        process = super().start()
        asking = ["-m", "benchmarks.kills", "--ask", str(self.port), str(self.folder / "pose.json")]
        self.asking = subprocess.Popen([sys.executable, *asking], cwd=ROOT, stderr=subprocess.DEVNULL)
        return process

    def finish(self) -> object:
        process = self.start()
        try:
            self.asking.wait(timeout=LONGEST)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)
        return self.result()

    def result(self) -> object:
        return json.loads((self.folder / "pose.json").read_text())


PROGRAMS: dict[str, type[Program]] = {"test": Test, "render": Render, "train": Train, "page": Page}


def ask(port: int, out: Path) -> None:
    """Asks the page for a pose as soon as it is there, and writes what it finds."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            told = page_load.ask(port, "same")
        except ConnectionRefusedError:  # not there yet
            time.sleep(0.2)
            continue
        out.write_text(json.dumps(told["result"]["numbers"]))
        return


@dataclass
class Findings:
    """What went wrong with one program, and how often it was killed."""

    kills: int = 0
    problems: list[str] = field(default_factory=list)


def torment(kind: type[Program], folder: Path, kills: int, moments: random.Random) -> Findings:
    """Kills a program at random moments, goes on with it after each, and looks at what there is then."""
    findings = Findings()
    began = time.monotonic()
    undisturbed = kind(folder / "undisturbed")
    expected = undisturbed.finish()
    seconds = time.monotonic() - began
    program, in_memory = kind(folder / "killed"), _shared_memory()
    while findings.kills < kills:
        process = program.start()
        if not _ended(process, within=moments.uniform(0, seconds)):
            process.kill()
            process.wait()
            findings.kills += 1
        elif process.returncode:
            findings.problems.append(f"ended with {process.returncode} when it was started again")
            break
        else:  # done before its moment had come: the same from the beginning
            program = kind(folder / f"killed{findings.kills}_{uuid.uuid4().hex[:4]}")
        if left := _survivors(process.pid):
            findings.problems.append(f"processes left running: {left}")
    if program.finish() != expected:
        findings.problems.append("other results than those of an undisturbed run")
    left = _left(program) - _left(undisturbed) | (_shared_memory() - in_memory)
    findings.problems += [f"left lying: {path}" for path in sorted(map(str, left))]
    return findings


def _ended(process: subprocess.Popen, *, within: float) -> bool:
    try:
        process.wait(timeout=within)
    except subprocess.TimeoutExpired:
        return False
    return True


def _survivors(session: int) -> list[str]:
    """Command lines of the processes of a session that do not end in time; they are ended now."""
    end = time.monotonic() + PATIENCE
    while (alive := _of_session(session)) and time.monotonic() < end:
        time.sleep(0.1)
    told = []
    for pid in alive:
        told.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:100])
        os.kill(pid, signal.SIGKILL)
    return told


def _of_session(session: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = status.read_text().rsplit(")", 1)[1].split()[:4]
        except OSError:  # ended meanwhile
            continue
        if int(of) == session and state != "Z":
            found.append(int(status.parent.name))
    return found


def _left(program: Program) -> set[Path]:
    """Temporary files where the system has them and beside the results, by their paths in the folder."""
    files = [*program.temporary.iterdir(), *program.folder.rglob("*.tmp*")]
    return {path.relative_to(program.folder) for path in files}


def _shared_memory() -> set[Path]:
    return set(SHARED_MEMORY.iterdir()) if SHARED_MEMORY.is_dir() else set()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=5, help="of each program")
    parser.add_argument("--ask", nargs=2, metavar=("PORT", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        ask(int(options.ask[0]), Path(options.ask[1]))
        return
    failed = False
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        for name, kind in PROGRAMS.items():
            began = time.monotonic()
            found = torment(kind, Path(folder) / name, options.kills, random.Random(0))
            told = "; ".join(found.problems) or "nothing lost, left running or left lying"
            seconds = time.monotonic() - began
            print(f"{name}: killed {found.kills} times in {seconds:.0f} s: {told}", flush=True)
            failed |= bool(found.problems)
    sys.exit(failed)


if __name__ == "__main__":
    main()
