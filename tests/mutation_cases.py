"""One damaged file read by one reader, and whether what came of it is right: a sound value or one line.

`python -m tests.mutation_cases READER SEED` shows a case. `tests.mutation_watch` has cases read by this
module in a process of its own.
"""

import contextlib
import hashlib
import importlib
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from random import Random
from typing import Any

from picopose.utils.errors import InputError
from tests.mutations import Mutation, mutate
from tests.shared import ROOT

READERS = "tests.mutated_readers"
_GRANTED = 6 << 30  # bytes beside those of the good files, so that a reader without bounds leaves others some


@dataclass(frozen=True)
class Reader:
    """A reader of the program with good files for it.

    Args:
        write: puts good files into an empty folder.
        read: what the program makes of the files of such a folder.
        check: an AssertionError for a value that cannot be; another one than the good files' may be sound.
        files: those that are damaged, each with its form of `tests.mutations.FORMS`.
        whole: whether a file that ends too early can be told from a whole one.
    """

    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    check: Callable[[Any], None]
    files: Sequence[tuple[str, str]]
    whole: bool = True


@dataclass(frozen=True)
class Case:
    """What came of one damaged file."""

    seed: int | None
    file: str
    steps: tuple[str, ...]
    fault: str  # empty if all is well
    value: str  # "same", "other" or "refused"
    detail: str = ""  # the error's line, or the traceback
    seconds: float = 0.0
    grown: int = 0  # bytes


class Bench:
    """Reads damaged copies of one reader's good files, one after the other in `folder`."""

    def __init__(self, name: str, reader: Reader, folder: Path):
        self._name, self._reader = name, reader
        self._good, self.folder = folder / "good", folder / "bad-copy"
        self._good.mkdir(parents=True)
        reader.write(self._good)
        value = self._read_copy()
        reader.check(value)
        self._digest = digest(value)
        if digest(self._read_copy()) != self._digest:
            raise AssertionError(f"{name}: the good files are read to another value each time")

    def _read_copy(self) -> Any:
        self._copy()
        return self._reader.read(self.folder)

    def _copy(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self._good, self.folder)

    def damage(self, seed: int) -> tuple[str, Mutation]:
        """The good files with one of them damaged: its name, and what was done to it."""
        self._copy()
        rng = Random(f"{self._name} {seed}")
        file, form = rng.choice(list(self._reader.files))
        mutation = mutate((self._good / file).read_bytes(), form, rng)
        (self.folder / file).write_bytes(mutation.content)
        return file, mutation

    def run(self, seed: int) -> Case:
        file, mutation = self.damage(seed)
        before, start = _resident("VmRSS"), time.process_time()
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as peak:
            peak.write("5")  # begins the peak anew
        fault, value, detail = self._judge(mutation)
        seconds, grown = time.process_time() - start, _resident("VmHWM") - before
        return Case(seed, file, mutation.steps, fault, value, detail, round(seconds, 3), grown)

    def _judge(self, mutation: Mutation) -> tuple[str, str, str]:
        try:
            value = self._reader.read(self.folder)
        except InputError as error:
            return self._fault_of_message(str(error)), "refused", str(error)
        except BaseException as error:  # whatever it is, a program would end with its traceback
            return f"{type(error).__name__} at {place_of(error)}", "", traceback.format_exc(limit=-12)
        try:
            self._reader.check(value)
            same = digest(value) == self._digest
        except Exception as error:
            return f"unsound value: {error}".splitlines()[0][:200], "", traceback.format_exc(limit=-3)
        if mutation.only_cut and self._reader.whole and not same:
            return "a file cut short is read as a whole one", "other", ""
        return "", "same" if same else "other", ""

    def _fault_of_message(self, message: str) -> str:
        """Why an error's message is none that a user can do something with; empty if it is."""
        names = {path.name for path in self._good.rglob("*")} | {self.folder.name}
        return "" if any(name in message for name in names) else "the message names no file"


def digest(value: Any) -> str:
    """Equal for equal values: records, containers, arrays, tensors and plain data."""
    found = hashlib.sha256()
    for piece in _pieces(value):
        found.update(piece)
    return found.hexdigest()


def _pieces(value: Any) -> Iterator[bytes]:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if hasattr(value, "tobytes"):
        yield f"{getattr(value, 'shape', '')}{getattr(value, 'dtype', '')}".encode() + value.tobytes()
    elif is_dataclass(value):
        yield from _pieces({field.name: getattr(value, field.name) for field in fields(value)})
    elif isinstance(value, dict):
        yield from _pieces(list(value.items()))
    elif isinstance(value, list | tuple):
        yield f"{len(value)}".encode()
        for entry in value:
            yield from _pieces(entry)
    else:
        yield repr(value).encode("utf-8", "surrogatepass")


def place_of(error: BaseException) -> str:
    """File and line where an error leaves the repository's own code, and whose code raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename.startswith(f"{ROOT}/") and "/.venv/" not in f.filename]
    own = [f for f in own if not f.filename.startswith(f"{ROOT}/tests/mutat")] or own
    if not own:
        return "?"
    last = own[-1]
    inside = "" if frames[-1] is last else f" (in {Path(frames[-1].filename).name})"
    return f"{Path(last.filename).relative_to(ROOT)}:{last.lineno} {last.name}{inside}"


def _resident(kind: str) -> int:
    """Bytes that are (VmRSS) or were at most (VmHWM) resident."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(kind))


def _serve(module: str, folder: Path) -> None:
    """Answers each line `[reader, seed]` of stdin with a `Case` on stdout; nothing else is printed there.

    A seed of null comes first: good files are written into a folder below `folder`, and read.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    readers, benches = importlib.import_module(module).READERS, {}
    for line in sys.stdin:
        name, seed = json.loads(line)
        if seed is None:
            case, benches[name] = _begin(name, readers[name], folder / name)
        else:
            case = benches[name].run(seed)
        print(json.dumps(vars(case)), file=answers)


def _begin(name: str, reader: Reader, folder: Path) -> tuple[Case, Bench | None]:
    """Whether a reader reads its good files, and the bench to damage them on if so."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        bench = Bench(name, reader, folder)
    except Exception as error:
        fault = f"the good files are not read: {type(error).__name__} at {place_of(error)}"
        return Case(None, "", (), fault, "", traceback.format_exc(limit=-8)), None
    _bound_memory()
    return Case(None, "", (), "", "same"), bench


def _bound_memory() -> None:
    with open("/proc/self/status") as status:
        used = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (used + _GRANTED, resource.RLIM_INFINITY))


def _show(name: str, seed: int) -> None:
    """Prints what comes of one case, and leaves its files for a look at them."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-{seed}-"))
    bench = Bench(name, importlib.import_module(READERS).READERS[name], folder)
    _bound_memory()
    file, mutation = bench.damage(seed)
    print(f"{bench.folder / file}: {', '.join(mutation.steps)}", flush=True)
    case = bench.run(seed)
    print(f"{case.fault or case.value}; {case.seconds:.2f} s, {case.grown >> 20} MB\n{case.detail}")


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        _serve(sys.argv[2], Path(sys.argv[3]))
    else:
        _show(sys.argv[1], int(sys.argv[2]))
