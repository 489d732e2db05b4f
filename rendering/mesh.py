"""Object models: triangles with colours or textures, read from any mesh file that trimesh reads.

The renderer draws them, and the evaluation takes its vertices and diameters from here.
"""

import hashlib
import io
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import trimesh
from PIL import Image
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist
from trimesh.resolvers import FilePathResolver

from rendering.gltf import GLTF_SUFFIXES, check_gltf
from utils.errors import InputError
from utils.units import NAMES, UNITS

GREY = 180  # of models that bring no colour
SUFFIXES = (".ply", ".obj", ".glb", ".gltf", ".stl", ".off")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tga", ".tif", ".tiff", ".webp")
TEXTURE_FOLDERS = (
    ("..", "images"),
    ("..", "textures"),
    ("..", "materials"),
)  # ShapeNet, others, Gazebo (GSO)
MIN_DIAMETER, MAX_DIAMETER = 1e-3, 10.0  # m; a model outside was read in the wrong unit
MAX_TEXELS = 1 << 26  # of a mesh's textures together, as they are kept: 8192 x 8192 px
MAX_TEXELS_READ = 1 << 28  # of those in the file
MAX_FACES = 1 << 24  # of all parts together


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


def load_mesh(path: Path | str, *, unit: str | float = "mm") -> Mesh:
    """Reads a mesh file, with the nodes of a scene merged.

    unit: "mm" (BOP), "cm", "m" or the metres of one unit of the file. Textures lie beside the file only.
    Raises `InputError` for what is missing, no mesh, damaged, or 1000 times too large or too small.
    """
    return to_metres(read_mesh(path), unit, where=str(path))


def read_mesh(path: Path | str) -> Mesh:
    """The mesh as `load_mesh` reads it, but with lengths in the file's own unit, whatever that is."""
    path = Path(path)
    if path.suffix.lower() in GLTF_SUFFIXES:
        check_gltf(path)
    scene = _read(path)
    _check_size(scene, path)
    textures = Textures(path)
    parts = [_part(geometry, textures, path) for geometry in scene.dump() if _has_faces(geometry)]
    if not parts:
        raise InputError(f"{path} has no faces: export the model as a triangle mesh")
    return _merge(parts)


def to_metres(mesh: Mesh, unit: str | float, *, where: str) -> Mesh:
    """A mesh whose lengths are in `unit`, see `load_mesh`; `where` begins the error of an unlikely size."""
    if isinstance(unit, str) and unit not in UNITS:
        raise InputError(f"unit {unit!r}: choose one of {', '.join(UNITS)}")
    scale = UNITS[unit] if isinstance(unit, str) else unit
    mesh = replace(mesh, vertices=mesh.vertices * np.float32(scale))
    size = diameter(mesh.vertices)
    if not MIN_DIAMETER <= size <= MAX_DIAMETER:
        likely = "m" if size < MIN_DIAMETER else "mm"
        unit_helps = MIN_DIAMETER <= size / scale * UNITS[likely] <= MAX_DIAMETER
        raise InputError(
            f"{where} is {size:.3g} m across if a unit of it is {scale:g} m; "
            + (f"it looks like {NAMES[likely]}: pass --unit {likely} or " if unit_helps else "")
            + "rescale the model"
        )
    return mesh


def make_mesh(vertices: np.ndarray, faces: np.ndarray, **appearance: np.ndarray) -> Mesh:
    """A mesh from vertices (V, 3) in m and faces (F, 3), its normals averaged from the faces."""
    normals = trimesh.Trimesh(vertices, faces, process=False).vertex_normals
    return Mesh(
        _array(vertices, np.float32), _array(faces, np.int32), _array(normals, np.float32), **appearance
    )


def diameter(vertices: np.ndarray) -> float:
    """Largest distance between any two of the vertices (V, 3), in their unit; exact."""
    corners = hull_vertices(vertices)
    chunks = (corners[start : start + 1024] for start in range(0, len(corners), 1024))
    return max(float(cdist(chunk, corners).max()) for chunk in chunks)


def bounding_sphere(vertices: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre (3,) and radius of a sphere that holds the vertices (V, 3); the smallest one within 0.1 %.

    Badoiu and Clarkson 2003: the centre walks ever smaller steps towards the farthest vertex.
    """
    corners = hull_vertices(vertices)
    centre = (corners.min(axis=0) + corners.max(axis=0)) / 2
    for step in range(2, 1002):
        farthest = corners[np.square(corners - centre).sum(axis=1).argmax()]
        centre = centre + (farthest - centre) / step
    return centre, float(np.sqrt(np.square(corners - centre).sum(axis=1).max()))


def hull_vertices(vertices: np.ndarray) -> np.ndarray:
    """The vertices (N, 3) float64 on the convex hull; flat and straight sets are taken in their own plane."""
    vertices = np.unique(np.asarray(vertices, dtype=np.float64), axis=0)
    centred = vertices - vertices.mean(axis=0)
    _, extent, axes = np.linalg.svd(centred.T @ centred)
    flat = centred @ axes[extent > 1e-10 * extent[0]].T  # squared singular values: 1e-5 of the length
    if len(vertices) <= flat.shape[1] + 1:
        return vertices
    if flat.shape[1] < 2:
        return vertices[[flat[:, 0].argmin(), flat[:, 0].argmax()]] if flat.shape[1] else vertices[:1]
    return vertices[ConvexHull(flat).vertices]


class FilesBeside(FilePathResolver):
    """Finds what a mesh file names, in its own folder or in a texture folder beside that one, nowhere else.

    It remembers what cannot be used: trimesh itself goes on without, and the object would lose its colours.
    """

    def __init__(self, path: Path):
        super().__init__(str(path))
        self._folder = path.parent
        self.unusable: list[str] = []

    def get(self, name: str) -> bytes:
        path = self.find(name)
        if path is None:
            self.unusable.append(f"{name.strip()}, which is not beside it")
            raise FileNotFoundError(name)
        data = path.read_bytes()
        if path.suffix.lower() in IMAGE_SUFFIXES:
            try:
                Image.open(io.BytesIO(data)).verify()
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                self.unusable.append(f"{name.strip()}, which cannot be read ({error})")
                raise
        return data

    def find(self, name: str) -> Path | None:
        """The file that a mesh names; None if it is not there."""
        name = name.strip().replace("\\", "/")
        base = Path(name).name
        for candidate in (name, base, f"../materials/textures/{base}"):
            parts = Path(os.path.normpath(candidate)).parts
            inside = parts[:1] not in ((), ("..",), ("/",))
            if (inside or parts[:2] in TEXTURE_FOLDERS) and self._folder.joinpath(*parts).is_file():
                return self._folder.joinpath(*parts)
        return None


def _read(path: Path) -> trimesh.Scene:
    if not path.is_file():
        raise InputError(f"mesh {path} not found: check the path")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} is no mesh file: convert it to one of {' '.join(SUFFIXES)}")
    logging.getLogger("trimesh").setLevel(logging.CRITICAL)  # what it logs is told by the errors here
    files = FilesBeside(path)
    try:
        scene = trimesh.load_scene(path, resolver=files, process=False, allow_remote=False)
    except Exception as error:  # trimesh's readers raise whatever a damaged file leads them to
        reason = files.unusable[0] if files.unusable else " ".join(str(error).split())[:120]
        raise InputError(f"{path} cannot be read as a mesh ({reason}): export it again") from error
    if files.unusable:
        raise InputError(f"{path} names {files.unusable[0]}: put that file there or remove its name")
    return scene


def _check_size(scene: trimesh.Scene, path: Path) -> None:
    """Refuses a file whose few parts, shown many times over, would not fit into memory."""
    shown = (scene.geometry[scene.graph[node][1]] for node in scene.graph.nodes_geometry)
    count = sum(len(part.faces) for part in shown if isinstance(part, trimesh.Trimesh))
    if count > MAX_FACES:
        raise InputError(f"{path} has {count / 1e6:.0f} million faces: simplify the model")


class Textures:
    """The textures of a file's parts, equal ones kept once, however many parts show them."""

    def __init__(self, path: Path):
        self._path = path
        self._known: dict[bytes, np.ndarray] = {}

    def get(self, image: Image.Image) -> np.ndarray:
        """(H, W, 3) uint8, the same array for equal pictures."""
        self._check_room(image.width * image.height)  # before it is decoded
        try:
            texture = np.array(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(
                f"the texture of {self._path} cannot be read ({error}): export it again"
            ) from error
        key = hashlib.sha256(repr(texture.shape).encode() + texture.tobytes()).digest()
        found = self._known.setdefault(key, texture)
        self._check_room(sum(known.size // 3 for known in self._known.values()))
        return found

    def _check_room(self, texels: int) -> None:
        if texels > MAX_TEXELS_READ:
            millions = MAX_TEXELS_READ >> 20
            raise InputError(f"the textures of {self._path} have over {millions} million pixels: shrink them")


def _has_faces(geometry: trimesh.parent.Geometry) -> bool:
    return isinstance(geometry, trimesh.Trimesh) and len(geometry.faces) > 0


def _part(geometry: trimesh.Trimesh, textures: Textures, path: Path) -> Mesh:
    """One geometry of a scene, in the unit of the file."""
    if not np.isfinite(geometry.vertices).all():
        raise InputError(f"{path} has vertices that are NaN or infinite: export it again")
    if geometry.faces.min() < 0 or geometry.faces.max() >= len(geometry.vertices):
        raise InputError(f"{path} has faces of vertices that do not exist: export it again")
    visual = geometry.visual
    if visual.kind == "face":  # every face gets vertices of its own
        vertices = geometry.vertices[geometry.faces].reshape(-1, 3)
        faces = np.arange(len(vertices)).reshape(-1, 3)
        return make_mesh(
            vertices, faces, colors=_array(visual.face_colors[:, :3], np.uint8).repeat(3, axis=0)
        )
    normals = np.nan_to_num(geometry.vertex_normals)
    normals = normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)
    return Mesh(
        _array(geometry.vertices, np.float32),
        _array(geometry.faces, np.int32),
        _array(normals, np.float32),
        **_appearance(visual, len(geometry.vertices), textures),
    )


def _appearance(visual, count: int, textures: Textures) -> dict[str, np.ndarray]:
    """The colours and the texture of one geometry, as keywords of `Mesh`."""
    if visual.kind == "vertex":
        return {"colors": _array(visual.vertex_colors[:, :3], np.uint8)}
    material = getattr(visual, "material", None)
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    uv = getattr(visual, "uv", None)
    if uv is not None and len(uv) == count and image is not None:
        look = {"uv": _array(uv, np.float32), "texture": textures.get(image)}
        factor = getattr(material, "baseColorFactor", None)
    else:
        look, factor = {}, getattr(material, "main_color", None)
    if factor is not None:
        look["colors"] = np.tile(_array(factor[:3], np.uint8), (count, 1))
    return look


def _merge(parts: list[Mesh]) -> Mesh:
    """One mesh of several, their textures stacked as layers."""
    offsets = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
    textured = [part for part in parts if part.texture is not None]
    look = {}
    if textured:
        layers = {id(part.texture): part.texture for part in textured}
        look["uv"] = np.concatenate(_layered_uv(parts, list(layers)))
        look["texture"] = _stack_layers(list(layers.values()))
    if any(part.colors is not None for part in parts) or 0 < len(textured) < len(parts):
        look["colors"] = np.concatenate([vertex_colors(part) for part in parts])
    return Mesh(
        vertices=np.concatenate([part.vertices for part in parts]),
        faces=np.concatenate(
            [part.faces + np.int32(offset) for part, offset in zip(parts, offsets, strict=True)]
        ),
        normals=np.concatenate([part.normals for part in parts]),
        **look,
    )


def vertex_colors(mesh: Mesh) -> np.ndarray:
    """Colours (V, 3) uint8 of a mesh's vertices, with the default filled in."""
    if mesh.colors is not None:
        return mesh.colors
    return np.full((len(mesh.vertices), 3), GREY if mesh.texture is None else 255, np.uint8)


def _layered_uv(parts: list[Mesh], layers: list[int]) -> list[np.ndarray]:
    """uv (V, 3) of each part, its layer, by the texture's identity, as the third column."""
    layered = []
    for part in parts:
        if part.uv is None:
            layered.append(np.tile(np.float32([0, 0, -1]), (len(part.vertices), 1)))
        else:
            layer = layers.index(id(part.texture))
            layered.append(np.column_stack([part.uv, np.full(len(part.uv), layer, np.float32)]))
    return layered


def _stack_layers(textures: list[np.ndarray]) -> np.ndarray:
    """Textures (L, H, W, 3): brought to the largest one's size, or less where memory would not hold them."""
    limit = int((MAX_TEXELS / len(textures)) ** 0.5)
    size = tuple(min(max(t.shape[axis] for t in textures), limit) for axis in (1, 0))
    return np.stack([cv2.resize(t, size, interpolation=cv2.INTER_AREA) for t in textures])


def _array(values, dtype) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=dtype)
