"""How programs end: one line for what a user can mend, politely after Ctrl-C, nothing half written."""

import errno
import logging
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.files import locked, make_folder, remove_leftovers, write_atomically
from tests.shared import ROOT


def ending(capsys, error: BaseException, **options) -> tuple[int, str]:
    """Exit code and the last line on stderr of a program that raises an error."""

    @exits_cleanly(**options)
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as exit_info:
        main()
    return exit_info.value.code, capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("a.ply: empty"), "error: a.ply: empty"),
        (MemoryError(), "error: out of memory (none left): end other programs"),
        (MemoryError("Unable to allocate 7 PiB"), "error: out of memory (Unable to allocate 7 PiB)"),
        (OSError(errno.ENOSPC, "full", "events"), "error: events: No space left on device: free some"),
        (OSError(errno.EDQUOT, "full"), "error: Disk quota exceeded: free some"),
    ],
)
def test_what_a_user_can_mend_is_one_line(capsys, error, line):
    code, told = ending(capsys, error)
    assert code == 2 and told.startswith(line)


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("a.ply: unexpected\n  end\tof file\r\n", "a.ply: unexpected end of file"),
        ("my  mug.ply: empty", "my  mug.ply: empty"),  # as the file is called
        ("a.ply: '\x1b[2J\x00\u202e\udce9' is none", "a.ply: '\ufffd[2J\ufffd\ufffd\ufffd' is none"),
        ("é \u4e2d\u6587.ply: empty", "é \u4e2d\u6587.ply: empty"),
    ],
)
def test_a_message_is_one_line_that_can_be_read(message, line):
    assert str(InputError(message)) == line


def test_a_long_message_keeps_the_file_and_the_remedy():
    started = time.process_time()
    told = str(InputError(f"a.json: {'x ' * 100_000}{' ' * 1_000_000} is no number: correct it"))
    assert told.startswith("a.json: x x") and told.endswith(" is no number: correct it")
    assert len(told) < 700 and time.process_time() - started < 1


def test_an_error_keeps_its_message_on_the_way_to_another_process():
    assert str(pickle.loads(pickle.dumps(InputError("a.ply: empty")))) == "a.ply: empty"


def test_a_lack_of_memory_is_told_as_torch_does(capsys):
    with pytest.raises(RuntimeError) as raised:
        torch.empty(10**15)
    code, told = ending(capsys, raised.value)
    assert code == 2 and told.startswith("error: out of memory (")


def test_other_errors_are_the_programs_own():
    @exits_cleanly
    def main() -> None:
        raise KeyError("a fault of the program")

    with pytest.raises(KeyError):
        main()


def test_an_interrupt_is_polite(capsys):
    assert ending(capsys, KeyboardInterrupt(), stopped="stopped: go on") == (130, "stopped: go on")
    assert ending(capsys, KeyboardInterrupt()) == (130, "stopped")


def test_an_output_that_nobody_reads_any_more_ends_the_program_silently():
    printed = "exits_cleanly(lambda: [print('x' * 99) for _ in range(9999)])()"
    command = [sys.executable, "-c", f"from picopose.utils.errors import exits_cleanly; {printed}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_pipe_of_others_that_is_broken_is_the_programs_own():
    def main():
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        exits_cleanly(main)()


def test_sigterm_clears_away_what_was_begun(capsys, tmp_path):
    @exits_cleanly
    def main() -> None:
        with write_atomically(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match="143"):
        main()
    assert list(tmp_path.iterdir()) == [] and signal.getsignal(signal.SIGTERM) == before


# --- writing


WRITERS = {
    "torch": lambda path: torch.save({"a": torch.rand(200_000)}, path),
    "safetensors": lambda path: save_file({"a": torch.rand(200_000)}, path),
    "numpy": lambda path: np.save(path, np.zeros(200_000)),
    "text": lambda path: path.write_text("x" * 800_000),
}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 KB, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_named(small_disk, writer):
    path = small_disk / "below" / "a.npy"
    path.parent.mkdir()
    path.write_text("before")
    with pytest.raises(InputError) as raised, write_atomically(path) as temporary:
        WRITERS[writer](temporary)
    told = str(raised.value)  # safetensors has given the space back by then
    assert re.match(rf"{path} does not fit, 0\.[03] MB free on the disk at {small_disk}: free some", told)
    assert [file.read_text() for file in path.parent.iterdir()] == ["before"]


def test_a_full_disk_is_known_by_the_space_that_is_left(tmp_path, monkeypatch):
    """As above, where nothing may be mounted: torch and safetensors have errors of their own for it."""
    left = namedtuple("Usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: left(4096))
    with pytest.raises(InputError, match=r"a\.pt does not fit, 0\.0 MB free on the disk at /"):  # noqa: SIM117
        with write_atomically(tmp_path / "a.pt"):
            raise RuntimeError("unexpected pos 576 vs 534")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: left(10**9))
    with pytest.raises(RuntimeError, match="unexpected"), write_atomically(tmp_path / "a.pt"):
        raise RuntimeError("unexpected")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").touch()
    for folder, reason in (("file", "File exists"), ("file/below", "Not a directory")):
        with pytest.raises(InputError, match=rf"{folder} cannot be made \({reason}\): name another folder"):
            make_folder(tmp_path / folder)
        with pytest.raises(InputError, match="cannot be made"), write_atomically(tmp_path / folder / "a"):
            pass


def test_a_folder_deleted_under_a_writer_is_told(tmp_path):
    with pytest.raises(InputError, match=r"a\.txt cannot be written \(No such file or directory\)"):  # noqa: SIM117
        with write_atomically(tmp_path / "log" / "a.txt") as temporary:
            shutil.rmtree(temporary.parent)


def test_other_files_that_are_missing_are_not_taken_for_it(tmp_path):
    with pytest.raises(FileNotFoundError), write_atomically(tmp_path / "a.txt"):
        (tmp_path / "elsewhere" / "b.txt").read_text()


# --- killed programs


KILLED = """
import os, signal, sys
from pathlib import Path
from picopose.utils.files import write_atomically
with write_atomically(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


HOLDING = """
import sys
from pathlib import Path
from picopose.utils.files import locked
with locked(Path(sys.argv[1]), ""):
    print("here", flush=True)
    input()
"""


def test_what_a_killed_program_leaves_is_removed_and_what_another_writes_is_not(tmp_path, caplog):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "below" / "a.txt")], cwd=ROOT)
    assert len(list((tmp_path / "below").iterdir())) == 1
    (tmp_path / ".mine.tmp.txt").touch()
    (tmp_path / "below" / ".tmp6oedj1").touch()  # as safetensors leaves it
    (tmp_path / ".tmp6oedj2").touch()  # as it would be while b.txt is written
    with write_atomically(tmp_path / "b.txt") as temporary, caplog.at_level(logging.INFO):
        temporary.write_text("whole")
        remove_leftovers(tmp_path)
    assert list((tmp_path / "below").iterdir()) == [] and (tmp_path / ".tmp6oedj2").exists()
    assert (tmp_path / "b.txt").read_text() == "whole"
    assert (tmp_path / ".mine.tmp.txt").exists()
    assert f"{tmp_path}: 2 files that a killed run has left half written are removed" in caplog.text


def test_where_there_are_no_locks_nothing_is_taken_for_a_leftover(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with locked(tmp_path, "busy"), write_atomically(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
        remove_leftovers(tmp_path)
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_a_lock_ends_with_its_holder(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-c", HOLDING, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(InputError, match="run: busy"), locked(folder, "busy"):
            pass
        holder.kill()
    with locked(folder, "busy"):
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "program", ["run_test.py", "run_train.py", "run_demo.py --serve", "-m picopose demo --serve"]
)
def test_an_interrupt_while_libraries_are_loaded_is_polite(program):
    command = [sys.executable, "-X", "importtime", *program.split()]  # tells when the first of them is there
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.endswith(" numpy\n"):
                process.send_signal(signal.SIGINT)
                break
        told = process.stderr.read()
    assert process.returncode == 130 and told.splitlines()[-1] == "stopped" and "Traceback" not in told
