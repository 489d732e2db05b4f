"""Files from the web, against a server on this computer that behaves like those there."""

import errno
import hashlib
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from picopose.utils import transfer, web
from picopose.utils.errors import InputError
from picopose.utils.transfer import fetch, fetched_of, size_at
from tests.file_server import PAGE, Content, serving
from tests.shared import ROOT

DATA = np.random.default_rng(0).bytes(300_000)
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(transfer, "PAUSES", (0, 0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server():
    with serving() as server:
        server.contents["/file"] = server.contents["/confirmed"] = Content(DATA)
        yield server


def whole(target) -> bool:
    """Whether the file is there, with nothing beside it."""
    return target.read_bytes() == DATA and list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("path", ["/file", "/hugging/file", "/drive"])
def test_a_file_comes_by_redirects_and_confirmation(server, tmp_path, path):
    assert size_at(server.address(path)) == len(DATA)
    fetch(server.address(path), tmp_path / "new" / "file", sha256=DIGEST)
    assert whole(tmp_path / "new" / "file")


def test_a_file_replaces_an_older_one(server, tmp_path):
    (tmp_path / "file").write_bytes(b"older")
    fetch(server.address("/file"), tmp_path / "file")
    assert whole(tmp_path / "file")


def test_a_cut_connection_is_gone_on_with(server, tmp_path):
    server.contents["/file"].cuts = [100_000, 50_000, 0, 0]
    fetch(server.address("/file"), tmp_path / "file", sha256=DIGEST)
    assert whole(tmp_path / "file")
    assert server.ranges("/file") == [None, "bytes=100000-", *3 * ["bytes=150000-"]]


def test_a_server_that_falls_silent_is_asked_again(server, tmp_path, monkeypatch):
    content = server.contents["/file"]
    content.gate = gate = threading.Event()
    monkeypatch.setattr(web, "_TIMEOUT", 0.1)
    monkeypatch.setattr(transfer.time, "sleep", lambda _: setattr(content, "gate", None))
    fetch(server.address("/file"), tmp_path / "file", sha256=DIGEST)
    gate.set()
    assert whole(tmp_path / "file") and server.ranges("/file") == [None, "bytes=150000-"]


@pytest.mark.parametrize("path", ["/hugging/file", "/drive"])
def test_a_detour_is_gone_on_with(server, tmp_path, path):
    server.contents["/file"].cuts = server.contents["/confirmed"].cuts = [100_000]
    fetch(server.address(path), tmp_path / "file")
    assert whole(tmp_path / "file") and server.requests[-1][1] == "bytes=100000-"


def left_half(server, target, *, anew: bool = False, **options) -> None:
    """What a fetch leaves that breaks off for good; `anew`: the server begins every time at the beginning."""
    server.contents["/file"].cuts = [100_000, *3 * [100_000 if anew else 0]]
    with pytest.raises(InputError, match=r"file: .* broke off after 100000 of 300000 bytes.*try again"):
        fetch(server.address("/file"), target, **options)
    assert fetched_of(target) == 100_000 and not target.exists()
    server.requests.clear()


def test_a_later_run_goes_on(server, tmp_path):
    left_half(server, tmp_path / "file")
    fetch(server.address("/file"), tmp_path / "file", sha256=DIGEST)
    assert whole(tmp_path / "file") and server.ranges("/file") == ["bytes=100000-"]


def test_the_date_tells_versions_too(server, tmp_path):
    server.contents["/file"] = Content(DATA, etag=None, modified="Fri, 02 Jan 2026 03:04:05 GMT")
    left_half(server, tmp_path / "file")
    fetch(server.address("/file"), tmp_path / "file")
    assert whole(tmp_path / "file") and server.ranges("/file") == ["bytes=100000-"]


@pytest.mark.parametrize("digest", [None, DIGEST])
def test_without_either_only_a_known_digest_allows_to_go_on(server, tmp_path, digest):
    server.contents["/file"] = Content(DATA, etag=None)
    left_half(server, tmp_path / "file", anew=not digest, sha256=digest)
    fetch(server.address("/file"), tmp_path / "file", sha256=digest)
    assert whole(tmp_path / "file") and server.ranges("/file") == ["bytes=100000-" if digest else None]


def test_another_version_is_begun_anew(server, tmp_path):
    left_half(server, tmp_path / "file")
    old = bytes(reversed(DATA))
    server.contents["/file"] = Content(old, etag='"two"')
    fetch(server.address("/file"), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == old


def test_another_address_is_begun_anew(server, tmp_path):
    left_half(server, tmp_path / "file")
    server.contents["/other"] = Content(DATA)
    fetch(server.address("/other"), tmp_path / "file")
    assert whole(tmp_path / "file") and server.ranges("/other") == [None]


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    server.contents["/file"].ranges = False
    left_half(server, tmp_path / "file", anew=True)
    fetch(server.address("/file"), tmp_path / "file")
    assert whole(tmp_path / "file")


def test_a_server_that_never_gets_further_is_given_up(server, tmp_path):
    server.contents["/file"] = Content(DATA, ranges=False, cuts=9 * [1000])
    with pytest.raises(InputError, match="broke off after 1000 of 300000"):
        fetch(server.address("/file"), tmp_path / "file")
    assert len(server.requests) == 4


def test_what_was_complete_but_not_in_place_is_not_asked_for(server, tmp_path):
    left_half(server, tmp_path / "file")
    with (tmp_path / "file.part").open("ab") as part:
        part.write(DATA[100_000:])
    fetch(server.address("/file"), tmp_path / "file", sha256=DIGEST)
    assert whole(tmp_path / "file") and not server.requests


def test_a_part_that_is_too_long_is_begun_anew(server, tmp_path):
    left_half(server, tmp_path / "file")
    with (tmp_path / "file.part").open("ab") as part:
        part.write(DATA)
    fetch(server.address("/file"), tmp_path / "file", sha256=DIGEST)
    assert whole(tmp_path / "file")


@pytest.mark.parametrize(
    ("path", "digest"), [("/file", hashlib.sha256(b"another").hexdigest()), ("/hugging/file", None)]
)
def test_a_wrong_digest_is_refused_and_nothing_kept(server, tmp_path, monkeypatch, path, digest):
    if digest is None:  # the one that the server tells
        monkeypatch.setattr("tests.file_server.sha256", lambda _: hashlib.sha256(b"another"))
    with pytest.raises(InputError, match=f"file: came with SHA-256 {DIGEST} in place of [0-9a-f]{{64}}, and"):
        fetch(server.address(path), tmp_path / "file", sha256=digest)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_page_in_place_of_a_file_is_told_by_its_title(server, tmp_path, kind):
    server.contents["/file"] = Content(b"\n " + PAGE % (b"Quota\n exceeded", b""), kind=kind)
    with pytest.raises(InputError, match=r"file: a web page came in place of the file \(Quota exceeded\)"):
        fetch(server.address("/file"), tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_follows_the_confirmation_is_told_as_well(server, tmp_path):
    server.contents["/confirmed"] = Content(PAGE % (b"Too many", b""), kind="text/html")
    with pytest.raises(InputError, match=r"drive: a web page .*Too many"):
        fetch(server.address("/drive"), tmp_path / "file")


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(server, tmp_path):
    server.contents["/file"].codes = [503, 429]
    fetch(server.address("/file"), tmp_path / "file")
    server.contents["/file"].codes = [500] * 3
    with pytest.raises(InputError, match="answers 500 "):
        fetch(server.address("/file"), tmp_path / "file")
    with pytest.raises(InputError, match=r"absent: 127.0.0.1 answers 404 .*; look for the file"):
        fetch(server.address("/absent"), tmp_path / "absent")
    assert len(server.ranges("/absent")) == 1


def test_no_server_is_told(server, tmp_path):
    address = "http://127.0.0.1:9/file"  # nobody listens there
    for ask in (size_at, lambda address: fetch(address, tmp_path / "file")):
        with pytest.raises(
            InputError, match=r"127.0.0.1 cannot be reached \(Connection refused\); check the"
        ):
            ask(address)


def test_redirects_stay_secure():
    web._check_secure("http://a", "https://b")
    for before, after in (("https://a", "http://b"), ("http://a", "ftp://b"), ("https://a", "file:///b")):
        with pytest.raises(InputError, match="which is not https"):
            web._check_secure(before, after)


def test_a_full_disk_is_told_and_what_has_come_is_kept(server, tmp_path, monkeypatch):
    def filling(body):
        for block in blocks(body):
            yield block[:1000]
            raise OSError(errno.ENOSPC, "No space left on device")

    blocks = transfer.blocks
    monkeypatch.setattr(transfer, "blocks", filling)
    with pytest.raises(InputError, match=r"file does not fit, .* free on the disk"):
        fetch(server.address("/file"), tmp_path / "file")
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert fetched_of(tmp_path / "file") == 1000
    fetch(server.address("/file"), tmp_path / "file", sha256=DIGEST)
    assert whole(tmp_path / "file") and server.ranges("/file")[-1] == "bytes=1000-"


FETCH = """
import sys
from pathlib import Path
from picopose.utils.transfer import fetch
fetch(sys.argv[1], Path(sys.argv[2]))
"""


def test_a_killed_program_is_gone_on_with(server, tmp_path):
    server.contents["/file"].gate = gate = threading.Event()
    command = [sys.executable, "-c", FETCH, server.address("/file"), str(tmp_path / "file")]
    with subprocess.Popen(command, cwd=ROOT) as program:
        while fetched_of(tmp_path / "file") < len(DATA) // 2 - (1 << 13):  # what a buffer may hold
            time.sleep(0.01)
        program.kill()
    gate.set()
    server.contents["/file"].gate = None
    come = fetched_of(tmp_path / "file")
    fetch(server.address("/file"), tmp_path / "file", sha256=DIGEST)
    assert whole(tmp_path / "file") and server.ranges("/file") == [None, f"bytes={come}-"]
