"""Readers of meshes: a box of 100 x 60 x 40 mm with colours or a texture, in each format."""

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from picopose.rendering.mesh import MAX_DIAMETER, MIN_DIAMETER, Mesh, diameter, load_mesh
from tests.mutated.soundness import finite, sound
from tests.mutation_cases import Reader
from tests.small_bop import dump, photo

CORNERS = np.array([[x, y, z] for x in (-50, 50) for y in (-30, 30) for z in (-20, 20)], np.float32)
SIDES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
FACES = np.array([[side[0], side[k], side[k + 1]] for side in SIDES for k in (1, 2)], np.int32)
NORMALS = np.array([[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]], np.float32)
UV = np.array([[k / 8, 1 - k / 8] for k in range(8)], np.float32)
COLOURS = np.array([[30 * k, 255 - 30 * k, 100] for k in range(8)], np.uint8)


def rows(*tables: np.ndarray, before: str = "") -> str:
    """Lines of text, the numbers of several tables side by side."""
    return "".join(
        before + " ".join(f"{value:g}" for table in tables for value in table[k]) + "\n"
        for k in range(len(tables[0]))
    )


def texture() -> bytes:
    out = io.BytesIO()
    Image.fromarray(photo(3)[:16, :16]).save(out, "png")
    return out.getvalue()


def ply_header(form: str, columns: str, comment: str = "") -> str:
    properties = "".join(f"property {column}\n" for column in columns.split(", "))
    return (
        f"ply\nformat {form} 1.0\n{comment}element vertex 8\n{properties}element face 12\n"
        "property list uchar int vertex_indices\nend_header\n"
    )


POINTS = "float x, float y, float z"
TINTS = "uchar red, uchar green, uchar blue"
TRIPLES = np.column_stack([np.full(12, 3), FACES])


def write_ply_text(folder: Path) -> None:
    header = ply_header("ascii", f"{POINTS}, {TINTS}")
    (folder / "mesh.ply").write_text(header + rows(CORNERS, COLOURS) + rows(TRIPLES))


def write_ply_binary(folder: Path) -> None:
    header = ply_header("binary_little_endian", f"{POINTS}, {TINTS}")
    vertices = b"".join(struct.pack("<3f3B", *CORNERS[k], *COLOURS[k]) for k in range(8))
    faces = b"".join(struct.pack("<B3i", 3, *face) for face in FACES)
    (folder / "mesh.ply").write_bytes(header.encode() + vertices + faces)


def write_ply_texture(folder: Path) -> None:
    header = ply_header("ascii", f"{POINTS}, float s, float t", "comment TextureFile look.png\n")
    (folder / "mesh.ply").write_text(header + rows(CORNERS, UV) + rows(TRIPLES))
    (folder / "look.png").write_bytes(texture())


def write_obj(folder: Path) -> None:
    corners = rows(CORNERS, before="v ") + rows(UV, before="vt ")
    names = ["f " + " ".join(f"{i + 1}/{i + 1}" for i in face) for face in FACES]
    (folder / "mesh.obj").write_text(
        "mtllib look.mtl\n"
        + corners
        + "usemtl one\n"
        + "\n".join(names[:6])
        + "\nusemtl two\n"
        + "\n".join(names[6:])
    )
    (folder / "look.mtl").write_text(
        "newmtl one\nKd 0.8 0.8 0.8\nmap_Kd look.png\n\nnewmtl two\nKd 0.2 0.4 0.6\n"
    )
    (folder / "look.png").write_bytes(texture())


def write_off(folder: Path) -> None:
    (folder / "mesh.off").write_text("OFF\n8 12 0\n" + rows(CORNERS) + rows(TRIPLES))


def write_stl_binary(folder: Path) -> None:
    triangles = b"".join(struct.pack("<12fH", 0, 0, 1, *CORNERS[face].ravel(), 0) for face in FACES)
    (folder / "mesh.stl").write_bytes(b"a box".ljust(80) + struct.pack("<I", 12) + triangles)


def write_stl_text(folder: Path) -> None:
    corners = [f"outer loop\n{rows(CORNERS[face], before='vertex ')}endloop\n" for face in FACES]
    facets = "".join(f"facet normal 0 0 1\n{corner}endfacet\n" for corner in corners)
    (folder / "mesh.stl").write_text(f"solid box\n{facets}endsolid box\n")


def gltf(views: list[bytes], buffer: dict, image: dict) -> dict:
    """The lists of a glTF file of two nodes, whose views are vertices, uv, faces and perhaps the texture."""
    starts = np.cumsum([0] + [len(view) for view in views]).tolist()
    low, high = CORNERS.min(axis=0).tolist(), CORNERS.max(axis=0).tolist()
    return {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [
            {"mesh": 0, "scale": [1, 1, 1], "children": [1]},
            {"mesh": 0, "translation": [0, 0, 60], "rotation": [0, 0, 0, 1]},
        ],
        "meshes": [
            {"primitives": [{"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "indices": 2, "material": 0}]}
        ],
        "materials": [
            {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "baseColorFactor": [1, 0.9, 0.8, 1]}}
        ],
        "textures": [{"source": 0, "sampler": 0}],
        "samplers": [{"wrapS": 10497, "wrapT": 10497}],
        "images": [image],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 8, "type": "VEC3", "min": low, "max": high},
            {"bufferView": 1, "componentType": 5126, "count": 8, "type": "VEC2"},
            {"bufferView": 2, "componentType": 5123, "count": 36, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": start, "byteLength": len(view)}
            for start, view in zip(starts, views, strict=False)
        ],
        "buffers": [buffer | {"byteLength": starts[-1]}],
    }


GLTF_VIEWS = [CORNERS.tobytes(), UV.tobytes(), FACES.astype(np.uint16).tobytes()]


def write_gltf(folder: Path) -> None:
    dump(folder / "mesh.gltf", gltf(GLTF_VIEWS, {"uri": "mesh.bin"}, {"uri": "look.png"}))
    (folder / "mesh.bin").write_bytes(b"".join(GLTF_VIEWS))
    (folder / "look.png").write_bytes(texture())


def write_glb(folder: Path) -> None:
    picture = texture()
    views = [*GLTF_VIEWS, picture + bytes(-len(picture) % 4)]
    lists = gltf(views, {}, {"bufferView": 3, "mimeType": "image/png"})
    (folder / "mesh.glb").write_bytes(glb(lists, b"".join(views)))


def glb(lists: dict, body: bytes) -> bytes:
    text = json.dumps(lists).encode()
    text += b" " * (-len(text) % 4)
    header = struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + len(body), len(text), 0x4E4F534A)
    return header + text + struct.pack("<II", len(body), 0x004E4942) + body


def write_ply_polygons(folder: Path) -> None:
    """Big-endian, with four-sided faces that have colours, and an element that nobody reads."""
    header = (
        "ply\nformat binary_big_endian 1.0\nelement vertex 8\nproperty double x\nproperty double y\n"
        "property double z\nproperty float nx\nproperty float ny\nproperty float nz\nelement camera 1\n"
        "property list ushort float values\nelement face 7\nproperty list uchar uint vertex_index\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n"
    )
    vertices = b"".join(struct.pack(">3d3f", *corner, 0, 0, 1) for corner in CORNERS.tolist())
    other = struct.pack(">H2f", 2, 0.5, 1.5)
    sides = [*SIDES[:5], *FACES[10:].tolist()]
    faces = [struct.pack(f">B{len(side)}I3B", len(side), *side, 10, 20, 200) for side in sides]
    (folder / "mesh.ply").write_bytes(header.encode() + vertices + other + b"".join(faces))


def write_obj_relative(folder: Path) -> None:
    """Faces that count backwards, with normals; colours at the vertices, libraries, a map with an option."""
    corners = rows(CORNERS, COLOURS / 255, before="v ") + rows(UV, before="vt ") + rows(NORMALS, before="vn ")
    named = ["f " + " ".join(f"{i - 8}/{i - 8}/{k - 6}" for i in side) for k, side in enumerate(SIDES)]
    plain = ["f " + " ".join(f"{i + 1}//1" for i in side) for side in SIDES[4:]]
    lines = [
        "mtllib one.mtl",
        "mtllib two.mtl",
        "o box",
        corners + "usemtl one",
        *named[:4],
        "usemtl two",
        *plain,
    ]
    (folder / "mesh.obj").write_text("\n".join(lines) + "\n")
    (folder / "one.mtl").write_text("newmtl one\nKd 1 1 1\nmap_Kd -blendu on -o 0 0 0 look.png\n")
    (folder / "two.mtl").write_text("newmtl two\nKd 0.2 0.4 0.6\nd 1\n")
    (folder / "look.png").write_bytes(texture())


def write_coff(folder: Path) -> None:
    faces = "".join(f"4 {' '.join(map(str, side))} 0.5 0.25 1.0\n" for side in SIDES)
    colours = np.column_stack([COLOURS, np.full(8, 255)])
    (folder / "mesh.off").write_text("COFF\n# a box\n8 6 0\n" + rows(CORNERS, colours) + faces)


def write_glb_packed(folder: Path) -> None:
    """Quantised vertices beside each other, sparse ones, a strip, colours and a texture that is turned."""
    picture = texture()
    points = np.zeros((8, 10), np.int16)  # x, y, z, -; u, v; r, g, b, a in the bytes of two
    points[:, :3] = np.round(CORNERS / 50 * 32767)
    points[:, 4:6] = np.round(UV * 65535).astype(np.uint16).view(np.int16)
    tints = np.column_stack([COLOURS, np.full(8, 255, np.uint8)])
    points[:, 6:8] = np.ascontiguousarray(tints).view(np.int16)
    strip = np.array([0, 1, 2, 3, 6, 7, 4, 5, 0, 1, 3], np.uint16)
    moved = np.array([1.2, 0.2, 0.1], np.float32).tobytes()
    views = [points.tobytes(), FACES.astype(np.uint32).tobytes(), strip.tobytes() + bytes(2)]
    views += [b"\0" * 4, moved, (CORNERS / 50).tobytes(), picture + bytes(-len(picture) % 4)]
    starts = np.cumsum([0] + [len(view) for view in views]).tolist()
    turned = {"KHR_texture_transform": {"offset": [0.1, 0.2], "rotation": 0.5, "scale": [2, 2]}}
    parts = [
        {"attributes": {"POSITION": 0, "TEXCOORD_0": 1, "COLOR_0": 2}, "indices": 3, "material": 0},
        {"attributes": {"POSITION": 5}, "indices": 4, "mode": 5},
    ]
    sparse = {"count": 1, "indices": {"bufferView": 3, "componentType": 5125}, "values": {"bufferView": 4}}
    short, packed = {"bufferView": 0, "count": 8, "normalized": True}, ["KHR_mesh_quantization"]
    matrix = np.diag([50.0, 50, 50, 1]).ravel().tolist()
    lists = {
        "asset": {"version": "2.0"},
        "extensionsUsed": [*packed, "KHR_texture_transform"],
        "extensionsRequired": packed,
        "nodes": [{"children": [1, 2]}, {"mesh": 0, "matrix": matrix}, {"mesh": 0, "scale": [9, 9, 9]}],
        "scenes": [{"nodes": [0]}],
        "meshes": [{"primitives": parts}],
        "materials": [
            {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0, "texCoord": 0, "extensions": turned}}}
        ],
        "textures": [{"source": 0}],
        "images": [{"bufferView": 6, "mimeType": "image/png"}],
        "accessors": [
            short | {"componentType": 5122, "type": "VEC3", "min": [-32767] * 3, "max": [32767] * 3},
            short | {"byteOffset": 8, "componentType": 5123, "type": "VEC2"},
            short | {"byteOffset": 12, "componentType": 5121, "type": "VEC4"},
            {"bufferView": 1, "componentType": 5125, "count": 36, "type": "SCALAR"},
            {"bufferView": 2, "componentType": 5123, "count": 11, "type": "SCALAR"},
            {"bufferView": 5, "componentType": 5126, "count": 8, "type": "VEC3", "sparse": sparse},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": start, "byteLength": len(view)}
            | ({"byteStride": 20} if k == 0 else {})
            for k, (start, view) in enumerate(zip(starts, views, strict=False))
        ],
        "buffers": [{"byteLength": starts[-1]}],
    }
    (folder / "mesh.glb").write_bytes(glb(lists, b"".join(views)))


def read_any_mesh(folder: Path) -> Mesh:
    return load_mesh(next(folder.glob("mesh.[pogs][lfbt]*")))


def check_mesh(mesh: Mesh) -> None:
    sound(
        len(mesh.faces) and mesh.faces.min() >= 0 and mesh.faces.max() < len(mesh.vertices),
        "faces of no vertices",
    )
    sound(finite(mesh.vertices, mesh.normals), "vertices or normals that are not finite")
    lengths = np.linalg.norm(mesh.normals, axis=1)
    sound(((lengths < 1e-6) | (np.abs(lengths - 1) < 1e-3)).all(), "normals that are not of length 1")
    sound(MIN_DIAMETER <= diameter(mesh.vertices) <= MAX_DIAMETER, "a diameter that cannot be")
    sound(mesh.colors is None or mesh.colors.shape == mesh.vertices.shape, "not a colour for each vertex")
    if mesh.uv is not None:
        sound(
            len(mesh.uv) == len(mesh.vertices) and finite(mesh.uv), "texture coordinates that are not finite"
        )
        sound(mesh.texture.size > 0 and mesh.texture.shape[-1] == 3, "an empty texture")


def mesh(write: Callable[[Path], None], *files: tuple[str, str], whole: bool = True) -> Reader:
    return Reader(write, read_any_mesh, check_mesh, files, whole)


READERS: dict[str, Reader] = {
    "mesh-ply-text": mesh(write_ply_text, ("mesh.ply", "text")),
    "mesh-ply-binary": mesh(write_ply_binary, ("mesh.ply", "headed")),
    "mesh-ply-texture": mesh(write_ply_texture, ("mesh.ply", "text"), ("look.png", "png")),
    "mesh-obj": mesh(write_obj, ("mesh.obj", "text"), ("look.mtl", "text"), ("look.png", "png"), whole=False),
    "mesh-ply-polygons": mesh(write_ply_polygons, ("mesh.ply", "headed")),
    "mesh-obj-relative": mesh(
        write_obj_relative,
        ("mesh.obj", "text"),
        ("mesh.obj", "text"),
        ("one.mtl", "text"),
        ("two.mtl", "text"),
        whole=False,
    ),
    "mesh-off-colours": mesh(write_coff, ("mesh.off", "text")),
    "mesh-glb-packed": mesh(write_glb_packed, ("mesh.glb", "glb")),
    "mesh-glb": mesh(write_glb, ("mesh.glb", "glb")),
    "mesh-gltf": mesh(write_gltf, ("mesh.gltf", "json"), ("mesh.bin", "binary"), ("look.png", "png")),
    "mesh-stl-text": mesh(write_stl_text, ("mesh.stl", "text"), whole=False),
    "mesh-stl-binary": mesh(write_stl_binary, ("mesh.stl", "binary")),
    "mesh-off": mesh(write_off, ("mesh.off", "text")),
}
