"""Reads OBJ files with their MTL libraries: polygons, relative indices, vertex colours, any encoding."""

import logging
import re
from array import array
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from picopose.rendering.mesh_formats.files_beside import FilesBeside
from picopose.rendering.mesh_formats.mtl import Material, read_materials
from picopose.rendering.mesh_formats.part import GREY, Part, as_bytes_of_any, tinted
from picopose.rendering.mesh_formats.text import integers, numbers, plain, shown
from picopose.rendering.mesh_formats.textures import Textures
from picopose.rendering.mesh_formats.triangulation import triangulate
from picopose.utils.errors import InputError

LOG = logging.getLogger(__name__)

_NO_MATERIAL = (b"", b"none", b"null", b"(null)", b"default")  # names of exporters that had none
_IGNORED = (
    *(b"g", b"o", b"s", b"l", b"p", b"vp", b"mg", b"lod", b"bevel", b"c_interp", b"d_interp", b"usemap"),
    *(b"maplib", b"shadow_obj", b"trace_obj", b"end", b"#"),
)
_FREE_FORM = (b"curv", b"curv2", b"surf", b"cstype", b"deg", b"parm")
_LIBRARY = re.compile(rb"(?:^|[\r\n])[ \t]*mtllib[ \t]+([^\r\n]+)")
_COMMENT_END = re.compile(rb"((?:^|[\r\n])[ \t]*#[^\r\n]*\\)(?=[\r\n])")  # behind a folder's name, say


@dataclass
class _Statements:
    """The statements of a file in order."""

    vertices: list[bytes] = field(default_factory=list)
    uv: list[bytes] = field(default_factory=list)
    normals: list[bytes] = field(default_factory=list)
    faces: list[bytes] = field(default_factory=list)
    seen: array = field(default_factory=lambda: array("q"))  # vertices, uv, normals before each face
    material: array = field(default_factory=lambda: array("q"))  # of each face; -1 for none
    materials: list[bytes] = field(default_factory=list)
    libraries: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Tables:
    """The tables that faces index."""

    vertices: np.ndarray  # (V, 3)
    colors: np.ndarray | None  # (V, 3) uint8
    uv: np.ndarray  # (T, 2)
    normals: np.ndarray  # (N, 3)

    def part(self, corners: np.ndarray, uv: np.ndarray | None = None, **look: np.ndarray | None) -> Part:
        """The part of faces (F, 3, 3) of vertex, uv and normal; normals are used if all corners have one."""
        columns = [0] + [1] * (uv is not None)
        normals = self.normals if (corners[..., 2] >= 0).all() else None
        columns += [2] * (normals is not None)
        return Part.of_corners(self.vertices, corners[..., columns], uv=uv, normals=normals, **look)


def read(path: Path) -> list[Part]:
    """The faces of an OBJ file, one part per material."""
    said = _statements(plain(path.read_bytes()), path)
    vertices, colors = _vertices(said.vertices)
    uv = _table(said.uv, 1)
    if uv.shape[1] == 1 and said.uv:
        raise ValueError("a texture coordinate has one number")
    tables = _Tables(vertices, colors, uv[:, :2], _table(said.normals, 3)[:, :3])
    corners, sizes = _corners(said, (len(vertices), len(said.uv), len(said.normals)))
    faces = _with_surface(sizes, path)
    corners, sizes = corners[faces.repeat(sizes)], sizes[faces]
    triangles, owner = triangulate(vertices, corners[:, 0], sizes)
    of_triangle = np.array(said.material, dtype=int)[faces][owner]
    materials, parts = _Materials(path, said), []
    for number in np.unique(of_triangle):
        own = corners[triangles[of_triangle == number]]
        parts += _parts(path, tables, own, materials.of(int(number)), materials)
    return parts


def names(content: bytes) -> list[bytes]:
    """The material libraries that a file names."""
    lines = [line.strip().strip(b"\"'") for line in _LIBRARY.findall(plain(content))]
    return [name for line in lines for name in (line, *line.split())]


class _Materials:
    """The materials of a file's libraries, read when a face needs one."""

    def __init__(self, path: Path, said: _Statements):
        self._path, self._used = path, said.materials
        self._beside = FilesBeside(path)
        self._textures = Textures(path)
        self._known: dict[bytes, Material] = {}
        self._has_libraries = bool(said.libraries)
        for line in said.libraries:
            for library in self._libraries(line):
                for name, material in read_materials(library).items():
                    self._known.setdefault(name, material)
        if said.materials and not said.libraries:
            LOG.warning("%s uses materials, but names no MTL file with them: they are not shown", path)

    def _libraries(self, line: bytes) -> list[Path]:
        """The files named in a line: one whose name may contain blanks, or several."""
        whole = line.strip(b"\"'")
        found = self._beside.find(whole)
        if found is not None:
            return [found]
        names = whole.split() if all(self._beside.find(name) for name in whole.split()) else [whole]
        return [self._beside.require(name) for name in names]

    def of(self, number: int) -> Material:
        """A material by its number among those used; -1 for none."""
        name = self._used[number] if number >= 0 else b""
        if name in self._known:
            return self._known[name]
        if self._has_libraries and name.lower() not in _NO_MATERIAL:
            raise InputError(
                f"{self._path} uses material '{shown(name)}', which its MTL file does not define: "
                "correct one of the two"
            )
        return Material(name)

    def picture(self, material: Material) -> np.ndarray:
        """The texture (H, W, 3) uint8 of a material that has one."""
        file = self._beside.require(material.picture)
        return self._textures.decode(file.read_bytes(), file.name)


def _statements(content: bytes, path: Path) -> _Statements:
    said, material = _Statements(), -1
    tables = {b"v": said.vertices, b"vt": said.uv, b"vn": said.normals}
    numbers_of = {}  # of materials by name
    content = _COMMENT_END.sub(rb"\1 ", content)  # comments do not continue in the next line
    for number, line in enumerate(content.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").splitlines(), 1):
        keyword, rest = (*line.split(None, 1), b"", b"")[:2]
        if keyword in tables:
            tables[keyword].append(rest.partition(b"#")[0])
        elif keyword in (b"f", b"fo"):
            said.faces.append(rest.partition(b"#")[0])
            said.seen.extend((len(said.vertices), len(said.uv), len(said.normals)))
            said.material.append(material)
        elif keyword == b"usemtl":
            material = numbers_of.setdefault(rest.strip(), len(numbers_of))
        elif keyword == b"mtllib":
            said.libraries.append(rest.strip())
        elif keyword in _FREE_FORM:
            raise InputError(f"{path} has free-form surfaces ({shown(keyword)}): export it as triangles")
        elif keyword and keyword not in _IGNORED and not keyword.startswith(b"#"):
            raise ValueError(f"line {number} begins with '{shown(keyword[:20])}'")
    said.materials = list(numbers_of)
    return said


def _vertices(lines: list[bytes]) -> tuple[np.ndarray, np.ndarray | None]:
    """Positions (V, 3) and colours (V, 3) uint8 or None: x y z, x y z w, or x y z r g b (a)."""
    table = _table(lines, 3)
    if table.shape[1] == 4 and not (np.isnan(table[:, 3]) | (table[:, 3] == 1)).all():
        raise ValueError("a vertex has a weight other than 1")
    if table.shape[1] < 6:
        return table[:, :3], None
    colors = as_bytes_of_any(table[:, 3:6])
    colors[np.isnan(table[:, 5])] = GREY
    return table[:, :3], colors


def _table(lines: list[bytes], least: int) -> np.ndarray:
    """The numbers (N, C) of lines; NaN where a line has fewer than others."""
    values = numbers(b" ".join(lines))
    width = len(lines[0].split()) if lines else least
    if len(values) != width * len(lines):  # the lines differ
        rows = [numbers(line) for line in lines]
        width = max(map(len, rows))
        if width > 7 or min(map(len, rows)) < least:
            raise ValueError("a line has too few or too many numbers")
        return np.stack([np.pad(row, (0, width - len(row)), constant_values=np.nan) for row in rows])
    if not least <= width <= 7:
        raise ValueError("a line has too few or too many numbers")
    return values.reshape(len(lines), width)


def _corners(said: _Statements, counts: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Indices (N, 3) of vertex, uv and normal of each corner, -1 for none, and the sizes (P,) of faces."""
    words = [word.rstrip(b"/") for word in b" ".join(said.faces).replace(b"//", b"/0/").split()]
    sizes = np.array([len(face.split()) for face in said.faces], dtype=int)
    widths = np.array([word.count(b"/") + 1 for word in words], dtype=int)
    values = integers(b" ".join(words).replace(b"/", b" "))
    if widths.max(initial=0) > 3 or len(values) != widths.sum():
        raise ValueError("a corner of a face has an index too many or too few")
    given = np.zeros((len(words), 3), dtype=np.int64)
    starts = np.cumsum(widths) - widths
    for column in range(3):
        has = widths > column
        given[has, column] = values[starts[has] + column]
    before = np.array(said.seen, dtype=np.int64).reshape(-1, 3).repeat(sizes, axis=0)
    found = np.where(given < 0, before + given, given - 1)  # negative ones count back from the face's line
    if ((given < 0) & (found < 0)).any() or (found >= counts).any() or (found[:, 0] < 0).any():
        raise ValueError("a face has a vertex, texture coordinate or normal that does not exist")
    return found, sizes


def _with_surface(sizes: np.ndarray, path: Path) -> np.ndarray:
    """Which faces (P,) bool of these sizes are not points or lines; tells of those that are."""
    bare = (sizes == 1) | (sizes == 2)
    if bare.any():
        LOG.warning("%s: %d of its %d faces are points or lines: left out", path, bare.sum(), len(sizes))
    return ~bare


def _parts(
    path: Path, table: _Tables, corners: np.ndarray, material: Material, materials: _Materials
) -> list[Part]:
    """The parts of a material's faces (F, 3, 3): with and without its texture."""
    pictured = np.full(len(corners), material.picture is not None)
    pictured &= (corners[..., 1] >= 0).all(axis=1)
    parts = []
    if pictured.any():
        used = table.uv[corners[pictured][..., 1]]
        if material.clamped and not ((used >= 0) & (used <= 1)).all():
            raise InputError(
                f"{path}: the picture of material '{shown(material.name)}' does not repeat (-clamp on), but "
                "its texture coordinates leave it: bake the texture"
            )
        if table.colors is not None and (table.colors < 255).any():
            LOG.warning("%s: its texture is shown, its vertex colours are not", path)
        parts.append(table.part(corners[pictured], uv=table.uv, texture=materials.picture(material)))
    if not pictured.all():
        part = table.part(corners[~pictured], colors=table.colors)
        tint = material.color if part.colors is None else None  # the colour is then MeshLab's grey
        parts.append(replace(part, colors=tinted(part.colors, tint, len(part.vertices))))
    return parts
