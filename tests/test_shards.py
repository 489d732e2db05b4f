"""Shards whose headers claim what is not there: an unreadable sample, named, and the others are read."""

import json
import logging
import tarfile
from pathlib import Path

import pytest

from picopose.datasets.training.shards import Shards, UnreadableSample
from picopose.utils.errors import InputError

SUFFIXES = ("rgb.jpg", "gt.json")
KEYS = ("000000_000000", "000000_000001", "000000_000002")


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % tarfile.BLOCKSIZE)


def member(name: str, content: bytes, **fields) -> bytes:
    """A file of a tar; `fields` are what its header says instead of the truth."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT) + padded(content)


def extended(name: str, content: bytes, records: dict[str, str]) -> bytes:
    """A file of a tar behind a PAX header with these records."""
    info = tarfile.TarInfo(name)
    info.size, info.pax_headers = len(content), records
    return info.tobuf(tarfile.PAX_FORMAT) + padded(content)


def good(key: str) -> bytes:
    return b"".join(member(f"{key}.{suffix}", f"{key} {suffix}".encode()) for suffix in SUFFIXES)


def shards_of(folder: Path, stretches: list[bytes], keys: tuple[str, ...] = KEYS) -> Shards:
    (folder / "shard-000000.tar").write_bytes(b"".join(stretches) + bytes(2 * tarfile.BLOCKSIZE))
    return listed(folder, dict.fromkeys(keys, 0))


def listed(folder: Path, table: dict) -> Shards:
    (folder / "key_to_shard.json").write_text(json.dumps(table))
    return Shards(folder, folder / "key_to_shard.json", SUFFIXES)


def assert_read(shards: Shards, position: int) -> None:
    key = shards.key(position)
    assert shards.read(position) == {suffix: f"{key} {suffix}".encode() for suffix in SUFFIXES}


SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": f"{KEYS[1]}.rgb.jpg"}
SPARSE |= {"GNU.sparse.realsize": "9000000000"}
PHOTO = f"{KEYS[1]}.rgb.jpg"
REST = member(f"{KEYS[1]}.gt.json", b"{}")
OLD_SPARSE = (b"00000000000\0" + b"00000000004\0").ljust(12 * 8, b"\0") + b"\0" + b"77777777777\0"


def old_sparse() -> bytes:
    """A file of 8 GiB of which 4 bytes are there, as tar wrote it before PAX."""
    header = bytearray(member(PHOTO, b"", type=tarfile.GNUTYPE_SPARSE, size=4))
    header[386 : 386 + len(OLD_SPARSE)] = OLD_SPARSE
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:512]))
    return bytes(header) + padded(b"abcd")


CLAIMS = {
    "more than the file has": (member(PHOTO, b"jpeg", size=40 << 30), "claims 4294967"),
    "a little more than it has": (member(PHOTO, b"jpeg", size=100_000), "claims 100000 bytes and brings"),
    "sparse": (extended(PHOTO, padded(b"1\n0\n4\n") + b"abcd", SPARSE) + REST, "sparse file"),
    "sparse of the old kind": (old_sparse() + REST, "sparse file"),
    "twice": (member(PHOTO, b"a") + member(PHOTO, b"b") + REST, "is there twice"),
    "a link": (member(PHOTO, b"", type=tarfile.SYMTYPE, linkname="/etc/passwd") + REST, "a link"),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_makes_one_sample_unreadable(tmp_path, caplog, claim):
    stretch, reason = CLAIMS[claim]
    shards = shards_of(tmp_path, [good(KEYS[0]), stretch])
    with caplog.at_level(logging.WARNING), pytest.raises(UnreadableSample):
        shards.read(1)
    assert_read(shards, 0)
    assert len(caplog.records) == 1
    assert (
        f"shard-000000.tar is damaged and used as far as it goes; download it again (sample {KEYS[1]}: "
        in (caplog.text)
    )
    assert reason in caplog.text


@pytest.mark.parametrize("claim", ["sparse", "sparse of the old kind", "twice", "a link"])
def test_what_follows_a_claim_is_read(tmp_path, claim):
    assert_read(shards_of(tmp_path, [good(KEYS[0]), CLAIMS[claim][0], good(KEYS[2])]), 2)


HEADERS = {
    "of 40 GB": member("pax", b"12 a=b\n", type=tarfile.XHDTYPE, size=40 << 30),
    "with a sparse map without end": extended(PHOTO, b"9" * 30 + b"\n0\n", SPARSE),
    "with a negative size": extended(PHOTO, b"", {"size": "-5120"}),
    "with a size beyond all": extended(PHOTO, b"", {"size": "9" * 400}),
    "nested": member("pax", b"12 a=b\n", type=tarfile.XHDTYPE) * 3000,
}


@pytest.mark.parametrize("header", HEADERS)
def test_headers_that_lead_nowhere_cost_what_comes_after_them(tmp_path, header):
    (tmp_path / "shard-000000.tar").write_bytes(good(KEYS[0]) + HEADERS[header])
    shards = listed(tmp_path, dict.fromkeys(KEYS, 0))
    assert_read(shards, 0)
    with pytest.raises(UnreadableSample):
        shards.read(1)


def test_a_sample_with_gigabytes_of_nothing_is_not_read(tmp_path, caplog):
    """Nine gigabytes of a tar, and then of a file beside others, that take no room on the disk."""
    shards = shards_of(tmp_path, [good(KEYS[0])])
    tar = tmp_path / "shard-000000.tar"
    tar.write_bytes(good(KEYS[0]) + member(PHOTO, b"", size=9 << 30))
    with tar.open("r+b") as file:
        file.truncate(10 << 30)
    assert_read(shards, 0)
    with pytest.raises(UnreadableSample):
        shards.read(1)
    assert "more than any sample has" in caplog.text
    tar.unlink()
    folder = tmp_path / "shard-000000"
    folder.mkdir()
    with (folder / PHOTO).open("wb") as file:
        file.truncate(9 << 30)
    with pytest.raises(UnreadableSample, match=KEYS[1]):
        listed(tmp_path, dict.fromkeys(KEYS, 0)).read(1)
    assert f"{PHOTO} has 9663676416 bytes" in caplog.text


def test_keys_in_other_scripts_are_keys(tmp_path, caplog):
    keys = ("schüssel_000001", "杯子_000002", "fehlt_ü")
    shards = shards_of(tmp_path, [good(key) for key in keys[:2]], keys)
    places = {shards.key(position): position for position in range(3)}
    for key in keys[:2]:
        assert_read(shards, places[key])
    with pytest.raises(UnreadableSample):
        shards.read(places[keys[2]])
    assert "fehlt_ü: not in the tar" in caplog.text


@pytest.mark.parametrize("number", [-1, 10**400, 1.5, True, "0", None])
def test_a_listing_of_what_are_no_shards_is_refused(tmp_path, number):
    (tmp_path / "shard-000000.tar").write_bytes(good(KEYS[0]))
    with pytest.raises(InputError, match=r"key_to_shard\.json is no table of the shards by sample"):
        listed(tmp_path, {KEYS[0]: number})


def test_shards_that_were_not_downloaded_are_told_and_left_out(tmp_path, caplog):
    (tmp_path / "shard-000004.tar").write_bytes(good(KEYS[0]) + good(KEYS[1]))
    shards = listed(tmp_path, {KEYS[0]: 4, KEYS[1]: 4} | {f"{n:06d}_other": n for n in (3, 5, 6)})
    assert len(shards) == 2
    assert [shards.key(position) for position in range(2)] == list(KEYS[:2])
    (record,) = caplog.records
    assert record.message.startswith("3 of the 4 shards that ")
    assert "shard-000003.tar for one" in record.message
    with pytest.raises(InputError, match="holds none of the shards"):
        listed(tmp_path, {KEYS[0]: 7})


def test_unreadable_samples_are_counted_and_too_many_are_an_error(tmp_path, caplog):
    readable, lost = [f"{n:03d}" for n in range(100)], [f"{n:03d}" for n in range(100, 1200)]
    shards = shards_of(tmp_path, [good(key) for key in readable], (*readable, *lost))
    for position in range(100):
        shards.read(position)
    with pytest.raises(InputError, match=r"901 of 1001 samples cannot be read, the last in shard-000000.tar"):
        for position in range(100, 1200):
            with pytest.raises(UnreadableSample):
                shards.read(position)
    told = [record.message for record in caplog.records if "that this process has read" in record.message]
    assert [message.split(" were")[0] for message in told] == [
        "10 of the 110 samples that this process has read",
        "100 of the 200 samples that this process has read",
    ]
