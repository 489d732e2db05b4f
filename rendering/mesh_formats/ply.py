"""Reads PLY files: ASCII and binary, polygons and strips, colours and textures of vertices or of faces."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rendering.mesh_formats.files_beside import FilesBeside
from rendering.mesh_formats.part import Part, as_bytes
from rendering.mesh_formats.text import numbers, plain, whole_numbers
from rendering.mesh_formats.textures import Textures
from rendering.mesh_formats.triangulation import triangulate
from utils.errors import InputError

LOG = logging.getLogger(__name__)

_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"int64": "i8", "uint64": "u8"},  # not of the format, but written from Python
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
_INDICES = ("vertex_indices", "vertex_index")
_UVS = (("texture_u", "texture_v"), ("texture_s", "texture_t"), ("s", "t"), ("u", "v"))
_COLOURS = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))
_MAX_HEADER = 1 << 16  # bytes
_TEXTURE = re.compile(rb"^[ \t]*comment[ \t]+TextureFile[ \t]+(.+?)[ \t]*\r?$", re.MULTILINE | re.IGNORECASE)


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
class _Lists:
    """A list property of all rows."""

    sizes: np.ndarray  # (N,)
    values: np.ndarray  # (sum of sizes,), row by row


_Columns = Mapping[str, np.ndarray | _Lists]


def read(path: Path) -> list[Part]:
    """The triangles of a PLY file, one part for each texture."""
    content = path.read_bytes()
    tables = _tables(content)
    surface = _surface(tables)
    columns, faces = tables["vertex"], tables.get("face", {})
    colors = _colors(columns)
    uv = _wedge_uv(faces) if "texcoord" in faces else _vertex_uv(columns)
    textures = names(content)
    if uv is not None and textures:
        return _textured(path, textures, surface, uv, tables)
    if textures and "multi_texture_face" in tables:
        raise InputError(
            f"{path} keeps its texture coordinates in an element of their own (multi_texture_face), which is "
            "not read: export it as OBJ or GLB"
        )
    if textures:
        LOG.warning("%s names a texture, but has no texture coordinates: it is not shown", path)
    of_faces = _colors(faces) if colors is None else None
    if of_faces is not None:
        corners = surface.vertex_of_corners[..., None]
        return [Part.of_corners(surface.vertices, corners, face_colors=of_faces[surface.faces])]
    return [Part(surface.vertices, surface.vertex_of_corners, _normals(columns), colors)]


def read_surface(path: Path) -> list[Part]:
    """The vertices, all of them in the file's order and as it spells them, and triangles; no looks."""
    surface = _surface(_tables(path.read_bytes()))
    return [Part(surface.vertices, surface.vertex_of_corners)]


def names(content: bytes) -> list[bytes]:
    """The textures that a file names, in their order."""
    content = plain(content)
    return [name.strip(b"\"'") for name in _TEXTURE.findall(content[: _header_end(content)[0]])]


@dataclass(frozen=True, eq=False)
class _Surface:
    """The triangles of a file."""

    vertices: np.ndarray  # (V, 3) float64
    corners: np.ndarray  # (N,) vertices of the faces' corners
    triangles: np.ndarray  # (F, 3) indices into the corners
    faces: np.ndarray  # (F,) the polygon that a triangle is of

    @property
    def vertex_of_corners(self) -> np.ndarray:
        """(F, 3)."""
        return self.corners[self.triangles]


def _surface(tables: Mapping[str, _Columns]) -> _Surface:
    vertices = _stacked(tables.get("vertex", {}), ("x", "y", "z"))
    if vertices is None:
        raise ValueError("it has no vertices with x, y and z")
    lists = _indices(tables.get("face", {}))
    if lists is not None:
        corners = whole_numbers(lists.values)
        return _Surface(vertices, corners, *triangulate(vertices, corners, lists.sizes))
    strips = _indices(tables.get("tristrips", {}))
    corners, triangles = (np.empty(0, int), np.empty((0, 3), int)) if strips is None else _strips(strips)
    if corners.max(initial=0) >= len(vertices):
        raise ValueError("a strip has a vertex that does not exist")
    return _Surface(vertices, corners, triangles, np.arange(len(triangles)))


def _textured(
    path: Path, textures: list[bytes], surface: _Surface, uv: np.ndarray, tables: Mapping[str, _Columns]
) -> list[Part]:
    """A part for each texture that a face shows; uv (N, 2) is of the vertices or, by wedges, of corners."""
    faces, normals = tables["face"], _normals(tables["vertex"])
    colors = _colors(tables["vertex"])
    of_faces = _colors(faces) if colors is None else None
    if any(values is not None and (values < 255).any() for values in (colors, of_faces)):
        LOG.warning("%s: its texture is shown, its colours only where it has none", path)
    beside, decoded = FilesBeside(path), Textures(path)
    files = [beside.require(name) for name in textures]
    shows = faces.get("texnumber")
    if shows is None and len(files) > 1:
        raise InputError(
            f"{path} names {len(files)} textures, but no face says which it shows (texnumber): "
            "export it with one texture"
        )
    shown_by = np.zeros(len(surface.triangles), int) if shows is None else shows.astype(int)[surface.faces]
    parts = []
    for number in np.unique(shown_by):
        own = surface.triangles[shown_by == number]
        vertex = surface.corners[own]
        columns = [vertex]
        if number >= 0:
            columns.append(own if "texcoord" in faces else vertex)
            look = {"uv": uv, "texture": decoded.decode(files[number].read_bytes(), files[number].name)}
        elif of_faces is None:
            look = {"colors": colors}
        else:
            look = {"face_colors": of_faces[surface.faces[shown_by == number]]}
        if normals is not None:
            columns.append(vertex)
        corners = np.stack(columns, axis=-1)
        parts.append(Part.of_corners(surface.vertices, corners, normals=normals, **look))
    return parts


def _indices(columns: _Columns) -> _Lists | None:
    return next((columns[name] for name in _INDICES if isinstance(columns.get(name), _Lists)), None)


def _normals(columns: _Columns) -> np.ndarray | None:
    return _stacked(columns, ("nx", "ny", "nz"))


def _strips(lists: _Lists) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of corners (N,) and triangles (F, 3) of strips, which -1 ends."""
    corners = whole_numbers(lists.values)
    ends = np.zeros(len(corners) + 1, bool)
    ends[np.cumsum(lists.sizes)] = True
    strip = np.cumsum((corners < 0) | ends[:-1])  # a number for each strip; -1 belongs to the one it begins
    place = np.arange(len(corners))
    begin = np.r_[True, strip[1:] != strip[:-1]] if len(strip) else np.zeros(0, bool)
    first = np.maximum.accumulate(np.where(begin, place + (corners < 0), 0)) if len(strip) else place
    start = place[:-2]
    whole = (strip[:-2] == strip[2:]) & (corners[:-2] >= 0)
    odd = (start - first[:-2]) % 2 == 1
    triangles = np.stack([start, np.where(odd, start + 2, start + 1), np.where(odd, start + 1, start + 2)], 1)
    return corners, triangles[whole]


def _stacked(columns: _Columns, keys: tuple[str, ...]) -> np.ndarray | None:
    """(N, C) float64 of scalar columns; None unless all are there."""
    if not all(isinstance(columns.get(key), np.ndarray) for key in keys):
        return None
    return np.stack([columns[key].astype(np.float64) for key in keys], axis=1)


def _colors(columns: _Columns) -> np.ndarray | None:
    """(N, 3) uint8, of whole numbers of any width or of floats in [0, 1] or [0, 255].

    Tools that keep every number in 16 or 32 bits do so with colours up to 255 too.
    """
    for keys in _COLOURS:
        if not all(isinstance(columns.get(key), np.ndarray) for key in keys):
            continue
        raw = np.stack([columns[key] for key in keys], axis=1)
        if raw.dtype.kind == "f":
            scale = 1.0 if np.nan_to_num(raw).max(initial=0) <= 1 else 255.0
        else:
            largest = int(np.iinfo(raw.dtype).max)
            white = next(limit for limit in (255, 65535, largest) if raw.max(initial=0) <= limit)
            scale = float(min(white, largest))
        return as_bytes(np.nan_to_num(raw) / scale)
    return None


def _vertex_uv(columns: _Columns) -> np.ndarray | None:
    found = (_stacked(columns, keys) for keys in _UVS)
    return next((uv for uv in found if uv is not None), None)


def _wedge_uv(faces: _Columns) -> np.ndarray | None:
    """(N, 2) of the faces' corners; None where the file leaves them empty."""
    wedges, lists = faces["texcoord"], _indices(faces)
    if not wedges.sizes.any():
        return None
    if (wedges.sizes != 2 * lists.sizes).any():
        raise ValueError("a face has another number of texture coordinates than of corners")
    return wedges.values.astype(np.float64).reshape(-1, 2)


def _header_end(content: bytes) -> tuple[int, int]:
    """Where the header's last line begins, and where the rows begin."""
    end = content.find(b"end_header", 0, _MAX_HEADER)
    body = content.find(b"\n", end) + 1
    if not content.startswith(b"ply") or end < 0 or body == 0:
        raise ValueError("it has no PLY header")
    return end, body


def _tables(content: bytes) -> dict[str, _Columns]:
    """The columns of each element."""
    content = plain(content)
    end, position = _header_end(content)
    form, elements = _header(content[:end].decode("utf-8", errors="replace"))
    tables: dict[str, _Columns] = {}
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


def _ascii_columns(lines: list[bytes], element: _Element) -> _Columns:
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


def _uniform(values: np.ndarray, element: _Element) -> _Columns | None:
    """The columns of rows whose lists are all as long as those of the first row; None if they are not."""
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
            columns[p.name] = _Lists(np.full(element.count, size), rows.ravel())
        column += 1 + (size or 0)
    return columns


def _row_by_row(values: np.ndarray, element: _Element) -> _Columns:
    """The columns of rows whose lists differ in length."""
    sizes = {p.name: [] for p in element.properties}
    places = {p.name: [] for p in element.properties}
    position, numbers_there = 0, values.tolist()
    for _ in range(element.count):
        for p in element.properties:
            size = 1
            if p.count_type is not None:
                size = _size(numbers_there[position])
                position += 1
            sizes[p.name].append(size)
            places[p.name].append(position)
            position += size
    if position != len(values):
        raise ValueError(f"the rows of '{element.name}' have {len(values)} numbers instead of {position}")
    columns = {}
    for p in element.properties:
        own = np.array(sizes[p.name])
        found = values[_spans(np.array(places[p.name]), own)]
        columns[p.name] = _as_declared(found, p) if p.count_type is None else _Lists(own, found)
    return columns


def _as_declared(values: np.ndarray, declared: _Property) -> np.ndarray:
    """Numbers (N,) float64 of a text, in the whole type that the header says if all fit it."""
    kind = np.dtype(declared.type)
    if kind.kind == "f":
        return values  # as spelt, so not rounded to single precision
    limits = np.iinfo(kind)
    fits = (values == np.trunc(values)) & (values >= limits.min) & (values <= limits.max)
    return values.astype(kind) if fits.all() else values


def _size(value: float) -> int:
    if not (0 <= value < 2**31 and value == int(value)):
        raise ValueError(f"a list has {value:g} entries")
    return int(value)


def _spans(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """All indices of some spans, one after the other."""
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.repeat(starts, sizes) + within


def _binary_columns(content: bytes, start: int, element: _Element, order: str) -> tuple[_Columns, int]:
    """An element's columns, and where the next element begins."""
    shortest = sum(np.dtype(p.count_type or p.type).itemsize for p in element.properties)
    if element.count * shortest > len(content) - start:
        raise ValueError(f"it says that it has {element.count} rows of '{element.name}', but is too short")
    if element.count == 0 or not element.properties:
        return {}, start
    fields, offset = [], start
    for p in element.properties:  # lists are as long as in the first row; checked below
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
                columns[name] = _Lists(rows[f"{name}/n"].astype(int), rows[name].ravel())
            return columns, start + rows.nbytes
    return _binary_row_by_row(content, start, element, order)


def _binary_row_by_row(content: bytes, start: int, element: _Element, order: str) -> tuple[_Columns, int]:
    """As `_binary_columns`, of rows whose lists differ in length."""
    kinds = [
        (p, np.dtype(order + p.type), p.count_type and np.dtype(order + p.count_type))
        for p in element.properties
    ]
    sizes = {p.name: [] for p in element.properties}
    places = {p.name: [] for p in element.properties}
    readers = {count: _integer_reader(content, count) for _, _, count in kinds if count is not None}
    position = start
    for _ in range(element.count):
        for p, kind, count in kinds:
            size = 1
            if count is not None:
                size = readers[count](position)
                position += count.itemsize
            sizes[p.name].append(size)
            places[p.name].append(position)
            position += size * kind.itemsize
        if position > len(content):
            raise ValueError(f"the rows of '{element.name}' are cut short")
    columns, raw = {}, np.frombuffer(content, np.uint8)
    for p, kind, count in kinds:
        own = np.array(sizes[p.name])
        spans = _spans(np.array(places[p.name]), own * kind.itemsize)
        found = raw[spans].view(kind)
        columns[p.name] = found if count is None else _Lists(own, found)
    return columns, position


def _integer_reader(content: bytes, kind: np.dtype):
    """A quick way to a list's length at a place."""
    byteorder = "big" if kind.byteorder == ">" else "little"
    if kind.kind == "f":
        raise ValueError("a list counts its entries by fractions")
    signed, width = kind.kind == "i", kind.itemsize

    def read_at(position: int) -> int:
        size = int.from_bytes(content[position : position + width], byteorder, signed=signed)
        return _size(size)

    return read_at
