"""Reads glTF 2.0 files: the nodes of the default scene with their meshes, materials and textures."""

import logging
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from picopose.rendering.mesh_formats import gltf_data
from picopose.rendering.mesh_formats.gltf_data import Document, normalised, refuse_compressed, whole
from picopose.rendering.mesh_formats.part import Part, as_bytes, check_faces, tinted, vertex_normals
from picopose.rendering.mesh_formats.text import shown
from picopose.rendering.mesh_formats.textures import Textures
from picopose.utils.errors import InputError

LOG = logging.getLogger(__name__)

_READ = ("KHR_mesh_quantization", "KHR_texture_transform", "EXT_texture_webp", "EXT_texture_avif")
_SHADING = ("KHR_materials_", "KHR_lights_", "KHR_xmp")  # prefixes; they change no shape or colour
_COMPRESSION = ("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression")
_PICTURES = ("EXT_texture_webp", "EXT_texture_avif", "KHR_texture_basisu", "MSFT_texture_dds")
_DRACO = _COMPRESSION[0]
_REPEAT, _CLAMP = 10497, 33071
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_SPECULAR = "KHR_materials_pbrSpecularGlossiness"

names = gltf_data.names


def read(path: Path) -> list[Part]:
    """The triangles of the default scene, one part per primitive, in the scene's frame."""
    document = Document(path)
    _check_extensions(document)
    if any(any(material.get("emissiveFactor", ())) for material in document.lists.get("materials", [])):
        LOG.warning("%s has emissive materials: their light is not shown", path)
    textures = Textures(path)
    shown, parts = 0, []
    for mesh, placed in _placed_meshes(document).items():
        for primitive in document.entry("meshes", mesh)["primitives"]:
            shown += len(placed) * _face_count(document, primitive)
            check_faces(shown, path)
            part = _part(document, primitive, textures)
            if part is not None:
                parts.append(copies(part, placed))
    return parts


def _check_extensions(document: Document) -> None:
    """Refuses a file that requires an unknown extension."""
    for name in map(str, document.lists.get("extensionsRequired", [])):
        if name in _COMPRESSION:
            refuse_compressed(document.path, name)
        if name in _PICTURES and name not in _READ:
            raise InputError(f"{document.path} needs {name}: convert its textures to PNG or JPEG")
        if name not in _READ and not name.startswith(_SHADING):
            raise InputError(f"{document.path} needs {shown(name)}, which is not read: export it without")


def _placed_meshes(document: Document) -> dict[int, np.ndarray]:
    """Where the default scene shows each mesh: scene from mesh (N, 4, 4), by the mesh's index."""
    nodes = document.lists.get("nodes", [])
    scene_from_node = _local_transforms(nodes)
    shown, reached = defaultdict(list), np.zeros(len(nodes), bool)
    level, above = _roots(document, nodes), None
    while len(level):
        if reached[level].any() or len(np.unique(level)) < len(level):
            raise ValueError("a node has two parents")
        reached[level] = True
        if above is not None:
            scene_from_node[level] = scene_from_node[above] @ scene_from_node[level]
        for node in level.tolist():
            if "mesh" in nodes[node]:
                _check_node(document, nodes[node])
                shown[whole(nodes[node]["mesh"])].append(node)
        children = [
            (whole(child, len(nodes)), node) for node in level for child in nodes[node].get("children", ())
        ]
        level, above = np.array(children, dtype=int).reshape(-1, 2).T
    return {mesh: scene_from_node[own] for mesh, own in shown.items()}


def _roots(document: Document, nodes: list[dict]) -> np.ndarray:
    scenes = document.lists.get("scenes", [])
    if scenes:
        given = document.entry("scenes", document.lists.get("scene", 0)).get("nodes", [])
        return np.array([whole(node, len(nodes)) for node in given], dtype=int)
    children = {child for node in nodes for child in node.get("children", ())}
    return np.array([node for node in range(len(nodes)) if node not in children], dtype=int)


def _check_node(document: Document, node: dict) -> None:
    """Refuses features that would move or deform a mesh other than by its node."""
    mesh = document.entry("meshes", node["mesh"])
    if "EXT_mesh_gpu_instancing" in node.get("extensions", {}):
        raise InputError(f"{document.path} uses EXT_mesh_gpu_instancing: export the copies as nodes")
    if "skin" in node:
        raise InputError(f"{document.path} has a mesh with a skeleton: apply its pose and export it without")
    if any(node.get("weights", mesh.get("weights", ()))):
        raise InputError(f"{document.path} has a mesh with shape keys: apply them and export it without")


def _local_transforms(nodes: list[dict]) -> np.ndarray:
    """Parent from node (N, 4, 4), from translation, rotation (x, y, z, w) and scale, or a matrix."""
    count = len(nodes)
    moves = np.array([node.get("translation", (0, 0, 0)) for node in nodes], float).reshape(count, 3)
    turns = np.array([node.get("rotation", (0, 0, 0, 1)) for node in nodes], float).reshape(count, 4)
    scales = np.array([node.get("scale", (1, 1, 1)) for node in nodes], float).reshape(count, 3)
    length = np.linalg.norm(turns, axis=1)
    if not (np.isfinite(moves).all() and np.isfinite(scales).all() and (np.abs(length - 1) < 0.05).all()):
        raise ValueError("a node's translation, rotation or scale makes no sense")
    found = np.tile(np.eye(4), (count, 1, 1))
    found[:, :3, :3] = _rotations(turns / length[:, None]) * scales[:, None]
    found[:, :3, 3] = moves
    for index, node in enumerate(nodes):
        if "matrix" in node:
            matrix = np.array(node["matrix"], float).reshape(4, 4).T
            if not np.isfinite(matrix).all() or np.abs(matrix[3] - (0, 0, 0, 1)).max() > 1e-5:
                raise ValueError("a node's matrix is no motion")
            found[index, :3] = matrix[:3]  # removes rounding errors in the last row
    return found


def _rotations(quaternions: np.ndarray) -> np.ndarray:
    """(N, 3, 3) of unit quaternions (N, 4), scalar last."""
    x, y, z, w = quaternions.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def copies(part: Part, placed: np.ndarray) -> Part:
    """One part with copies at several places (N, 4, 4)."""
    count, size = len(placed), len(part.vertices)
    if part.normals is None and count > 1:  # once for all copies
        part = replace(part, normals=vertex_normals(part.vertices, part.faces))
    turns = placed[:, :3, :3]
    vertices = part.vertices @ turns.mT + placed[:, None, :3, 3]
    faces = part.faces + size * np.arange(count)[:, None, None]
    mirrored = np.linalg.det(turns) < 0
    faces[mirrored] = faces[mirrored][..., ::-1]  # so that they still face outwards
    part = replace(part, vertices=vertices.reshape(-1, 3), faces=faces.reshape(-1, 3))
    if part.normals is not None:
        part = replace(part, normals=(part.normals @ _cofactors(turns).mT).reshape(-1, 3))
    for name in ("colors", "uv"):
        values = getattr(part, name)
        if values is not None:
            part = replace(part, **{name: np.tile(values, (count, 1))})
    return part


def _cofactors(turns: np.ndarray) -> np.ndarray:
    """Matrices (N, 3, 3) that transform normals: the inverse transpose up to a positive factor."""
    a, b, c = turns[..., 0], turns[..., 1], turns[..., 2]
    found = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], axis=-1)
    return found * np.where(np.linalg.det(turns) < 0, -1.0, 1.0)[:, None, None]


def _face_count(document: Document, primitive: dict) -> int:
    index = primitive["indices"] if "indices" in primitive else primitive["attributes"]["POSITION"]
    corners = document.count(index)
    return corners // 3 if primitive.get("mode", _TRIANGLES) == _TRIANGLES else corners


def _part(document: Document, primitive: dict, textures: Textures) -> Part | None:
    """The triangles of a primitive; None for points and lines."""
    mode, attributes = primitive.get("mode", _TRIANGLES), primitive["attributes"]
    if mode not in (_TRIANGLES, _STRIP, _FAN):
        return None
    position = document.entry("accessors", attributes["POSITION"])
    if _DRACO in primitive.get("extensions", {}) and "bufferView" not in position:
        refuse_compressed(document.path, _DRACO)
    vertices = _attribute(document, attributes["POSITION"], 3)
    if "indices" in primitive:
        corners = _attribute(document, primitive["indices"], 1)[:, 0].astype(np.int64)
    else:
        corners = np.arange(len(vertices))
    faces = _triangles(corners, mode)
    used, faces = np.unique(faces, return_inverse=True)
    if len(used) and used[-1] >= len(vertices):
        raise ValueError("a face has a vertex that does not exist")
    looks = [name for name in attributes if name in ("NORMAL", "COLOR_0") or name.startswith("TEXCOORD_")]
    columns = {name: document.accessor(attributes[name]) for name in looks}
    if any(len(columns[name]) != len(vertices) for name in columns):
        raise ValueError("a mesh has another number of positions than of its other attributes")
    columns = {name: values[used] for name, values in columns.items()}
    normals = columns.get("NORMAL")
    part = Part(vertices[used].astype(np.float64), faces.reshape(-1, 3), normals, _colors(columns))
    material = document.entry("materials", primitive["material"]) if "material" in primitive else {}
    return _painted(document, part, material, columns, textures)


def _attribute(document: Document, index: Any, width: int) -> np.ndarray:
    values = document.accessor(index)
    if values.shape[1] != width:
        raise ValueError(f"an attribute has {values.shape[1]} numbers a vertex, not {width}")
    return values


def _triangles(corners: np.ndarray, mode: int) -> np.ndarray:
    """(F, 3) vertices."""
    if mode == _TRIANGLES:
        if len(corners) % 3:
            raise ValueError(f"its triangles have {len(corners)} corners")
        return corners.reshape(-1, 3)
    if mode == _FAN:
        return np.stack([np.full(max(len(corners) - 2, 0), corners[0]), corners[1:-1], corners[2:]], axis=1)
    found = np.stack([corners[:-2], corners[1:-1], corners[2:]], axis=1)
    found[1::2] = found[1::2, [0, 2, 1]]
    return found


def _colors(columns: dict[str, np.ndarray]) -> np.ndarray | None:
    """(V, 3) uint8."""
    if "COLOR_0" not in columns:
        return None
    values = columns["COLOR_0"][:, :3]
    return as_bytes(values if values.dtype.kind == "f" else normalised(values))


def _painted(
    document: Document, part: Part, material: dict, columns: dict[str, np.ndarray], textures: Textures
) -> Part:
    """A part with its material's colour and texture times its vertex colours."""
    extensions = material.get("extensions", {})
    if _SPECULAR in extensions:
        factor, info = (extensions[_SPECULAR].get(key) for key in ("diffuseFactor", "diffuseTexture"))
    else:
        surface = material.get("pbrMetallicRoughness", {})
        factor, info = (surface.get(key) for key in ("baseColorFactor", "baseColorTexture"))
    if factor is not None:
        tint = np.array(factor, float).reshape(4)[:3]
        part = replace(part, colors=tinted(part.colors, tint, len(part.vertices)))
    if info is None:
        return part
    transform = info.get("extensions", {}).get("KHR_texture_transform", {})
    uv = columns.get(f"TEXCOORD_{whole(transform.get('texCoord', info.get('texCoord', 0)))}")
    if uv is None:
        LOG.warning("%s names a texture, but has no coordinates for it: it is not shown", document.path)
        return part
    uv = _moved(uv[:, :2].astype(np.float64), transform)
    texture = document.entry("textures", info["index"])
    uv = _within(document, uv, texture)
    return replace(part, uv=uv * [1, -1] + [0, 1], texture=_picture(document, texture, textures))


def _moved(uv: np.ndarray, transform: dict) -> np.ndarray:
    """Texture coordinates (V, 2) after KHR_texture_transform: scale, rotation, offset, with v downwards."""
    offset, scale = (
        np.array(transform.get(key, default), float).reshape(2)
        for key, default in (("offset", (0, 0)), ("scale", (1, 1)))
    )
    angle = float(transform.get("rotation", 0.0))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (uv * scale) @ turn.T + offset


def _within(document: Document, uv: np.ndarray, texture: dict) -> np.ndarray:
    """Texture coordinates (V, 2) for a repeating texture; refuses those that need another wrap mode."""
    sampler = document.entry("samplers", texture["sampler"]) if "sampler" in texture else {}
    for axis, key in enumerate(("wrapS", "wrapT")):
        wrap, values = sampler.get(key, _REPEAT), uv[:, axis]
        beyond = max(-values.min(initial=0), values.max(initial=1) - 1)
        if wrap != _REPEAT and beyond > (0.01 if wrap == _CLAMP else 0):
            raise InputError(
                f"{document.path}: texture coordinates leave a texture that does not repeat ({key}): bake it"
            )
        if wrap == _CLAMP:
            uv[:, axis] = values.clip(0, 1)
    return uv


def _picture(document: Document, texture: dict, textures: Textures) -> np.ndarray:
    """(H, W, 3) uint8; from the plain picture if there is one besides an extension's."""
    source = texture.get("source")
    for extension, content in texture.get("extensions", {}).items():
        if source is None and extension in _PICTURES:
            if extension not in _READ:
                raise InputError(f"{document.path} needs {extension}: convert its textures to PNG or JPEG")
            source = content["source"]
    image = document.entry("images", source)
    content = document.file(image["uri"]) if "uri" in image else bytes(document.view(image["bufferView"]))
    return textures.decode(content, str(image.get("name", source)))
