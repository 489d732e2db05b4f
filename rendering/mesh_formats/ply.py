"""Reads PLY files: polygons and strips, colours and textures of vertices or of faces."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from picopose.rendering.mesh_formats.files_beside import FilesBeside
from picopose.rendering.mesh_formats.part import Part, as_bytes, as_bytes_of_any
from picopose.rendering.mesh_formats.ply_data import Columns, Lists, header_of, read_tables
from picopose.rendering.mesh_formats.text import whole_numbers
from picopose.rendering.mesh_formats.textures import Textures
from picopose.rendering.mesh_formats.triangulation import triangulate
from picopose.utils.errors import InputError

LOG = logging.getLogger(__name__)

_INDICES = ("vertex_indices", "vertex_index")
_UVS = (("texture_u", "texture_v"), ("texture_s", "texture_t"), ("s", "t"), ("u", "v"))
_COLOURS = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))
_TEXTURE = re.compile(rb"^[ \t]*comment[ \t]+TextureFile[ \t]+(.+?)[ \t]*\r?$", re.MULTILINE | re.IGNORECASE)


def read(path: Path) -> list[Part]:
    """The triangles of a PLY file, one part per texture."""
    content = path.read_bytes()
    tables = read_tables(content)
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
    """All vertices, in order and unrounded, and triangles, without looks."""
    surface = _surface(read_tables(path.read_bytes()))
    return [Part(surface.vertices, surface.vertex_of_corners)]


def names(content: bytes) -> list[bytes]:
    """The textures that a file names, in order."""
    return [name.strip(b"\"'") for name in _TEXTURE.findall(header_of(content))]


@dataclass(frozen=True, eq=False)
class _Surface:
    """The triangles of a file."""

    vertices: np.ndarray  # (V, 3) float64
    corners: np.ndarray  # (N,) vertices of the faces' corners
    triangles: np.ndarray  # (F, 3) indices into the corners
    faces: np.ndarray  # (F,) the polygon of each triangle

    @property
    def vertex_of_corners(self) -> np.ndarray:
        """(F, 3)."""
        return self.corners[self.triangles]


def _surface(tables: Mapping[str, Columns]) -> _Surface:
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
    path: Path, textures: list[bytes], surface: _Surface, uv: np.ndarray, tables: Mapping[str, Columns]
) -> list[Part]:
    """A part for each texture in use; uv (N, 2) per vertex or, with wedges, per corner."""
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


def _indices(columns: Columns) -> Lists | None:
    return next((columns[name] for name in _INDICES if isinstance(columns.get(name), Lists)), None)


def _normals(columns: Columns) -> np.ndarray | None:
    return _stacked(columns, ("nx", "ny", "nz"))


def _strips(lists: Lists) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of corners (N,) and triangles (F, 3) of strips, which end with -1."""
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


def _stacked(columns: Columns, keys: tuple[str, ...]) -> np.ndarray | None:
    """(N, C) float64 from scalar columns; None unless all exist."""
    if not all(isinstance(columns.get(key), np.ndarray) for key in keys):
        return None
    return np.stack([columns[key].astype(np.float64) for key in keys], axis=1)


def _colors(columns: Columns) -> np.ndarray | None:
    """(N, 3) uint8, from integers of any width or floats in [0, 1] or [0, 255].

    Some tools store colours up to 255 in 16 or 32 bits.
    """
    for keys in _COLOURS:
        if not all(isinstance(columns.get(key), np.ndarray) for key in keys):
            continue
        raw = np.stack([columns[key] for key in keys], axis=1)
        if raw.dtype.kind == "f":
            return as_bytes_of_any(raw)
        largest = int(np.iinfo(raw.dtype).max)
        white = next(limit for limit in (255, 65535, largest) if raw.max(initial=0) <= limit)
        return as_bytes(raw / float(min(white, largest)))
    return None


def _vertex_uv(columns: Columns) -> np.ndarray | None:
    found = (_stacked(columns, keys) for keys in _UVS)
    return next((uv for uv in found if uv is not None), None)


def _wedge_uv(faces: Columns) -> np.ndarray | None:
    """(N, 2) of the faces' corners; None if the file leaves them empty."""
    wedges, lists = faces["texcoord"], _indices(faces)
    if not wedges.sizes.any():
        return None
    if (wedges.sizes != 2 * lists.sizes).any():
        raise ValueError("a face has another number of texture coordinates than of corners")
    return wedges.values.astype(np.float64).reshape(-1, 2)
