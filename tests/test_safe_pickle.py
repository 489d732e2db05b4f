"""Pickles of plain data are read as they were written; those that would run something are refused, unrun."""

import collections
import io
import os
import pickle
import pickletools
import struct
import sys

import numpy as np
import pytest

from picopose.datasets.safe_pickle import read_npy, read_pickle, write_pickle
from picopose.utils.errors import InputError

CONTENT = {
    "ape": np.arange(12, dtype=np.float64).reshape(3, 4),
    "turned": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "swapped": np.arange(3, dtype=">i4"),
    "lists": [1, 2.5, "text", None, True, (3, -4), {"nested": [np.uint8([7])]}],
    "scalars": [np.float32(0.25), np.int64(3)],
    "text": np.array(["a", "bcd"]),
    "empty": np.zeros((0, 4)),
}


def same(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype.str[1:] == b.dtype.str[1:] and np.array_equal(a, b)
    return a == b


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_come_back(tmp_path, protocol):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(CONTENT, protocol=protocol))
    assert same(CONTENT, read_pickle(path))
    path.write_bytes(pickle.dumps(collections.OrderedDict(CONTENT), protocol=protocol))
    assert same(CONTENT, read_pickle(path))


def test_what_is_written_needs_no_new_numpy_or_python(tmp_path):
    content = CONTENT | {"words": np.frombuffer(b"cnumpy._core.multiarray", np.uint8)}
    write_pickle(tmp_path / "a.pkl", content)
    data = (tmp_path / "a.pkl").read_bytes()
    assert same(content, read_pickle(tmp_path / "a.pkl")) and same(content, pickle.loads(data))
    operations = list(pickletools.genops(data))
    assert max(operation.proto for operation, _, _ in operations) <= 2
    names = {name for operation, name, _ in operations if operation.name == "GLOBAL"}
    assert "numpy.core.multiarray _reconstruct" in names
    assert not any(name.startswith("numpy._core") for name in names)


def test_a_pickle_of_python_2_is_read(tmp_path):
    # As Python 2.7 with NumPy 1.16 writes {"K": np.eye(2, dtype="<f8")}, protocol 2.
    data = np.eye(2).tobytes()
    stream = (
        b"\x80\x02}q\x00U\x01Kq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85"
        b"U\x01b\x87R(K\x01K\x02K\x02\x86cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U" + bytes([len(data)]) + data + b"tbs."
    )
    (tmp_path / "a.pkl").write_bytes(stream)
    assert same({"K": np.eye(2)}, read_pickle(tmp_path / "a.pkl"))


def test_object_arrays_are_lists_and_saved_dictionaries_are_dictionaries(tmp_path):
    rows = np.empty((2, 2), object)
    rows[:] = [[1, "a"], [None, 2.0]]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(rows))
    assert read_pickle(tmp_path / "a.pkl") == [[1, "a"], [None, 2.0]]
    np.save(tmp_path / "a.npy", CONTENT, allow_pickle=True)
    assert same(CONTENT, read_npy(tmp_path / "a.npy"))
    for plain in (np.eye(3), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.float32(3)):
        np.save(tmp_path / "b.npy", plain)
        assert np.array_equal(read_npy(tmp_path / "b.npy"), plain)


class Runs:
    """Would call a function when it is read."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


HARMFUL = {
    "system": lambda mark: pickle.dumps(Runs(os.system, f"touch {mark}")),
    "nested": lambda mark: pickle.dumps({"a": [np.eye(2), Runs(os.mkdir, str(mark))]}),
    "eval": lambda mark: pickle.dumps(Runs(eval, f"open({str(mark)!r}, 'w')")),
    "npy": lambda mark: _npy(np.array({"a": Runs(os.mkdir, str(mark))})),
    # The file's own numpy names that are no constructors of plain data.
    "load": lambda mark: pickle.dumps(Runs(np.load, "x.npy")),
    "getattr": lambda mark: b"cbuiltins\ngetattr\n(cos\nsystem\nS'x'\ntR.",
}


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize("kind", HARMFUL)
def test_what_would_run_is_refused_and_not_run(tmp_path, kind):
    mark, path = tmp_path / "mark", tmp_path / "a.pkl"
    path.write_bytes(HARMFUL[kind](mark))
    with pytest.raises(InputError, match=r"a\.pkl asks for .*: it is not read"):
        (read_npy if kind == "npy" else read_pickle)(path)
    assert not mark.exists()


def test_the_readers_own_functions_cannot_be_changed(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(b"cnumpy\ndtype\n(N}S'make'\nNstb.")  # BUILD with slots of the function itself
    with pytest.raises(InputError, match="no pickle"):
        read_pickle(path)
    path.write_bytes(pickle.dumps(CONTENT))
    assert same(CONTENT, read_pickle(path))


def reshaped(shape: tuple[int, ...]) -> bytes:
    """A pickled array that claims another shape than that of its bytes."""
    return pickle.dumps(np.zeros(3), protocol=2).replace(b"K\x03\x85", pickle.dumps(shape, 2)[2:-1])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        pickle.dumps(CONTENT)[:-40],
        reshaped((1 << 40,)),
        reshaped((4,)),
        pickle.dumps(np.zeros(2, [("a", "f8")])),
        pickle.dumps({1, 2}, protocol=4),
        pickle.dumps(3j),
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.",
        b"cnumpy\ndtype\n.",
    ],
)
def test_damage_is_told_in_a_line(tmp_path, content):
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(InputError, match=r"^\S*a\.pkl [^\n]+$"):
        read_pickle(tmp_path / "a.pkl")


def test_a_list_that_holds_itself_is_refused(tmp_path):
    endless = []
    endless.append(endless)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(endless))
    with pytest.raises(InputError, match=r"a\.pkl"):
        read_pickle(tmp_path / "a.pkl")
    assert sys.getrecursionlimit() >= 1000


@pytest.mark.parametrize("cut", [3, 40, -8])
def test_damaged_npy_files_are_told_in_a_line(tmp_path, cut):
    path = tmp_path / "a.npy"
    np.save(path, np.eye(4))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"a\.npy is truncated or no \.npy file"):
        read_npy(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_npy(tmp_path / "missing.npy")
    np.save(path, np.zeros(2, [("a", "f8")]))
    with pytest.raises(InputError, match=r"a\.npy"):
        read_npy(path)


def _nested(depth: int) -> list:
    """A list with 2 ** depth numbers in it, in a short file."""
    parts = [0.0, 1.0]
    for _ in range(depth - 1):
        parts = [parts, parts]
    return parts


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\x80\x02}r\xff\xff\xff\x0f.", "a part has the number 268435455"),
        (b"\x80\x02}p268435455\n.", "a part has the number 268435455"),
        (b"\x80\x05\x97\x98.", "NEXT_BUFFER"),
        (pickle.dumps({"a": _nested(24)}), "repeated too often"),
    ],
)
def test_a_short_file_cannot_ask_for_much_memory(tmp_path, data, told):
    (tmp_path / "a.pkl").write_bytes(data)
    with pytest.raises(InputError, match=told):
        read_pickle(tmp_path / "a.pkl")


def test_parts_may_occur_several_times(tmp_path):
    K = np.eye(3)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([[K, "photo"]] * 50))
    assert same(read_pickle(tmp_path / "a.pkl"), [[K, "photo"]] * 50)
