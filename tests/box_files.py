"""A box written in several mesh formats, for tests of the readers."""

import io
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from picopose.rendering.mesh import Mesh, read_mesh
from picopose.utils.errors import InputError

# A box of 90 x 60 x 140, its corners in the order of their bits, and its sides, seen from outside.
BOX = np.array([[x, y, z] for z in (-70, 70) for y in (-30, 30) for x in (-45, 45)], float)
SIDES = np.array([[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5]])
FACES = np.concatenate([SIDES[:, [0, 1, 2]], SIDES[:, [0, 2, 3]]])
COLOURS = np.array([[x, y, z] for z in (0, 255) for y in (0, 255) for x in (0, 255)])
UV = np.array([[(x + 45) / 90, (z + 70) / 140] for x, _, z in BOX])
SIZE = (90, 60, 140)


def size(mesh: Mesh) -> np.ndarray:
    return np.ptp(mesh.vertices, axis=0)


def volume(mesh: Mesh) -> float:
    """Positive where the faces look outwards."""
    return float(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).volume)


def corner_uv(mesh: Mesh) -> dict[tuple, tuple]:
    """Texture coordinates by position."""
    return {
        tuple(v): tuple(uv) for v, uv in zip(mesh.vertices.tolist(), mesh.uv[:, :2].tolist(), strict=True)
    }


def colours_at(mesh: Mesh) -> dict[tuple, tuple]:
    return {tuple(v): tuple(c) for v, c in zip(mesh.vertices.tolist(), mesh.colors.tolist(), strict=True)}


BOX_UV = {tuple(v): tuple(uv) for v, uv in zip(BOX.tolist(), UV.tolist(), strict=True)}
BOX_COLOURS = {tuple(v): tuple(c) for v, c in zip(BOX.tolist(), COLOURS.tolist(), strict=True)}


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_mesh(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def picture(kind: str = "PNG", color: tuple = (200, 100, 50)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(file, kind)
    return file.getvalue()


def obj_lines(vertices: np.ndarray = BOX, faces: list[str] | None = None) -> str:
    faces = faces or [" ".join(str(k + 1) for k in side) for side in SIDES]
    lines = [f"v {' '.join(f'{value:g}' for value in row)}" for row in vertices]
    return "\n".join([*lines, *(f"f {face}" for face in faces)]) + "\n"


def textured_obj(
    folder: Path, *, mtl: str = "newmtl a\nmap_Kd t.png\n", head: str = "mtllib a.mtl\n"
) -> Path:
    (folder / "t.png").write_bytes(picture())
    (folder / "a.mtl").write_text(mtl)
    uv = "".join(f"vt {u} {v}\n" for u, v in UV)
    faces = [" ".join(f"{k + 1}/{k + 1}" for k in side) for side in SIDES]
    path = folder / "box.obj"
    path.write_text(head + "usemtl a\n" + uv + obj_lines(faces=faces))
    return path


def ply_text(
    columns: np.ndarray, properties: list[str], faces: list[str], head: str = "", face: str = ""
) -> str:
    lines = ["ply", "format ascii 1.0", *head.splitlines(), f"element vertex {len(columns)}"]
    lines += [f"property {kind}" for kind in ("float x", "float y", "float z", *properties)]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", *face.splitlines()]
    rows = [" ".join(f"{value:g}" for value in row) for row in columns]
    return "\n".join([*lines, "end_header", *rows, *faces]) + "\n"


TRIANGLES = [f"3 {a} {b} {c}" for a, b, c in FACES]
RGB = ["uchar red", "uchar green", "uchar blue"]


def off_text(
    head: str, columns: np.ndarray, faces: list[str] | None = None, counts: str | None = None
) -> str:
    faces = faces or [f"4 {' '.join(map(str, side))}" for side in SIDES]
    rows = [" ".join(f"{value:g}" for value in row) for row in columns]
    return (
        "\n".join([f"{head}{counts or f'{len(columns)} {len(faces)} 0'}", "# made by hand", *rows, *faces])
        + "\n"
    )
