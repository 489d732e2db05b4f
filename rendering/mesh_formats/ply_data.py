"""Reads the tables of PLY files, ASCII and binary: a column per property of vertices, faces etc."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from picopose.rendering.mesh_formats.text import numbers, plain

_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"int64": "i8", "uint64": "u8"},  # not in the format, but written by Python programs
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
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


@dataclass(frozen=True, eq=False)
class Lists:
    """A list property of all rows."""

    sizes: np.ndarray  # (N,)
    values: np.ndarray  # (sum of sizes,), row by row


Columns = Mapping[str, np.ndarray | Lists]


def read_tables(content: bytes) -> dict[str, Columns]:
    """The columns of each element."""
    content = plain(content)
    end, position = _header_end(content)
    form, elements = _header(content[:end].decode("utf-8", errors="replace"))
    tables: dict[str, Columns] = {}
    if form == "ascii":
        lines = [line for line in content[position:].splitlines() if line.strip()]
        if len(lines) != sum(element.count for element in elements):
            raise ValueError(f"it has {len(lines)} rows instead of {sum(e.count for e in elements)}")
        begin = 0
        for element in elements:
            tables[element.name] = _ascii_columns(lines[begin : begin + element.count], element)
            begin += element.count
        return tables
    for element in elements:
        tables[element.name], position = _binary_columns(content, position, element, _ORDERS[form])
    if content[position:].strip(b"\0 \r\n"):
        raise ValueError(f"it has {len(content) - position} bytes more than its header says")
    return tables


def header_of(content: bytes) -> bytes:
    """The lines before the rows."""
    content = plain(content)
    return content[: _header_end(content)[0]]


def _header_end(content: bytes) -> tuple[int, int]:
    """Where the header's last line begins, and where the rows begin."""
    end = content.find(b"end_header", 0, _MAX_HEADER)
    body = content.find(b"\n", end) + 1
    if not content.startswith(b"ply") or end < 0 or body == 0:
        raise ValueError("it has no PLY header")
    return end, body


def _header(text: str) -> tuple[str, list[_Element]]:
    form, elements = "", []
    for line in text.splitlines()[1:]:
        match line.split():
            case ["format", form, _]:
                pass
            case ["element", name, count]:
                elements.append(_Element(name, _count(count), []))
            case ["property", "list", count_type, item_type, name]:
                elements[-1].properties.append(_Property(name, _TYPES[item_type], _TYPES[count_type]))
            case ["property", scalar_type, name]:
                elements[-1].properties.append(_Property(name, _TYPES[scalar_type]))
            case [] | ["comment" | "obj_info", *_]:
                pass
            case _:
                raise ValueError(f"its header has a line '{line[:40]}'")
    if form not in _ORDERS:
        raise ValueError(f"unknown format '{form}'")
    return form, elements


def _count(text: str) -> int:
    count = int(text[:20])
    if count < 0:
        raise ValueError(f"an element has {count} rows")
    return count


def _ascii_columns(lines: list[bytes], element: _Element) -> Columns:
    if not lines:
        return {}
    values = numbers(b" ".join(lines))
    lists = [p for p in element.properties if p.count_type is not None]
    width = len(element.properties)
    if not lists:
        if len(values) != width * len(lines):
            raise ValueError(f"the rows of '{element.name}' do not have {width} numbers each")
        table = values.reshape(len(lines), width)
        return {p.name: _as_declared(table[:, k], p) for k, p in enumerate(element.properties)}
    uniform = _uniform(values, element)
    return _row_by_row(values, element) if uniform is None else uniform


def _uniform(values: np.ndarray, element: _Element) -> Columns | None:
    """The columns of rows whose lists have equal lengths; None if they differ."""
    sizes, width = {}, 0
    for p in element.properties:
        if p.count_type is not None:
            if width >= len(values):
                return None
            sizes[p.name] = _size(values[width])
            width += sizes[p.name]
        width += 1
    if width * element.count != len(values):
        return None
    table, columns, column = values.reshape(element.count, width), {}, 0
    for p in element.properties:
        size = sizes.get(p.name)
        if size is None:
            columns[p.name] = _as_declared(table[:, column], p)
        elif (table[:, column] != size).any():
            return None
        else:
            rows = table[:, column + 1 : column + 1 + size]
            columns[p.name] = Lists(np.full(element.count, size), rows.ravel())
        column += 1 + (size or 0)
    return columns


def _row_by_row(values: np.ndarray, element: _Element) -> Columns:
    """The columns of rows whose lists differ in length."""
    numbers_there, widths = values.tolist(), {p.name: (1, 1) for p in element.properties}
    found, end = _walk(element, 0, widths, lambda p, position: _size(numbers_there[position]), len(values))
    if end != len(values):
        raise ValueError(f"the rows of '{element.name}' have {len(values)} numbers instead of {end}")
    columns = {}
    for p in element.properties:
        places, sizes = found[p.name]
        own = values[_spans(places, sizes)]
        columns[p.name] = _as_declared(own, p) if p.count_type is None else Lists(sizes, own)
    return columns


def _walk(
    element: _Element,
    position: int,
    widths: Mapping[str, tuple[int, int]],
    size_at: Callable[[_Property, int], int],
    end: int,
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], int]:
    """Start and number of each property's entries in each row, by name; and the end of the rows.

    Args:
        widths: of an entry and of a list's length, by the property's name; size_at: a list's length.
    """
    found = {p.name: ([], []) for p in element.properties}
    for _ in range(element.count):
        for p in element.properties:
            width, length_width = widths[p.name]
            size = 1
            if p.count_type is not None:
                size = size_at(p, position)
                position += length_width
            places, sizes = found[p.name]
            places.append(position)
            sizes.append(size)
            position += size * width
        if position > end:
            raise ValueError(f"the rows of '{element.name}' are cut short")
    return {name: (np.array(places), np.array(sizes)) for name, (places, sizes) in found.items()}, position


def _as_declared(values: np.ndarray, declared: _Property) -> np.ndarray:
    """Numbers (N,) float64 of a text, in the header's integer type if all fit."""
    kind = np.dtype(declared.type)
    if kind.kind == "f":
        return values  # not rounded to single precision
    limits = np.iinfo(kind)
    fits = (values == np.trunc(values)) & (values >= limits.min) & (values <= limits.max)
    return values.astype(kind) if fits.all() else values


def _size(value: float) -> int:
    if not (0 <= value < 2**31 and value == int(value)):
        raise ValueError(f"a list has {value:g} entries")
    return int(value)


def _spans(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """All indices in some spans, in order."""
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.repeat(starts, sizes) + within


def _binary_columns(content: bytes, start: int, element: _Element, order: str) -> tuple[Columns, int]:
    """An element's columns, and where the next element begins."""
    shortest = sum(np.dtype(p.count_type or p.type).itemsize for p in element.properties)
    if element.count * shortest > len(content) - start:
        raise ValueError(f"it says that it has {element.count} rows of '{element.name}', but is too short")
    if element.count == 0 or not element.properties:
        return {}, start
    fields, offset = [], start
    for p in element.properties:  # assumes lists as long as in the first row; checked below
        if p.count_type is None:
            fields.append((p.name, order + p.type))
        else:
            size = _size(np.frombuffer(content, order + p.count_type, 1, offset)[0])
            fields += [(f"{p.name}/n", order + p.count_type), (p.name, order + p.type, (size,))]
        offset = start + np.dtype(fields).itemsize
        if offset > len(content):
            raise ValueError(f"a list '{p.name}' is cut short")
    row = np.dtype(fields)
    lists = [p.name for p in element.properties if p.count_type is not None]
    if element.count * row.itemsize <= len(content) - start:
        rows = np.frombuffer(content, row, element.count, start)
        if all((rows[f"{name}/n"] == rows[name].shape[1]).all() for name in lists):
            columns = {p.name: rows[p.name] for p in element.properties}
            for name in lists:
                columns[name] = Lists(rows[f"{name}/n"].astype(int), rows[name].ravel())
            return columns, start + rows.nbytes
    return _binary_row_by_row(content, start, element, order)


def _binary_row_by_row(content: bytes, start: int, element: _Element, order: str) -> tuple[Columns, int]:
    """As `_binary_columns`, of rows whose lists differ in length."""
    kinds = {p.name: np.dtype(order + p.type) for p in element.properties}
    lengths = {p.name: np.dtype(order + p.count_type) for p in element.properties if p.count_type is not None}
    readers = {name: _integer_reader(content, kind) for name, kind in lengths.items()}
    widths = {
        name: (kind.itemsize, lengths[name].itemsize if name in lengths else 0)
        for name, kind in kinds.items()
    }
    found, end = _walk(element, start, widths, lambda p, position: readers[p.name](position), len(content))
    columns, raw = {}, np.frombuffer(content, np.uint8)
    for p in element.properties:
        places, sizes = found[p.name]
        own = raw[_spans(places, sizes * kinds[p.name].itemsize)].view(kinds[p.name])
        columns[p.name] = own if p.count_type is None else Lists(sizes, own)
    return columns, end


def _integer_reader(content: bytes, kind: np.dtype) -> Callable[[int], int]:
    """A fast reader of a list's length at an offset."""
    byteorder = "big" if kind.byteorder == ">" else "little"
    if kind.kind == "f":
        raise ValueError("a list counts its entries by fractions")
    signed, width = kind.kind == "i", kind.itemsize

    def read_at(position: int) -> int:
        size = int.from_bytes(content[position : position + width], byteorder, signed=signed)
        return _size(size)

    return read_at
