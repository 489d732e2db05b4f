"""Reads checkpoints of TensorFlow (`model-30.index` and `model-30.data-00000-of-00001`) without its library.

The index is a table of LevelDB's: sorted keys in blocks that share the beginnings of keys, and a block that
says where the others lie. Its values are protocol buffers: under the empty key the header, under every name
the kind, the shape and the place of a tensor in the data. Nothing in either file is executed.
"""

import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from picopose.model.dualposenet.crc32c import crc32c
from picopose.utils.errors import MALFORMED, InputError

INDEX, DATA = ".index", ".data-00000-of-00001"
_REMEDY = "download both files of the checkpoint again"
_MAGIC = 0xDB4775248B80FB57  # of tables, at their end
_FOOTER = 48  # bytes
_TRAILER = 5  # bytes behind a block: its compression and its check sum
_LARGEST_INDEX = 1 << 20  # bytes; that of the released network takes 9 kB
_LONGEST_NAME = 1000
_MOST_DIMENSIONS = 8
_DTYPES = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 3: np.dtype("<i4"), 9: np.dtype("<i8")}


class Entry(NamedTuple):
    """Where a tensor lies in the data.

    Attributes:
        dtype: of its numbers.
        shape: its sizes.
        offset: its first byte.
        size: its number of bytes.
        checksum: masked CRC-32C of its bytes.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    size: int
    checksum: int


def read_variables(path: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, np.ndarray]:
    """The wanted variables of a checkpoint by name.

    Args:
        path: see `index_of`.

    Raises:
        InputError: a file is missing, truncated, damaged or of another kind, or says what cannot be.
    """
    index = index_of(path)
    data = index.with_name(index.name.removesuffix(INDEX) + DATA)
    for file in (index, data):
        if not file.is_file():
            raise InputError(f"{file}: no such file; a checkpoint needs both {INDEX} and {DATA}")
    entries = {name: entry for name, entry in read_index(index).items() if wanted(name)}
    _check_places(entries, data.stat().st_size, index, data)
    return {name: _read_tensor(data, name, entry) for name, entry in entries.items()}


def index_of(path: Path) -> Path:
    """The `.index` of a checkpoint that either of its files names, or the beginning of their names."""
    return path.with_name(path.name.removesuffix(INDEX).removesuffix(DATA) + INDEX)


def read_index(path: Path) -> dict[str, Entry]:
    """What a checkpoint's index says of its tensors, by name."""
    if path.stat().st_size > _LARGEST_INDEX:
        raise InputError(f"{path}: too large for the index of a checkpoint; pass a checkpoint's .index")
    try:
        table = dict(_ascending(_table(path.read_bytes())))
        _check_header(table.pop(b"", b""))
        return {key.decode(): _entry(key.decode(), value) for key, value in table.items()}
    except (*MALFORMED, struct.error) as error:
        raise InputError(f"{path}: no index of a checkpoint, or damaged ({error}); {_REMEDY}") from None


def _check_header(message: bytes) -> None:
    fields = dict(_fields(message))
    if fields.get(1) != 1:
        raise ValueError(f"its data lie in {fields.get(1, 0)} files instead of one")
    if fields.get(2, 0):
        raise ValueError("its numbers begin with the high byte")


def _entry(name: str, message: bytes) -> Entry:
    fields = dict(_fields(message))
    if fields.get(1) not in _DTYPES:
        raise ValueError(f"{name} has the unknown kind {fields.get(1)}")
    if fields.get(3, 0):
        raise ValueError(f"{name} lies in a second file")
    dtype = _DTYPES[fields[1]]
    dimensions = [value for number, value in _fields(fields.get(2, b"")) if number == 2]
    shape = tuple(dict(_fields(dimension)).get(1, 0) for dimension in dimensions)
    offset, size, checksum = (fields.get(number, 0) for number in (4, 5, 6))
    if not isinstance(offset, int):
        raise ValueError(f"{name} has no number for its place")
    if len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"{name} has {len(shape)} dimensions")
    if not size or math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"{name} of shape {shape} cannot take {size} bytes")
    return Entry(dtype, shape, offset, size, checksum)


def _check_places(entries: dict[str, Entry], length: int, index: Path, data: Path) -> None:
    """Refuses tensors that reach beyond the data or into one another."""
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].offset):
        if entry.offset < end:
            raise InputError(f"{index}: {name} begins within another variable; {_REMEDY}")
        end = entry.offset + entry.size
        if end > length:
            raise InputError(f"{data}: ends before {name} does; {_REMEDY}")


def _read_tensor(data: Path, name: str, entry: Entry) -> np.ndarray:
    content = np.fromfile(data, np.uint8, entry.size, offset=entry.offset)
    if len(content) != entry.size or _masked(crc32c(content)) != entry.checksum:
        raise InputError(f"{data}: {name} in it is damaged; {_REMEDY}")
    return content.view(entry.dtype).reshape(entry.shape)


def _masked(checksum: int) -> int:
    """A check sum as it is stored."""
    turned = checksum >> 15 | checksum << 17 & 0xFFFFFFFF
    return (turned + 0xA282EAD8) & 0xFFFFFFFF


# Tables


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a table."""
    footer = content[-_FOOTER:]
    if len(footer) < _FOOTER or struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise ValueError("the mark at its end is missing")
    _, position = _handle(footer, 0)
    index, _ = _handle(footer, position)
    for _, handle in _block(content, *index):
        yield from _block(content, *_handle(handle, 0)[0])


def _handle(content: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and where they end."""
    offset, position = _varint(content, position)
    size, position = _varint(content, position)
    return (offset, size), position


def _block(content: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a block."""
    whole = content[offset : offset + size + _TRAILER]
    if len(whole) != size + _TRAILER:
        raise ValueError("a block ends beyond it")
    checked = np.frombuffer(whole[: size + 1], np.uint8)
    if _masked(crc32c(checked)) != struct.unpack("<I", whole[-4:])[0]:
        raise ValueError("the check sum of a block is wrong")
    if whole[size]:
        raise ValueError("a block is compressed")
    restarts = struct.unpack("<I", whole[size - 4 : size])[0]
    yield from _pairs(whole, size - 4 * (restarts + 1))


def _pairs(block: bytes, end: int) -> Iterator[tuple[bytes, bytes]]:
    key, position = b"", 0
    while position < end:
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        length, position = _varint(block, position)
        value = position + unshared
        if shared > len(key) or shared + unshared > _LONGEST_NAME or value + length > end:
            raise ValueError("a key of a block ends beyond it")
        key = key[:shared] + block[position:value]
        position = value + length
        yield key, block[value:position]


def _ascending(pairs: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """The pairs of a table, which are sorted; so no block can be told twice."""
    before = None
    for key, value in pairs:
        if before is not None and key <= before:
            raise ValueError("its names are out of order")
        before = key
        yield key, value


# Protocol buffers


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message by number: integers, or bytes of inner messages."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        if tag & 7 == 0:
            value, position = _varint(message, position)
        elif tag & 7 == 5:
            value, position = struct.unpack_from("<I", message, position)[0], position + 4
        elif tag & 7 == 2:
            length, start = _varint(message, position)
            value, position = message[start : start + length], start + length
        else:
            raise ValueError(f"a field of the unknown form {tag & 7}")
        if position > len(message):
            raise ValueError("a field ends beyond its message")
        yield tag >> 3, value


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, the low ones first, and where it ends."""
    value = 0
    for place in range(10):
        byte = content[position + place]
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, position + place + 1
    raise ValueError("a number has no end")
