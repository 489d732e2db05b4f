"""Archives that are as they should be, damaged, or made to do harm."""

import gzip
import io
import shutil
import stat
import tarfile
import zipfile
from collections import namedtuple

import numpy as np
import pytest

from picopose.utils.errors import InputError
from picopose.utils.unpack import BadArchive, unpack

FILES = {"set/a.txt": b"a" * 5000, "set/below/b.bin": np.random.default_rng(0).bytes(3000), "c": b""}


def zipped(path, files, **attributes):
    """A zip file; `attributes` are those of its first member."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("empty")
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.writestr(info, data)
            attributes = {}
    return path


def tarred(path, files, writing="w", **attributes):
    """A tar file; `attributes` are those of its first member."""
    with tarfile.open(path, writing) as archive:
        folder = tarfile.TarInfo("empty")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))
            attributes = {}
    return path


def gzipped(path, files, **attributes):
    return tarred(path, files, "w:gz", **attributes)


@pytest.mark.parametrize("pack", [zipped, tarred, gzipped])
def test_archives_are_unpacked_whatever_their_name(tmp_path, pack):
    unpack(pack(tmp_path / "archive", FILES), tmp_path / "out" / "new")
    found = {str(path.relative_to(tmp_path / "out/new")): path for path in (tmp_path / "out/new").rglob("*")}
    assert {name for name, path in found.items() if path.is_dir()} == {"empty", "set", "set/below"}
    assert {name: path.read_bytes() for name, path in found.items() if path.is_file()} == FILES


@pytest.mark.parametrize("name", ["../up", "in/../../up", "/etc/up", "..\\up", "C:\\up", "\\up"])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_paths_that_lead_out_are_refused(tmp_path, pack, name):
    archive = pack(tmp_path / "archive", FILES | {name: b"harm"})
    with pytest.raises(BadArchive, match="leads out of it; do not use this file"):
        unpack(archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


LINKS = [
    (zipped, {"external_attr": (stat.S_IFLNK | 0o777) << 16}),
    (zipped, {"external_attr": (stat.S_IFIFO | 0o777) << 16}),
    (tarred, {"type": tarfile.SYMTYPE, "linkname": "/etc", "size": 0}),
    (tarred, {"type": tarfile.LNKTYPE, "linkname": "../up", "size": 0}),
    (tarred, {"type": tarfile.CHRTYPE, "size": 0}),
]


@pytest.mark.parametrize(("pack", "attributes"), LINKS)
def test_links_and_devices_are_refused(tmp_path, pack, attributes):
    archive = pack(tmp_path / "archive", FILES, **attributes)
    with pytest.raises(BadArchive, match=r"'set/a\.txt' is a link or a device"):
        unpack(archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


def test_rights_are_not_taken_over(tmp_path):
    unpack(zipped(tmp_path / "a", FILES, external_attr=(stat.S_IFREG | 0o4777) << 16), tmp_path / "out")
    unpack(tarred(tmp_path / "b", FILES, mode=0o4777), tmp_path / "out2")
    for folder in ("out", "out2"):
        assert not (tmp_path / folder / "set/a.txt").stat().st_mode & 0o4111


@pytest.mark.parametrize("pack", [zipped, gzipped])
def test_archives_that_swell_are_refused(tmp_path, pack):
    archive = pack(tmp_path / "archive", {f"{k}": bytes(10**6) for k in range(3)})
    with pytest.raises(BadArchive, match="unpacked it is over 100 times as large"):
        unpack(archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


def test_a_file_longer_than_the_archive_says_is_refused(tmp_path):
    archive = zipped(tmp_path / "archive", FILES)
    data = archive.read_bytes()
    archive.write_bytes(data.replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little")))
    with pytest.raises(BadArchive, match="damaged"):
        unpack(archive, tmp_path / "out")
    assert (tmp_path / "out/set/a.txt").stat().st_size <= 50


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    archive = zipped(tmp_path / "archive", FILES)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(7000))
    with pytest.raises(
        InputError, match=r"archive, unpacked, needs 0\.0 MB in .*out, where 0\.0 MB are free"
    ):
        unpack(archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(8000))
    unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("pack", [zipped, tarred, gzipped])
def test_damaged_archives_are_told(tmp_path, pack):
    archive, rng = pack(tmp_path / "archive", FILES), np.random.default_rng(1)
    data = archive.read_bytes()
    damaged = [
        b"",
        data[: len(data) // 3],
        rng.bytes(500),
        b"PK" + rng.bytes(500),
        gzip.compress(b"noise" * 200),
    ]
    for place in rng.integers(len(data), size=100):
        changed = bytearray(data)
        changed[place] ^= int(rng.integers(1, 256))
        damaged.append(bytes(changed))
    for k, content in enumerate(damaged):
        archive.write_bytes(content)
        try:
            unpack(archive, tmp_path / f"{k}")
        except BadArchive as error:
            assert str(archive) in str(error)
        else:
            assert k >= 5  # a changed byte may matter to nothing
