"""Reads JSON and arrays from files that may be damaged, and checks the numbers in them."""

import json
import re
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from picopose.utils.errors import InputError

_CHUNK = 1 << 20  # characters
_GAP = re.compile(r"[\s,]*")
_DIGITS = re.compile(r"\s*[0-9]{1,19}\s*")
_SKEWED = 0.01  # how far a rotation's entries may be off
LARGEST_ID = 2**62  # times in nanoseconds serve as ids


def read_json(path: Path | str, *, remedy: str = "download or create it again") -> Any:
    """The content of a JSON file; raises an `InputError` if it cannot be read."""
    with _open(path, remedy) as file:
        text = file.read()
    if not text.strip():
        raise InputError(f"{path} is empty: {remedy}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is truncated or not JSON ({error}): {remedy}") from None


def iterate_json(path: Path | str, *, remedy: str = "download or create it again") -> Iterator[dict]:
    """The objects of a JSON list one by one, for large files: about one chunk is in memory at a time."""
    decoder = json.JSONDecoder()
    with _open(path, remedy) as file:
        text, position = file.read(_CHUNK).lstrip(), 1
        if not text.startswith("["):
            raise InputError(f"{path} is {'not a JSON list' if text else 'empty'}: {remedy}")
        while True:
            position = _GAP.match(text, position).end()
            if text[position : position + 1] == "]":
                return
            try:
                entry, position = decoder.raw_decode(text, position)
            except (ValueError, RecursionError) as error:  # perhaps only cut off at the end of the chunk
                more = file.read(max(_CHUNK, len(text) - position))
                if not more:
                    raise InputError(f"{path} is truncated or not JSON ({error}): {remedy}") from None
                text, position = text[position:] + more, 0
                continue
            if not isinstance(entry, dict):
                raise InputError(f"{path} holds {reprlib.repr(entry)} where an object is expected: {remedy}")
            yield entry


def _open(path: Path | str, remedy: str) -> TextIO:
    try:
        return open(path, encoding="utf-8-sig", errors="replace")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: {remedy}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {remedy}") from None


def read_array(path: Path) -> np.ndarray:
    """The array of an .npy file, memory-mapped, so that a false size in the file costs no memory.

    Raises an OSError for a missing file and a ValueError for anything but a complete array of plain values.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # NumPy's parser raises all kinds of errors on damaged headers
        raise ValueError(f"no whole array without pickled objects: {error}") from None
    if array.offset + array.nbytes != path.stat().st_size:
        raise ValueError("longer than its array")
    return array


def finite_number(value: Any, where: str) -> float:
    """`value` of a JSON file as a finite number; `where` names file and entry in the error."""
    if not _is_finite(value):
        raise InputError(f"{where} must be a finite number, not {reprlib.repr(value)}: correct the file")
    return float(value)


def finite_numbers(value: Any, count: int, where: str) -> list[float]:
    """A JSON list as `count` finite numbers; `where` names file and entry in the error."""
    if not isinstance(value, list) or len(value) != count or not all(map(_is_finite, value)):
        expected = f"{count} finite numbers" if count > 1 else "a finite number"
        raise InputError(f"{where} must be {expected}, not {reprlib.repr(value)}: correct the file")
    return list(map(float, value))


def finite_matrix(value: Any, rows: int, columns: int, where: str) -> list[float]:
    """As `finite_numbers`, row by row, for a matrix that may also be a list of rows."""
    lists = isinstance(value, list) and all(isinstance(row, list) and len(row) == columns for row in value)
    numbers = [number for row in value for number in row] if lists else value
    return finite_numbers(numbers, rows * columns, where)


def integer(value: Any, where: str) -> int:
    """A JSON value, or text, as a whole number from 0 on, such as an id."""
    number = value
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        number = int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:  # larger floats are rounded
        number = int(value)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= LARGEST_ID:
        raise InputError(f"{where} must be an integer from 0 on, not {reprlib.repr(value)}: correct the file")
    return number


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def is_rotation(matrices: np.ndarray) -> np.ndarray:
    """Whether matrices (..., 3, 3) are rotations: (...) bool, False for NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.abs(matrices @ np.swapaxes(matrices, -1, -2) - np.eye(3)).max(axis=(-2, -1))
        return (error <= _SKEWED) & (np.linalg.det(matrices) > 0)
