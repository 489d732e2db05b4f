"""Writes meshes as binary PLY files."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from picopose.rendering.mesh import Mesh, vertex_colors
from picopose.utils.files import write_atomically

MM = 1000.0  # in a metre

Property = tuple[str, str, np.ndarray]  # name, type as NumPy spells it, values (V,)


def write_ply(path: Path, mesh: Mesh, *, look: bool = True, scale: float = MM) -> None:
    """Writes a mesh with normals and vertex colours, or one PNG texture beside it; or its form only.

    scale: units of the file in a metre; BOP's files are in mm.
    """
    textured = look and mesh.texture is not None
    if textured:
        with write_atomically(path.with_suffix(".png")) as image:
            cv2.imwrite(str(image), mesh.texture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    properties = list(_place(mesh, scale)) + (list(_look(mesh)) if look else [])
    rows = np.zeros(len(mesh.vertices), [(name, kind) for name, kind, _ in properties])
    for name, _, values in properties:
        rows[name] = values
    triangles = np.zeros(len(mesh.faces), [("n", "u1"), ("corners", "<i4", 3)])
    triangles["n"], triangles["corners"] = 3, mesh.faces
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *([f"comment TextureFile {path.stem}.png"] if textured else []),
        f"element vertex {len(rows)}",
        *(f"property {'uchar' if kind == 'u1' else 'float'} {name}" for name, kind, _ in properties),
        f"element face {len(triangles)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    with write_atomically(path) as file:
        file.write_bytes("\n".join(header).encode("ascii") + rows.tobytes() + triangles.tobytes())


def _place(mesh: Mesh, scale: float) -> Iterator[Property]:
    vertices = mesh.vertices.astype(np.float64) * scale
    return ((name, "<f4", values) for name, values in zip("xyz", vertices.T, strict=True))


def _look(mesh: Mesh) -> Iterator[Property]:
    for name, values in zip(("nx", "ny", "nz"), mesh.normals.T, strict=True):
        yield name, "<f4", values
    if mesh.texture is not None:
        for name, values in zip(("texture_u", "texture_v"), mesh.uv.T, strict=True):
            yield name, "<f4", values
    else:
        for name, values in zip(("red", "green", "blue"), vertex_colors(mesh).T, strict=True):
            yield name, "u1", values
