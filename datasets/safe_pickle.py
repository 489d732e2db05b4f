"""Reads pickles and pickled NumPy files that hold plain data: nothing named in a file is imported or run.

Writes pickles of the kind that it reads.

A pickle is a program. Of the functions that it may call this reader knows those alone that make arrays,
numbers and dictionaries, and has its own in their place; arrays are built from their bytes, which are
checked.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from picopose.utils.errors import InputError
from picopose.utils.files import write_atomically

_REMEDY = "download or create it again"
_PLAIN = "?bhilqBHILQefdUS"  # letters of NumPy types without Python objects, as `dtype.char`
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
_BUFFERS = {"NEXT_BUFFER", "READONLY_BUFFER"}
_MAX_TEXT = 1 << 16  # bytes of an item of text
_MOST_REPEATED = 16  # numbers a byte of the file, if parts that occur several times in it are counted so


def read_pickle(path: Path | str) -> Any:
    """The dictionaries, lists, tuples, strings, numbers and arrays in a pickle file.

    Raises an `InputError` that names the file if it is missing or damaged, or holds anything else.
    """
    with _opened(Path(path)) as file:
        return _loaded(file, path)


def write_pickle(path: Path | str, content: Any) -> None:
    """Writes plain data so that any NumPy reads them, in Python 2 as well; an `InputError` if it cannot."""
    data = _with_old_names(pickle.dumps(content, protocol=2))
    with write_atomically(path) as temporary:
        temporary.write_bytes(data)


def _with_old_names(data: bytes) -> bytes:
    """A pickle in which the modules of NumPy 2 have the names that older ones know too."""
    new, old, parts, copied = b"cnumpy._core.", b"cnumpy.core.", [], 0
    for opcode, _, start in pickletools.genops(data):
        if opcode.name == "GLOBAL" and data.startswith(new, start):
            parts += [data[copied:start], old]
            copied = start + len(new)
    return b"".join([*parts, data[copied:]])


def read_npy(path: Path | str) -> Any:
    """The array of an .npy file; of one with Python objects the dictionary or list that it was made of.

    Raises an `InputError` as `read_pickle` does.
    """
    path = Path(path)
    with _opened(path) as file:
        try:
            shape, fortran, kind = _header(file)
            if kind.hasobject:
                return _loaded(file, path)
            _check_kind(kind)
            return _array(file.read(), kind, shape, fortran)
        except InputError:
            raise
        except Exception as error:  # NumPy's parser raises all kinds of errors on damaged headers
            raise InputError(f"{path} is truncated or no .npy file ({error}): {_REMEDY}") from None


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {_REMEDY}") from None


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _loaded(file: BinaryIO, path: Path | str) -> Any:
    try:
        data = file.read()
        _check_operations(data)
        content = _finished(_Unpickler(io.BytesIO(data), encoding="latin1").load(), {})
        if _size(content, {}) > _MOST_REPEATED * len(data):
            raise ValueError("the same parts are repeated too often")
        return content
    except InputError as error:
        raise InputError(f"{path} {error}") from None
    except Exception as error:  # the unpickler raises all kinds of errors on damaged data
        raise InputError(f"{path} is truncated or no pickle ({error}): {_REMEDY}") from None


def _check_operations(data: bytes) -> None:
    """Refuses what would make the unpickler take more memory than the file does.

    It makes room for as many parts as the largest number that one is given.
    """
    for operation, number, _ in pickletools.genops(data):
        if operation.name in _PUTS and number >= len(data):
            raise ValueError(f"a part has the number {number}")
        if operation.name in _BUFFERS:
            raise ValueError(f"the operation {operation.name}")


class _Unpickler(pickle.Unpickler):
    """Finds nothing but `_KNOWN`; errors begin with a verb, as the file's name goes before them."""

    def find_class(self, module: str, name: str) -> Any:
        place = module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins")
        known = _KNOWN.get((place, name))
        if known is None:
            raise InputError(f"asks for {module}.{name}, which plain data need not: it is not read")
        return known

    def persistent_load(self, _: Any) -> Any:
        raise InputError("refers to other files, which plain data need not: it is not read")


@dataclass(frozen=True, slots=True)
class _Maker:
    """A function that a pickle may call but not change."""

    make: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a function is given a state")


class _Kind:
    """A NumPy type in the making."""

    def __init__(self, name: str, *_: Any):
        self.dtype = np.dtype(str(name))

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])
        if self.dtype.kind in "US":  # whose length comes with the state
            size = int(state[5])
            if not 0 <= size <= _MAX_TEXT:
                raise ValueError("text of an impossible length")
            self.dtype = np.dtype(f"{self.dtype.kind}{size // (4 if self.dtype.kind == 'U' else 1)}")


class _Array:
    """An array in the making, or an object array's items."""

    def __init__(self, *_: Any):
        self.content: Any = None

    def __setstate__(self, state: tuple) -> None:
        shape, kind, fortran, data = state[-4:]  # a version goes before
        self.content = (
            data if kind.dtype.hasobject else _array(_as_bytes(data), _checked(kind), shape, fortran)
        )
        self.shape = shape


def _check_kind(kind: np.dtype) -> None:
    if kind.char not in _PLAIN:
        raise ValueError(f"an array of {kind}")


def _checked(kind: _Kind) -> np.dtype:
    _check_kind(kind.dtype)
    return kind.dtype


def _array(data: bytes, kind: np.dtype, shape: tuple[int, ...], fortran: bool) -> np.ndarray:
    """The array of its bytes, of which there must be as many as its shape asks for."""
    if len(data) != kind.itemsize * math.prod(shape):
        raise ValueError(f"{len(data)} bytes for an array of {shape} {kind}")
    array = np.frombuffer(data, kind) if data else np.zeros(0, kind)
    order = "F" if fortran else "C"
    return array.reshape(shape, order=order).astype(kind.newbyteorder("="))


def _as_bytes(data: bytes | bytearray | str = b"") -> bytes:
    """Also of what Python 2 wrote, which comes as text."""
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def _scalar(kind: _Kind, data: bytes | str) -> Any:
    return _array(_as_bytes(data), _checked(kind), (), False).item()


def _from_buffer(data: bytes, kind: _Kind, shape: tuple[int, ...], order: str) -> np.ndarray:
    return _array(_as_bytes(data), _checked(kind), shape, order == "F")


def _encoded(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes in {encoding}")
    return text.encode("latin1")


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _Maker(_Array),
    ("numpy.core.multiarray", "scalar"): _Maker(_scalar),
    ("numpy.core.numeric", "_frombuffer"): _Maker(_from_buffer),
    ("numpy", "dtype"): _Maker(_Kind),
    ("numpy", "ndarray"): _Maker(_Array),
    ("_codecs", "encode"): _Maker(_encoded),
    ("collections", "OrderedDict"): _Maker(dict),
    ("builtins", "bytearray"): _Maker(_as_bytes),
    ("builtins", "bytes"): _Maker(_as_bytes),
}


def _finished(value: Any, known: dict[int, Any]) -> Any:
    """A value with its arrays complete; parts that occur several times in it are made once."""
    if id(value) in known:
        return known[id(value)]
    if isinstance(value, _Array):
        made = _objects(value, known)
    elif isinstance(value, dict):
        made = {_finished(key, known): _finished(item, known) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        made = type(value)(_finished(item, known) for item in value)
    elif value is None or isinstance(value, str | bytes | int | float | np.ndarray):
        made = value
    else:
        raise ValueError(f"holds a {type(value).__name__}")
    known[id(value)] = made
    return made


def _size(value: Any, known: dict[int, int]) -> int:
    """The numbers and texts in a value, each as often as it occurs: what an array of it would take."""
    if isinstance(value, np.ndarray):
        return value.size
    if not isinstance(value, dict | list | tuple):
        return 1
    if id(value) not in known:
        items = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(item, known) for item in items)
    return known[id(value)]


def _objects(array: _Array, known: dict[int, Any]) -> Any:
    """The items of an object array: nested lists of its shape, or the one item of one without axes."""
    if array.content is None or isinstance(array.content, np.ndarray):
        return array.content
    items = [_finished(item, known) for item in array.content]
    if len(items) != math.prod(array.shape):
        raise ValueError(f"{len(items)} items for an array of {array.shape}")
    for side in reversed(array.shape[1:]):
        items = [items[start : start + side] for start in range(0, len(items), max(side, 1))]
    return items if array.shape else items[0]
