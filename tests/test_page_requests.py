"""The page under load: one request at a time, no more than it can hold, nothing for those who are gone."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from picopose.demo import connections, server, uploads
from picopose.demo.desk import Desk, Job
from picopose.pipeline.estimator import PoseEstimator
from picopose.utils import scratch
from picopose.utils.errors import InputError
from tests import shipped
from tests.shared import ROOT
from tools.pictures.page import running_page

FIELDS = dict.fromkeys(uploads.SIDES, "9") | {"camera": "fov", "fov": "60"}


@pytest.fixture(scope="module")
def estimator() -> PoseEstimator:
    return shipped.estimator()


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """Where temporary folders are made meanwhile."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


class Work:
    """Takes the place of finding a pose: goes on when it may, and notes whom it worked for."""

    def __init__(self):
        self.may_end, self.began, self.names = threading.Event(), threading.Semaphore(0), []

    def __call__(self, estimator, upload, tell) -> dict:
        self.names.append(upload.mesh.stem)
        self.began.release()
        while not self.may_end.wait(0.02):
            tell({"doing": "Waiting for the test"})
        return {}


@pytest.fixture
def work(monkeypatch) -> Iterator[Work]:
    work = Work()
    monkeypatch.setattr(server, "find", work)
    yield work
    work.may_end.set()


@pytest.fixture
def port(estimator, work, temporary) -> Iterator[int]:
    with running_page(estimator) as address:
        yield int(address.rstrip("/").rsplit(":", 1)[1])


def body(name: str = "mug", **fields: str) -> bytes:
    photo = io.BytesIO()
    Image.new("RGB", (64, 48)).save(photo, "PNG")
    parts = [(f'name="{key}"', value.encode()) for key, value in (FIELDS | fields).items()]
    parts += [('name="photo"; filename="photo.png"', photo.getvalue())]
    parts += [(f'name="mesh"; filename="{name}.ply"', b"ply")]
    lines = [f"--x\r\nContent-Disposition: form-data; {k}\r\n\r\n".encode() + v + b"\r\n" for k, v in parts]
    return b"".join(lines) + b"--x--\r\n"


def head(length: int | str, *more: str) -> bytes:
    lines = ["POST /pose HTTP/1.1", "Host: localhost", "Content-Type: multipart/form-data; boundary=x"]
    return "\r\n".join([*lines, f"Content-Length: {length}", *more, "", ""]).encode()


@contextmanager
def sent(port: int, *parts: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        for part in parts:
            connection.sendall(part)
        yield connection


def asked(port: int, name: str = "mug"):
    content = body(name)
    return sent(port, head(len(content)), content)


def answer(connection: socket.socket) -> tuple[int, list[dict], str]:
    """Status, the lines of JSON, and everything as text."""
    text = b""
    while part := connection.recv(1 << 16):
        text += part
    text = text.decode()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return int(text.split()[1]), lines, text


def wait_for(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_they_come_in_their_order_and_are_told_how_many_are_before(port, work):
    with asked(port, "first") as first:
        work.began.acquire()
        with asked(port, "second") as second:
            second.recv(1)  # it has its place
            with asked(port, "third") as third:
                third.recv(1)
                work.may_end.set()
                results = [answer(connection)[1] for connection in (first, second, third)]
    assert work.names == ["first", "second", "third"]
    assert results[2][0] == {"doing": "Waiting for 2 other requests"}
    assert [lines[-1] for lines in results] == 3 * [{"result": {}}]


def test_who_hangs_up_before_the_turn_is_not_computed(port, work, temporary):
    with asked(port, "first") as first:
        work.began.acquire()
        with asked(port, "gone"):
            wait_for(lambda: len(list(temporary.iterdir())) == 2)
        wait_for(
            lambda: len(list(temporary.iterdir())) == 1
        )  # its files are removed, while another is computed
        with asked(port, "last") as last:
            work.may_end.set()
            assert answer(last)[1][-1] == answer(first)[1][-1] == {"result": {}}
    assert work.names == ["first", "last"]
    assert list(temporary.iterdir()) == []


def test_who_hangs_up_at_the_last_moment_is_not_computed_either(port, work):
    with asked(port, "first"):
        work.began.acquire()
        with asked(port, "gone") as gone:
            gone.recv(1)
        work.may_end.set()
        with asked(port, "last") as last:
            answer(last)
    assert work.names == ["first", "last"]


def test_who_hangs_up_meanwhile_frees_the_turn(port, work):
    with asked(port, "gone"):
        work.began.acquire()
    with asked(port, "next"):
        work.began.acquire()
    assert work.names == ["gone", "next"]


def test_no_more_than_so_many_wait(port, work):
    held = [asked(port) for _ in range(server.PLACES)]
    connections_ = [one.__enter__() for one in held]
    work.began.acquire()
    for connection in connections_:
        connection.recv(1)  # it has its place
    with sent(port, head(10**6)) as one_more:  # refused before anything is read
        status, (line,), text = answer(one_more)
    assert (status, line) == (503, {"error": server.BUSY})
    assert "Retry-After: 60" in text
    work.may_end.set()
    for one, connection in zip(held, connections_, strict=True):
        assert answer(connection)[1][-1] == {"result": {}}
        one.__exit__(None, None, None)
    with asked(port) as again:
        assert answer(again)[1][-1] == {"result": {}}


@pytest.fixture
def hasty(monkeypatch) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.4)


@pytest.fixture
def brisk(monkeypatch) -> None:
    """Who is refused is listened to for a moment only."""
    monkeypatch.setattr(connections, "PATIENCE", 3.0)


def trickle(connection: socket.socket, content: bytes, pause: float) -> float:
    """Sends a few bytes at a time until the other side is fed up; the seconds that it was not."""
    start = time.monotonic()
    with pytest.raises(OSError):
        for i in range(0, len(content), 2):
            connection.sendall(content[i : i + 2])
            time.sleep(pause)
    return time.monotonic() - start


def test_slow_heads_and_bodies_are_cut_off(port, hasty, work, temporary):
    with sent(port) as connection:
        assert trickle(connection, 50 * head(9), 0.05) < 5
    content = body()
    with sent(port, head(len(content)), content[:20]) as connection:
        status, (line,), _ = answer(connection)
    assert (status, line) == (408, {"error": "the files came too slowly: send them again"})
    with sent(port, head(len(content)), content[:20]) as connection:
        assert trickle(connection, content[20:], 0.05) < 5
    assert work.names == [] and list(temporary.iterdir()) == []


def test_who_was_quick_at_first_may_not_be_slow_for_it(port, hasty, work):
    with sent(port, head(40 << 20), bytes(20 << 20)) as connection:  # worth minutes at the slowest rate
        start = time.monotonic()
        assert answer(connection)[0] in (408, 413)
        assert time.monotonic() - start < 5


def test_connections_are_bounded(port):
    threads = threading.active_count() + connections.CONNECTIONS
    idle = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(connections.CONNECTIONS)]
    wait_for(lambda: threading.active_count() >= threads)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as one_more:
        status, (line,), text = answer(one_more)
    assert status == 503 and "too many connections" in line["error"] and "Retry-After" in text
    assert threading.active_count() <= threads
    for connection in idle:
        connection.close()
    wait_for(lambda: _is_served(port))


def _is_served(port: int) -> bool:
    with sent(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") as connection:
        return connection.recv(1 << 10).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n" * 200 + b"--x--", 413, "too many"),
        (b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n" + bytes(10**6), 413, "too long"),
        (b"--x\r\n" + b"X-Y: z\r\n" * 100_000 + b"\r\nb\r\n--x--", 413, "too long"),
        (body(symmetry="z" * 1000), 200, "symmetry has 1000 characters: write at most 100"),
        (body(left="nan"), 200, "left 'nan' is no number"),
        (body(camera="other"), 200, "camera 'other': choose exif, fov or K"),
        (body("../../mug"), 200, ""),
    ],
)
def test_forms_are_bounded(port, work, brisk, content, status, message):
    work.may_end.set()
    with sent(port, head(len(content)), content) as connection:
        found, lines, _ = answer(connection)
    assert found == status and message in lines[-1].get("error", "")


def test_lengths_must_be_told(port, brisk):
    request = head(9).replace(b"Content-Length: 9", b"Transfer-Encoding: chunked")
    with sent(port, request, b"5\r\nabcde\r\n") as connection:
        status, (line,), _ = answer(connection)
    assert (status, line) == (411, {"error": "the request does not say how long it is"})


def test_two_files_of_one_name(estimator):
    files = [(io.BytesIO(content), "mug.ply") for content in (b"one", b"two")]
    photo = io.BytesIO(body())
    client = server.make_app(estimator).test_client()
    said = client.post("/pose", data=FIELDS | {"photo": (photo, "photo.png"), "mesh": files}).text
    assert "mug.ply is there twice" in said


def test_what_is_doubtful_is_told_and_what_is_the_programs_own_is_not(estimator, monkeypatch, temporary):
    def find(estimator, upload, tell):
        server.LOG.warning("%s is turned", upload.photo)
        server.LOG.warning("%s/features/1.safetensors is damaged", estimator.config.log_dir)
        raise InputError(f"{ROOT}/log/features cannot be made")

    monkeypatch.setattr(server, "find", find)
    files = {"photo": (io.BytesIO(body()), "photo.png"), "mesh": (io.BytesIO(b"ply"), "mug.ply")}
    monkeypatch.setattr(uploads, "_check_picture", lambda path: None)
    said = server.make_app(estimator).test_client().post("/pose", data=FIELDS | files).text
    lines = [json.loads(line) for line in said.splitlines()]
    assert lines[1:] == [{"warning": "photo.png is turned"}, {"error": server.FAILED}]


def test_a_full_disk_is_told(estimator, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    files = {"photo": (io.BytesIO(b"p"), "photo.png"), "mesh": (io.BytesIO(b"ply"), "mug.ply")}
    asked = server.make_app(estimator).test_client().post("/pose", data=FIELDS | files)
    assert (asked.status_code, asked.get_json(force=True)) == (503, {"error": server.FAILED})


def test_jobs_all_run_in_one_thread_and_end_with_the_desk():
    desk, threads, ended = Desk(3), [], []

    def job(last: dict) -> Job:
        def run(tell) -> dict:
            threads.append(threading.get_ident())
            return last

        return Job(run, lambda: False, lambda: ended.append(last))

    for number in range(3):
        assert list(desk.take(job({"n": number})))[-1] == {"n": number}
    assert len(set(threads)) == 1 and threading.get_ident() not in threads
    desk.close()
    (*_, last) = desk.take(job({"n": 3}))
    assert "the program was ended" in last["error"]
    assert len(threads) == 3 and len(ended) == 4


SCRATCH = """
import sys, time
from picopose.utils.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "photo.jpg").write_bytes(b"private")
    print(folder, flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder: Path) -> Iterator[tuple[subprocess.Popen, Path]]:
    """A process with a temporary folder, and that."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRATCH],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


def test_folders_of_killed_programs_are_removed_and_no_others(temporary):
    others = temporary / f"{scratch.PREFIX}a-file", temporary / "picopose-test"
    others[0].write_text("kept")
    others[1].mkdir()
    with (
        holder(temporary) as (killed, left),
        holder(temporary) as (_, in_use),
        scratch.scratch_folder() as own,
    ):
        killed.kill()
        killed.wait()
        assert left.joinpath("photo.jpg").exists()
        scratch.remove_leftovers()
        assert not left.exists()
        assert in_use.joinpath("photo.jpg").exists() and own.exists()
    assert not own.exists()
    scratch.remove_leftovers()
    assert sorted(temporary.iterdir()) == sorted(others)


PAGE = """
import time
import run_demo
from picopose.demo import command, server
from tests import shipped
def find(estimator, upload, tell):
    while True:
        tell({"doing": "Working"})
        time.sleep(0.05)
server.find = find
command.make_estimator = lambda arguments: shipped.estimator()
run_demo.main()
"""


def started(temporary: Path) -> tuple[subprocess.Popen, int]:
    page = subprocess.Popen(
        [sys.executable, "-c", PAGE, "--serve", "--port", "0"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(temporary)},
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in page.stderr:
        if "open http" in line:
            return page, int(line.split(":")[2].split()[0])
    raise AssertionError("the page did not start")


def test_a_killed_page_leaves_its_uploads_to_the_next_and_a_terminated_one_none(temporary):
    page, port = started(temporary)
    with asked(port) as connection:
        connection.recv(1)
        page.kill()
    page.communicate()
    (left,) = temporary.glob(f"{scratch.PREFIX}*")
    assert (left / "photo" / "photo.png").exists()
    page, port = started(temporary)
    assert not left.exists()
    with asked(port) as connection:
        connection.recv(1)
        page.send_signal(signal.SIGTERM)
        assert answer(connection)[1][-1] == {"error": "the program was ended: start it again"}
    _, told = page.communicate(timeout=60)
    assert "Traceback" not in told
    assert not list(temporary.glob(f"{scratch.PREFIX}*"))
