"""Prepared files: within a bound, those used longest ago go first, and wrong folders are told in a line."""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from picopose.commands import cache
from picopose.model.prepared_files import GIGABYTE, PreparedFiles
from picopose.utils import distributed
from picopose.utils.errors import InputError

SIZE = 1000 + 72  # bytes of a file: what it holds, and a head


def make() -> dict[str, torch.Tensor]:
    return {"numbers": torch.zeros(1000, dtype=torch.uint8)}


def opened(files: PreparedFiles, *keys: str) -> None:
    for key in keys:
        files.open(key, load_file, make, what=key)


def names(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.safetensors")}


def used(folder: Path, key: str, seconds_ago: float) -> None:
    path = folder / f"{key}.safetensors"
    when = path.stat().st_mtime - seconds_ago
    os.utime(path, (when, when))


def test_what_was_used_longest_ago_makes_room(tmp_path):
    earlier = PreparedFiles(tmp_path)
    opened(earlier, "a", "b", "c")
    for ago, key in enumerate("cba", start=1):
        used(tmp_path, key, 100 * ago)
    files = PreparedFiles(tmp_path, limit=3.5 * SIZE / GIGABYTE)
    opened(files, "a")  # used again now
    opened(files, "d")
    assert names(tmp_path) == {"a", "c", "d"}


def test_what_is_in_use_stays_until_it_is_released(tmp_path):
    files = PreparedFiles(tmp_path, limit=0)
    opened(files, "a", "b", "c")
    assert names(tmp_path) == {"a", "b", "c"}
    files.release("a")
    files.release("b")
    opened(files, "d")
    assert names(tmp_path) == {"c", "d"}


def test_one_of_several_makes_what_all_want(tmp_path):
    """Each begins with a share of its own, so that all are made side by side, and none twice."""
    made, keys = [], ["a", "b", "c", "d"]

    def make_slowly(key: str) -> dict[str, torch.Tensor]:
        made.append(key)
        time.sleep(0.1)
        return make()

    def process(order: list[str]) -> None:
        for key in order:
            PreparedFiles(tmp_path).open(key, load_file, partial(make_slowly, key), what=key)

    with ThreadPoolExecutor() as processes:
        list(processes.map(process, (keys, keys[2:] + keys[:2])))
    assert sorted(made) == keys and set(made[:2]) == {"a", "c"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{key}.safetensors" for key in keys]


@pytest.mark.parametrize(("size", "orders"), [(1, ["abcde"]), (2, ["abcde", "cdeab"])])
def test_processes_begin_with_shares_of_their_own(monkeypatch, size, orders):
    monkeypatch.setattr(distributed, "world_size", lambda: size)
    found = []
    for rank in range(size):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        found.append("".join(distributed.own_first("abcde")))
    assert found == orders


def test_what_is_half_written_is_no_prepared_file_and_goes(tmp_path, monkeypatch, capsys):
    files = PreparedFiles(tmp_path)
    opened(files, "a")
    half = tmp_path / ".a.0a1b2c3d.tmp.safetensors"
    half.write_bytes(b"half")
    assert list(files.files()) == [tmp_path / "a.safetensors"]
    monkeypatch.setattr(sys, "argv", ["cache", "--folder", str(tmp_path)])
    cache.main()
    assert not half.exists() and "1 files" in capsys.readouterr().out


@pytest.mark.parametrize("below", ["file/features", "file"])
def test_a_folder_that_cannot_be_is_told_before_anything_is_prepared(tmp_path, below):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match=f"{tmp_path}/{below} cannot be made"):
        PreparedFiles(tmp_path / below).open("a", load_file, pytest.fail, what="a")


def test_the_command_lists_shrinks_and_clears(tmp_path, monkeypatch, capsys):
    def run(*options: str) -> str:
        monkeypatch.setattr(sys, "argv", ["cache", "--folder", str(tmp_path / "features"), *options])
        cache.main()
        return capsys.readouterr().out

    with pytest.raises(SystemExit, match="2"):
        run()
    assert "features: no such folder" in capsys.readouterr().err
    opened(PreparedFiles(tmp_path / "features"), "a", "b")
    assert run() == f"{tmp_path}/features: 2 files, 0.00 GB\n"
    assert run("--shrink", str(1.5 * SIZE / GIGABYTE)).startswith("1 files removed")
    assert run("--clear") == f"1 files removed\n{tmp_path}/features: 0 files, 0.00 GB\n"
