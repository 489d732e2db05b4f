"""Weights and data sets by name, from a server on this computer."""

import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections import namedtuple
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import numpy as np
import pytest

from picopose.commands.download import main
from picopose.datasets.layouts import find_detections, find_meshes
from picopose.model.dualposenet.options import Options
from picopose.utils import downloads, transfer
from picopose.utils.config import Config
from picopose.utils.config_files import load_config
from picopose.utils.errors import InputError
from picopose.utils.files import in_turn
from tests.file_server import Content, serving
from tests.shared import ROOT

WEIGHTS = np.random.default_rng(0).bytes(200_000)


def archive(files: dict[str, bytes]) -> bytes:
    """A zip file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return content.getvalue()


CONTENTS = {
    "/net.ckpt": WEIGHTS,
    "/nets": archive({"log/REAL275/model-30.index": b"real", "log/CAMERA25/model-30.index": b"camera"}),
    "/base.zip": archive({"toy/targets": b"targets", "toy/models/info": b"here already"}),
    "/models.zip": archive({"models/info": b"info", "models_eval/info": b"more"}),
    "/photos.zip": archive({"released/one/a": b"photo", "notes": b""}),
}
TABLE = f"""
[net]
what = "a network"
page = "https://example.org"
kind = "weights"
note = "Of no use."
files = [{{ url = "ADDRESS/net.ckpt", gives = "net.pt", sha256 = "{hashlib.sha256(WEIGHTS).hexdigest()}" }}]
[nets-real]
what = "two networks"
page = "https://example.org"
licence = "MIT"
kind = "weights"
files = [{{ url = "ADDRESS/nets", name = "nets.zip", into = "nets", gives = "nets/**/REAL275/**/*.index" }}]
[nets-camera]
what = "two networks"
page = "https://example.org"
kind = "weights"
files = [{{ url = "ADDRESS/nets", name = "nets.zip", into = "nets", gives = "nets/**/CAMERA25/**/*.index" }}]
[toy]
what = "a data set"
page = "https://example.org"
kind = "data"
files = [
    {{ url = "ADDRESS/base.zip", into = "", gives = "toy/targets" }},
    {{ url = "ADDRESS/models.zip", into = "toy", gives = "toy/models_eval" }},
    {{ url = "ADDRESS/photos.zip", into = "toy/test", inner = "released", gives = "toy/test/one*" }},
]
[by-hand]
what = "what no address leads to"
page = "https://example.org/page"
kind = "data"
note = "Click on it."
"""


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of all in the table; what is fetched goes below the test's folder."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("PICOPOSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(transfer, "PAUSES", (0,))
    monkeypatch.chdir(tmp_path)
    with serving() as server:
        server.contents |= {path: Content(data) for path, data in CONTENTS.items()}
        (tmp_path / "table.toml").write_text(TABLE.replace("ADDRESS", server.address("")))
        monkeypatch.setattr(downloads, "TABLE", tmp_path / "table.toml")
        yield server


def files_in(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def failure(capsys, *given: str) -> str:
    """The line that a command ends with which cannot do its work."""
    with pytest.raises(SystemExit) as caught:
        main(given)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_several_are_fetched_at_once_and_only_once(server, tmp_path, capsys):
    given = ["toy", "net", "nets-real", "toy", "nets-camera", "--yes"]
    main(given)
    out = capsys.readouterr().out
    assert "net: a network. Licence: see https://example.org\n  Of no use.\n" in out
    assert "nets-real: two networks. Licence: MIT https://example.org\n" in out
    assert "  net.ckpt: 0.2 MB\n" in out and "0.2 MB to fetch, which takes 0.0 MB in data, 0.2 MB in /" in out
    assert files_in(tmp_path / "data") == {
        "toy/targets": b"targets",
        "toy/models/info": b"info",
        "toy/models_eval/info": b"more",
        "toy/test/one/a": b"photo",
    }
    assert files_in(tmp_path / "cache") == {
        "weights/net.pt": WEIGHTS,
        "weights/nets/log/REAL275/model-30.index": b"real",
        "weights/nets/log/CAMERA25/model-30.index": b"camera",
    }
    assert not list(tmp_path.rglob(".download"))
    server.requests.clear()
    main(given)
    assert not server.requests and str(tmp_path / "cache/weights/net.pt") in capsys.readouterr().out


def test_names_stand_for_paths_once_they_are_fetched(server, tmp_path):
    command = r"net: a network, is not on this computer yet: run `python -m picopose download net`$"
    with pytest.raises(InputError, match=f"^{command}"):
        load_config(ROOT / "config/lite.yaml", flags={"checkpoint": "net"})
    main(["net", "nets-real", "--yes"])
    weights = tmp_path / "cache/weights"
    config = load_config(ROOT / "config/lite.yaml", flags={"checkpoint": "net"})
    assert config.checkpoint == f"{weights}/net.pt"
    assert Options(weights="nets-real").weights == f"{weights}/nets/log/REAL275/model-30.index"
    for other in ("toy", "by-hand", "elsewhere.pt"):
        assert Config(checkpoint=other).checkpoint == other
    (tmp_path / "net").write_bytes(b"a file of one's own")
    assert Config(checkpoint="net").checkpoint == "net"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "fetched"), [("y\n", True), ("n\n", False), ("", False)])
def test_it_asks_on_a_terminal(server, tmp_path, monkeypatch, capsys, answer, fetched):
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    main(["net"])
    assert "which takes 0.2 MB in " in capsys.readouterr().out
    assert (tmp_path / "cache/weights/net.pt").exists() == fetched


def test_what_cannot_be_fetched_is_told_before_anything_is(server, tmp_path, monkeypatch, capsys):
    assert failure(capsys, "net", "tyo", "--yes") == (
        "error: tyo: nothing has that name; there are net, nets-real, nets-camera, toy, by-hand"
    )
    hand = "error: by-hand: to be fetched by hand, from https://example.org/page. Click on it."
    assert failure(capsys, "net", "by-hand", "--yes") == hand
    assert "nobody can be asked here whether to go on: pass --yes" in failure(capsys, "net")
    main([])
    assert "by-hand      what no address leads to (by hand)\n" in capsys.readouterr().out
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(100_000))
    line = failure(capsys, "toy", "net", "--yes")
    assert f"what is to be fetched needs 0.2 MB in {tmp_path}/cache/weights, where 0.1 MB are free" in line
    assert not (tmp_path / "cache").exists() and not (tmp_path / "data").exists()


def test_what_broke_off_is_not_counted_or_fetched_again(server, tmp_path, capsys):
    server.contents["/net.ckpt"].cuts = [len(WEIGHTS), 150_000, 0, 0]  # the first is asked for its size alone
    assert "broke off after 150000 of 200000 bytes" in failure(capsys, "net", "--yes")
    main(["net", "--yes"])
    out = capsys.readouterr().out
    assert "  net.ckpt: 0.2 MB\n0.1 MB to fetch" in out and server.requests[-1][1] == "bytes=150000-"
    assert files_in(tmp_path / "cache") == {"weights/net.pt": WEIGHTS}


def test_a_changed_file_is_refused(server, tmp_path, capsys):
    server.contents["/net.ckpt"] = Content(WEIGHTS[::-1])
    assert "net.ckpt: came with SHA-256" in failure(capsys, "net", "--yes")
    assert not files_in(tmp_path / "cache")


HARMFUL = {
    "leads out of it": archive({"models/a": b"", "../harm": b"harm"}),
    "damaged, or no archive": b"no archive at all",
}


@pytest.mark.parametrize("reason", HARMFUL)
def test_a_harmful_or_damaged_archive_is_refused_and_removed(server, tmp_path, capsys, reason):
    server.contents["/models.zip"] = Content(HARMFUL[reason])
    assert reason in failure(capsys, "toy", "--yes")
    assert files_in(tmp_path / "data").keys() == {"toy/targets", "toy/models/info"}  # of base.zip
    assert not list(tmp_path.rglob("harm"))
    server.contents["/models.zip"] = Content(CONTENTS["/models.zip"])
    main(["toy", "--yes"])
    assert (tmp_path / "data/toy/models_eval/info").exists()


def test_an_archive_of_something_else_is_told_and_kept(server, tmp_path, capsys):
    server.contents["/photos.zip"] = Content(archive({"renamed/one/a": b"photo", "other": b""}))
    line = failure(capsys, "toy", "--yes")
    kept = PurePosixPath("data/.download/photos.zip")
    assert f"{kept}: holds other, renamed, but no released; unpack it by hand into data/toy/test" in line
    assert (tmp_path / kept).exists() and not (tmp_path / "data/toy/test").exists()


def test_an_interrupted_move_is_gone_on_with(server, tmp_path, monkeypatch):
    def interrupted(source, target):
        if "models_eval" in str(target):
            raise KeyboardInterrupt
        return move(source, target)

    move = shutil.move
    monkeypatch.setattr(shutil, "move", interrupted)
    with pytest.raises(SystemExit):
        main(["toy", "--yes"])
    monkeypatch.setattr(shutil, "move", move)
    assert (tmp_path / "data/toy/models/info").exists()
    server.requests.clear()
    main(["toy", "--yes"])
    assert (tmp_path / "data/toy/models_eval/info").read_bytes() == b"more"
    assert len(server.ranges("/models.zip")) == 1 and not server.ranges("/base.zip")  # asked for its size


def test_a_disk_that_fills_while_unpacking_costs_no_second_transfer(server, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfileobj", full)
        assert "base.zip.unpacked does not fit" in failure(capsys, "toy", "--yes")
    assert files_in(tmp_path / "data") == {".download/base.zip": CONTENTS["/base.zip"]}
    server.requests.clear()
    main(["toy", "--yes"])
    assert (tmp_path / "data/toy/targets").exists() and len(server.ranges("/base.zip")) == 1  # for its size


PROGRAM = """
import sys
from pathlib import Path
from picopose.commands.download import main
from picopose.utils import downloads
downloads.TABLE = Path("table.toml")
main(sys.argv[1:])
"""


def started(tmp_path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "net", "--yes"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_at_once_take_turns_and_a_killed_one_lets_go(server, tmp_path):
    server.contents["/net.ckpt"].gate = gate = threading.Event()
    part = tmp_path / "cache/weights/.download/net.ckpt.part"
    with started(tmp_path) as first:
        while not part.exists():
            time.sleep(0.01)
        with started(tmp_path) as second, started(tmp_path) as third:
            for waiting in (second, third):
                assert "another run is at work there; this one waits for it" in waiting.stderr.readline()
            first.kill()
            gate.set()
            assert second.wait(10) == third.wait(10) == 0
    assert files_in(tmp_path / "cache") == {"weights/net.pt": WEIGHTS}


def test_the_turn_is_held_for_as_long_as_the_block_runs(tmp_path):
    order = []

    def other() -> None:
        with in_turn(tmp_path / "new"):
            order.append("second")

    with in_turn(tmp_path / "new"):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize("missing", ["lmo", "lmo/models"])
def test_missing_data_name_the_command(tmp_path, missing):
    folder = tmp_path / "my data"
    (folder / missing).parent.mkdir(parents=True)
    command = "run `python -m picopose download"
    with pytest.raises(InputError, match=rf"{missing} not found: .*{command} lmo --data_dir '/.*my data'`"):
        find_meshes(folder, "lmo")
    with pytest.raises(InputError, match=f"no detections for lmo: {command} cnos-detections"):
        find_detections(folder, "lmo")
    with pytest.raises(InputError, match="own not found: set data_dir or download own"):
        find_meshes(folder, "own")


def test_the_table_is_sound():
    table = downloads.downloads()
    assert table.keys() > {"picopose", "dualposenet-real275", "lmo", "cnos-detections", "megapose-gso"}
    staged = {}
    for download in table.values():
        assert download.kind in ("weights", "data") and download.page.startswith("https://")
        assert download.files or download.note
        for file in download.files:
            url = urlsplit(file.url)
            assert url.scheme == "https" or url.hostname == "download.cs.stanford.edu"
            assert staged.setdefault((download.kind, file.file_name), file.url) == file.url
            paths = [PurePosixPath(path) for path in (file.gives, file.into or "", file.inner)]
            assert not any(path.is_absolute() or ".." in path.parts for path in paths) and file.file_name
            assert file.into is None or paths[0].relative_to(paths[1]).parts
            assert file.sha256 is None or len(file.sha256) == 64
