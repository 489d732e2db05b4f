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
    """The content of a JSON file; an `InputError` names the file and the remedy where it cannot be read."""
    with _open(path, remedy) as file:
        text = file.read()
    if not text.strip():
        raise InputError(f"{path} is empty: {remedy}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is truncated or not JSON ({error}): {remedy}") from None


def iterate_json(path: Path | str, *, remedy: str = "download or create it again") -> Iterator[dict]:
    """The objects of a JSON list one by one, for files too large to hold: about a chunk is held at a time."""
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
            except (ValueError, RecursionError) as error:  # perhaps only cut by the end of the chunk
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
    """The array of an .npy file, mapped, so that it takes no memory however large the file says it is.

    Raises an OSError for a missing file, and a ValueError for whatever is no whole array of plain values.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # a damaged header leads NumPy's parser to any of Python's errors
        raise ValueError(f"no whole array without pickled objects: {error}") from None
    if array.offset + array.nbytes != path.stat().st_size:
        raise ValueError("longer than its array")
    return array


def finite_numbers(value: Any, count: int, where: str) -> list[float]:
    """`value` of a JSON file as `count` finite numbers; `where` names file and entry in the error."""
    entries = value if isinstance(value, list) else [value]
    if len(entries) != count or not all(_is_finite(entry) for entry in entries):
        expected = f"{count} finite numbers" if count > 1 else "a finite number"
        raise InputError(f"{where} must be {expected}, not {reprlib.repr(value)}: correct the file")
    return [float(entry) for entry in entries]


def finite_matrix(value: Any, rows: int, columns: int, where: str) -> list[float]:
    """As `finite_numbers`, row by row, of a matrix that may also be a list of its rows."""
    lists = isinstance(value, list) and all(isinstance(row, list) and len(row) == columns for row in value)
    numbers = [number for row in value for number in row] if lists else value
    return finite_numbers(numbers, rows * columns, where)


def integer(value: Any, where: str) -> int:
    """`value` of a JSON file as a whole number from 0 on, such as an id; it may be text that spells one."""
    number = value
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        number = int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:  # beyond, it is rounded
        number = int(value)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= LARGEST_ID:
        raise InputError(f"{where} must be an integer from 0 on, not {reprlib.repr(value)}: correct the file")
    return number


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def is_rotation(matrices: np.ndarray) -> np.ndarray:
    """Whether matrices (..., 3, 3) turn without mirroring or stretching: (...) bool, False for NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.abs(matrices @ np.swapaxes(matrices, -1, -2) - np.eye(3)).max(axis=(-2, -1))
        return (error <= _SKEWED) & (np.linalg.det(matrices) > 0)
