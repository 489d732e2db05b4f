"""Reads the triangles of a PLY file exactly: all vertices in order, as the doubles that the file spells.

Mesh libraries merge vertices or round ASCII coordinates to the declared float32; the pose errors of BOP are
defined on the numbers themselves.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.errors import InputError

_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
_INDEX_NAMES = ("vertex_indices", "vertex_index")
_MAX_HEADER = 1 << 16  # bytes


@dataclass(frozen=True)
class _Property:
    name: str
    type: str  # numpy's, without byte order
    count_type: str | None = None  # of a list's length; None for a scalar


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: list[_Property]


def read_ply(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) float64 in the file's unit and triangles (F, 3) int32.

    ASCII and binary files; every row of an element must have lists of the same lengths (triangles: 3).
    Raises `InputError` for a missing, damaged or non-triangular file.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"mesh {path} cannot be read ({error.strerror}): download the models again"
        ) from None
    try:
        return _parse(content)
    except (ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no PLY file of triangles ({error}): download the models again") from None


def _parse(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    end = content.find(b"end_header", 0, _MAX_HEADER)
    body = content.find(b"\n", end) + 1
    if not content.startswith(b"ply") or end < 0 or body == 0:
        raise ValueError("no PLY header")
    form, elements = _header(content[:end].decode("ascii"))
    read = _ascii_rows if form == "ascii" else _binary_rows
    tables, position = {}, body
    for element in elements:
        tables[element.name], position = read(content, position, element, _ORDERS[form])
    vertex, face = tables["vertex"], tables["face"]
    vertices = np.stack([vertex[axis].astype(np.float64) for axis in "xyz"], axis=1)
    indices = next((face[name] for name in _INDEX_NAMES if name in face), np.empty((0, 0)))
    if indices.ndim != 2 or indices.shape[1] != 3:
        raise ValueError("its faces are no triangles")
    faces = indices.astype(np.int32)
    if not np.isfinite(vertices).all() or faces.min() < 0 or faces.max() >= len(vertices):
        raise ValueError("a coordinate is not finite or a face names no vertex")
    return vertices, faces


def _header(text: str) -> tuple[str, list[_Element]]:
    form, elements = "", []
    for line in text.splitlines()[1:]:
        words = line.split()
        match words:
            case ["format", form, _]:
                pass
            case ["element", name, count]:
                elements.append(_Element(name, int(count), []))
            case ["property", "list", count_type, item_type, name]:
                elements[-1].properties.append(_Property(name, _TYPES[item_type], _TYPES[count_type]))
            case ["property", scalar_type, name]:
                elements[-1].properties.append(_Property(name, _TYPES[scalar_type]))
    if form not in _ORDERS:
        raise ValueError(f"unknown format '{form}'")
    return form, elements


def _binary_rows(content: bytes, start: int, element: _Element, order: str) -> tuple[dict, int]:
    """An element's columns by property name, and where the next element begins."""
    if element.count == 0:
        return {p.name: np.empty((0, 0)) for p in element.properties}, start
    fields, offset = [], start  # lists are as long as in the first row, which is checked below
    for p in element.properties:
        if p.count_type is None:
            fields.append((p.name, order + p.type))
        else:
            count = int(np.frombuffer(content, order + p.count_type, 1, offset)[0])
            fields += [(f"{p.name}/n", order + p.count_type), (p.name, order + p.type, (count,))]
        offset = start + np.dtype(fields).itemsize
    rows = np.frombuffer(content, np.dtype(fields), element.count, start)
    for p in element.properties:
        if p.count_type is not None and (rows[f"{p.name}/n"] != rows[p.name].shape[1]).any():
            raise ValueError(f"the lists '{p.name}' differ in length")
    return {p.name: rows[p.name] for p in element.properties}, start + rows.nbytes


def _ascii_rows(content: bytes, start: int, element: _Element, order: str) -> tuple[dict, int]:
    """As `_binary_rows`, for rows that are lines of text."""
    end = start
    for _ in range(min(element.count, len(content))):
        newline = content.find(b"\n", end)
        end = newline + 1 if newline >= 0 else len(content)
    words = content[start:end].split()
    if not words or len(words) % element.count:
        raise ValueError(f"the rows of '{element.name}' are incomplete or differ in length")
    rows = np.array(words, dtype=np.float64).reshape(element.count, -1)
    columns, column = {}, 0
    for p in element.properties:
        if p.count_type is None:
            columns[p.name] = rows[:, column]
            column += 1
            continue
        count = int(rows[0, column])
        if (rows[:, column] != count).any():
            raise ValueError(f"the lists '{p.name}' differ in length")
        columns[p.name] = rows[:, column + 1 : column + 1 + count]
        column += 1 + count
    if column != rows.shape[1]:
        raise ValueError(f"the rows of '{element.name}' have {rows.shape[1]} numbers instead of {column}")
    return columns, end
