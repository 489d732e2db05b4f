"""Object models: triangles with colours or textures, from PLY, OBJ, glTF, STL and OFF files.

Used by the renderer and, for vertices and diameters, by the evaluation.
"""

import itertools
import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import trimesh
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist

from picopose.rendering.mesh_formats import gltf, in_memory, mtl, obj, off, ply, stl
from picopose.rendering.mesh_formats.files_beside import FilesBeside
from picopose.rendering.mesh_formats.part import GREY, Part, check_faces, vertex_normals, without_strays
from picopose.rendering.mesh_formats.text import shown
from picopose.rendering.units import NAMES, UNITS
from picopose.utils.errors import MALFORMED, InputError

LOG = logging.getLogger(__name__)
READERS = {".ply": ply, ".obj": obj, ".glb": gltf, ".gltf": gltf, ".stl": stl, ".off": off}
# What the readers raise on damaged files.
DAMAGE = (*MALFORMED, OSError, struct.error)
MIN_DIAMETER, MAX_DIAMETER = 1e-3, 10.0  # m; a model outside this range was read in the wrong unit
MAX_TEXELS = 1 << 26  # of all textures of a mesh: 8192 x 8192 px
LARGEST = 1e15  # of coordinates, so that their squares are finite in float32; far beyond real meshes
MAX_DISTANCE = 1e4  # of a mesh from its origin, in sizes; float32's error is 0.0006 of the size there
LARGEST_UV = 1e6


_DTYPES = {
    "vertices": np.float32,
    "faces": np.int32,
    "normals": np.float32,
    "colors": np.uint8,
    "uv": np.float32,
    "texture": np.uint8,
}


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles in the object's frame; a surface colour is the vertex colour times the texture's.

    Colours left out are white where there is a texture and grey elsewhere. The texture's first row is at
    v = 1, as in OBJ and PLY files. Several textures are layers: uv then has the layer as third column,
    -1 where a vertex takes none.
    """

    vertices: np.ndarray  # (V, 3) float32, m
    faces: np.ndarray  # (F, 3) int32
    normals: np.ndarray  # (V, 3) float32, unit length; zeros where a vertex has no face
    colors: np.ndarray | None = None  # (V, 3) uint8
    uv: np.ndarray | None = None  # (V, 2) or, with layers, (V, 3) float32
    texture: np.ndarray | None = None  # (H, W, 3) or (L, H, W, 3) uint8

    def __post_init__(self):
        if (self.uv is None) != (self.texture is None):
            raise ValueError("uv and texture belong together: give both or neither")
        for name, dtype in _DTYPES.items():
            values = getattr(self, name)
            if values is not None and values.dtype != dtype:
                raise ValueError(f"{name} of a mesh must be {np.dtype(dtype).name}, not {values.dtype}")


def load_mesh(path: Path | str, *, unit: str | float | Callable[[float], float] = "mm") -> Mesh:
    """Reads a mesh file and merges the nodes of its scene.

    unit: "mm" (BOP), "cm", "m" or the metres of one unit of the file; or a function of the diameter in the
    file's unit that returns them. Textures are looked for beside the file only.
    Raises `InputError` if the file is missing, no mesh, damaged, or 1000 times too large or too small.
    """
    mesh = read_mesh(path)
    if callable(unit):
        unit = unit(diameter(mesh.vertices))
    return to_metres(mesh, unit, where=str(path))


def read_mesh(path: Path | str) -> Mesh:
    """As `load_mesh`, but with lengths in the file's own unit."""
    path = Path(path)
    return _whole(_read(path), path)


def from_trimesh(given: trimesh.Trimesh | trimesh.Scene) -> Mesh:
    """Converts a mesh or a scene of the trimesh library, with its colours and textures, in its own unit."""
    return _whole(list(in_memory.parts_of(given)), Path("mesh"))


def to_metres(mesh: Mesh, unit: str | float, *, where: str) -> Mesh:
    """A mesh given in `unit`, see `load_mesh`, in metres; `where` begins the error for an unlikely size."""
    if isinstance(unit, str) and unit not in UNITS:
        raise InputError(f"unit {unit!r}: choose one of {', '.join(UNITS)}")
    scale = UNITS[unit] if isinstance(unit, str) else unit
    if not (isinstance(scale, int | float) and 0 < scale < np.inf):
        raise InputError(f"unit {unit!r}: give metres per unit of the mesh, a positive number")
    mesh = replace(mesh, vertices=mesh.vertices * np.float32(scale))
    size = diameter(mesh.vertices)
    if not MIN_DIAMETER <= size <= MAX_DIAMETER:
        likely = "m" if size < MIN_DIAMETER else "mm"
        unit_helps = MIN_DIAMETER <= size / scale * UNITS[likely] <= MAX_DIAMETER
        raise InputError(
            f"{where} is {size:.3g} m across if a unit of it is {scale:g} m; "
            + (f"it looks like {NAMES[likely]}: give unit {likely} or " if unit_helps else "")
            + "rescale the model"
        )
    return mesh


def make_mesh(vertices: np.ndarray, faces: np.ndarray, **appearance: np.ndarray) -> Mesh:
    """A mesh from vertices (V, 3) in m and faces (F, 3), its normals averaged from the faces."""
    normals = _array(vertex_normals(vertices, faces), np.float32)
    return Mesh(_array(vertices, np.float32), _array(faces, np.int32), normals, **appearance)


def diameter(vertices: np.ndarray) -> float:
    """Largest distance between any two of the vertices (V, 3), in their unit; exact."""
    corners = hull_vertices(vertices)
    chunks = (corners[start : start + 1024] for start in range(0, len(corners), 1024))
    return max(float(cdist(chunk, corners).max()) for chunk in chunks)


def bounding_sphere(vertices: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre (3,) and radius of a sphere that holds the vertices (V, 3); the smallest one within 0.1 %.

    Badoiu and Clarkson (2003): the centre takes ever smaller steps towards the farthest vertex.
    """
    corners = hull_vertices(vertices)
    centre = (corners.min(axis=0) + corners.max(axis=0)) / 2
    for step in range(2, 1002):
        farthest = corners[np.square(corners - centre).sum(axis=1).argmax()]
        centre = centre + (farthest - centre) / step
    return centre, float(np.sqrt(np.square(corners - centre).sum(axis=1).max()))


def hull_vertices(vertices: np.ndarray) -> np.ndarray:
    """The vertices (N, 3) float64 on the convex hull; also of flat and straight sets."""
    vertices = np.unique(np.asarray(vertices, dtype=np.float64), axis=0)
    centred = vertices - vertices.mean(axis=0)
    _, extent, axes = np.linalg.svd(centred.T @ centred)
    flat = centred @ axes[extent > 1e-10 * extent[0]].T  # squared singular values: 1e-5 of the length
    if len(vertices) <= flat.shape[1] + 1:
        return vertices
    if flat.shape[1] < 2:
        return vertices[[flat[:, 0].argmin(), flat[:, 0].argmax()]] if flat.shape[1] else vertices[:1]
    return vertices[ConvexHull(flat).vertices]


def files_named(path: Path) -> list[Path]:
    """The existing files that a mesh and its materials name."""
    beside, found = FilesBeside(path), []
    listers = {suffix: reader.names for suffix, reader in READERS.items()} | {".mtl": mtl.names}
    for file in itertools.chain([path], found):  # grows as materials are read
        lister = listers.get(file.suffix.lower())
        try:
            named = lister(file.read_bytes()) if lister else []
        except DAMAGE:
            named = []  # reported by its reader
        found += [other for other in map(beside.find, named) if other not in (None, path, *found)]
    return found


def read_triangles(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) float64 in the file's unit and triangles (F, 3) int32.

    A PLY file's vertices are complete, in order and unrounded: BOP's pose errors are defined on them.
    Raises `InputError` as `load_mesh` does.
    """
    path = Path(path)
    if path.suffix.lower() == ".ply":
        parts = [part for part in _guarded(path, ply.read_surface) if len(part.faces)]
    else:
        parts = _read(path)
    if not parts:
        raise InputError(f"{path} has no faces: export the model as a triangle mesh")
    vertices, faces = _concatenated([_checked(part, path) for part in parts])
    return vertices, _array(faces, np.int32)


def _read(path: Path) -> list[Part]:
    """The parts of a file that have faces."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} is no mesh file: convert it to one of {' '.join(READERS)}")
    return [part for part in _guarded(path, reader.read) if len(part.faces)]


def _guarded(path: Path, read: Callable[[Path], list[Part]]) -> list[Part]:
    """A reader's result; an `InputError` in place of the errors that damage causes."""
    if not path.is_file():
        raise InputError(f"mesh {path} not found: check the path")
    try:
        return read(path)
    except InputError:
        raise
    except DAMAGE as error:
        lacks = "it lacks " if isinstance(error, KeyError) else ""
        reason = lacks + (shown(str(error)) or type(error).__name__)
        raise InputError(f"{path} cannot be read as a mesh ({reason}): export it again") from error


def _whole(parts: list[Part], path: Path) -> Mesh:
    """Checks parts and merges them into one mesh; `path` begins the errors."""
    if not parts:
        raise InputError(f"{path} has no faces: export the model as a triangle mesh")
    check_faces(sum(len(part.faces) for part in parts), path)
    mesh = _merge([without_strays(_checked(part, path)) for part in parts], path)
    _check_distance(mesh, path)
    return mesh


def _checked(part: Part, path: Path) -> Part:
    """The part; an `InputError` for impossible numbers."""
    if not (np.abs(part.vertices) < LARGEST).all():
        raise InputError(f"{path} has vertices that are NaN or infinite: export it again")
    if part.faces.min() < 0 or part.faces.max() >= len(part.vertices):
        raise InputError(f"{path} has faces of vertices that do not exist: export it again")
    if part.uv is not None and not (np.abs(part.uv) < LARGEST_UV).all():
        raise InputError(f"{path} has texture coordinates that are NaN or huge: export it again")
    return part


def _check_distance(mesh: Mesh, path: Path) -> None:
    """Refuses a mesh so far from its origin, as a scan in map coordinates, that float32 distorts it."""
    size, distance = np.ptp(mesh.vertices, axis=0).max(), np.abs(mesh.vertices).max()
    if distance > MAX_DISTANCE * size > 0:
        raise InputError(
            f"{path} lies {distance / size:.0f} times its size away from its origin, where single precision "
            "loses its shape: move it to the origin"
        )


def _merge(parts: list[Part], path: Path) -> Mesh:
    """One mesh of several parts, their textures stacked as layers."""
    textured = [part for part in parts if part.texture is not None]
    look = {}
    if textured:
        layers = {id(part.texture): part.texture for part in textured}
        look["uv"] = np.concatenate(_layered_uv(parts, list(layers)))
        look["texture"] = _stack_layers(list(layers.values()), path)
    if any(part.colors is not None for part in parts) or 0 < len(textured) < len(parts):
        look["colors"] = np.concatenate([vertex_colors(part) for part in parts])
    vertices, faces = _concatenated(parts)
    return Mesh(_array(vertices, np.float32), _array(faces, np.int32), _normals(parts), **look)


def _concatenated(parts: list[Part]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and faces (F, 3) of several parts."""
    offsets = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
    faces = [part.faces + offset for part, offset in zip(parts, offsets, strict=True)]
    return np.concatenate([part.vertices for part in parts]), np.concatenate(faces)


def _normals(parts: list[Part]) -> np.ndarray:
    """(V, 3) float32 unit normals: the file's if complete, else averaged from the faces."""
    given = [part.normals is not None and bool((_length(part.normals) > 1e-6).all()) for part in parts]
    lacking = [part for part, has in zip(parts, given, strict=True) if not has]
    made = vertex_normals(*_concatenated(lacking)) if lacking else np.empty((0, 3))
    pieces = iter(np.split(made, np.cumsum([len(part.vertices) for part in lacking[:-1]], dtype=int)))
    normals = [
        part.normals / _length(part.normals) if has else next(pieces)
        for part, has in zip(parts, given, strict=True)
    ]
    return _array(np.concatenate(normals), np.float32)


def _length(vectors: np.ndarray) -> np.ndarray:
    """(N, 1); NaN where a number is not finite."""
    return np.linalg.norm(np.where(np.isfinite(vectors), vectors, np.nan), axis=1, keepdims=True)


def vertex_colors(mesh: Mesh | Part) -> np.ndarray:
    """Colours (V, 3) uint8 of the vertices, with the default filled in."""
    if mesh.colors is not None:
        return mesh.colors
    return np.full((len(mesh.vertices), 3), GREY if mesh.texture is None else 255, np.uint8)


def _layered_uv(parts: list[Part], layers: list[int]) -> list[np.ndarray]:
    """uv (V, 3) of each part with its texture's layer as third column."""
    layered = []
    for part in parts:
        if part.uv is None:
            layered.append(np.tile(np.float32([0, 0, -1]), (len(part.vertices), 1)))
        else:
            layer = layers.index(id(part.texture))
            layered.append(np.column_stack([part.uv, np.full(len(part.uv), layer)]).astype(np.float32))
    return layered


def _stack_layers(textures: list[np.ndarray], path: Path) -> np.ndarray:
    """Textures (L, H, W, 3), resized to the largest one's size, or smaller to fit into memory."""
    limit = int((MAX_TEXELS / len(textures)) ** 0.5)
    largest = [max(t.shape[axis] for t in textures) for axis in (1, 0)]
    size = tuple(min(length, limit) for length in largest)
    if max(largest) > limit:
        LOG.warning("%s: its %d textures are kept at %d x %d px at most", path, len(textures), limit, limit)
    return np.stack([cv2.resize(t, size, interpolation=cv2.INTER_AREA) for t in textures])


def _array(values, dtype) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=dtype)
