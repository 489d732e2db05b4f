"""PLY files are read exactly as they are spelt, or refused."""

import struct

import numpy as np
import pytest
import trimesh

from picopose.rendering.mesh import read_triangles
from picopose.utils.errors import InputError

TEXT = """ply
format ascii 1.0
comment made by hand
element vertex 4
property float x
property float y
property float z
property uchar red
element face 2
property list uchar int vertex_indices
property list uchar float texcoord
end_header
0.1 0.2 0.3 255
0.1 0.2 0.3 1
-5.4791e1 0 12345678.9 0
1 2 3 7
3 0 1 2 6 0 0 .5 .5 1 1
3 2 1 3 6 0 0 .5 .5 1 1
"""


def test_ascii_coordinates_are_doubles_and_no_vertex_is_merged(tmp_path):
    path = tmp_path / "a.ply"
    path.write_text(TEXT)
    vertices, faces = read_triangles(path)
    np.testing.assert_array_equal(
        vertices, [[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [-54.791, 0, 12345678.9], [1, 2, 3]]
    )
    np.testing.assert_array_equal(faces, [[0, 1, 2], [2, 1, 3]])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["float", "double"])
def test_binary(tmp_path, order, kind):
    rng = np.random.default_rng(0)
    points = rng.normal(0, 50, (30, 3)).astype(np.float32 if kind == "float" else np.float64)
    triangles = rng.integers(0, 30, (50, 3))
    code, name = kind[0], {"<": "little", ">": "big"}[order]
    head = f"""ply
format binary_{name}_endian 1.0
element vertex 30
property {kind} x
property {kind} y
property {kind} z
property short flag
element face 50
property list uchar uint vertex_index
property uchar red
end_header
"""
    body = b"".join(struct.pack(f"{order}3{code}h", *point, 5) for point in points.tolist())
    body += b"".join(struct.pack(f"{order}B3IB", 3, *face, 9) for face in triangles.tolist())
    path = tmp_path / "b.ply"
    path.write_bytes(head.encode() + body)
    vertices, faces = read_triangles(path)
    assert vertices.dtype == np.float64
    np.testing.assert_array_equal(vertices, points)
    np.testing.assert_array_equal(faces, triangles)


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_agrees_with_trimesh(tmp_path, encoding):
    mesh = trimesh.creation.icosphere(subdivisions=2, radius=40)
    path = tmp_path / "c.ply"
    mesh.export(path, encoding=encoding)
    vertices, faces = read_triangles(path)
    np.testing.assert_allclose(vertices, mesh.vertices, atol=1e-5)
    np.testing.assert_array_equal(faces, mesh.faces)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ply\n", "plx\n"),
        ("format ascii 1.0\n", ""),
        ("end_header\n", ""),
        ("element vertex 4", "element vertex 5"),
        ("element vertex 4", "element vertex 99999999999999"),
        ("property float y", "property half y"),
        ("property float z", "property float w"),
        ("3 2 1 3 6", "3 2 1 4 6"),  # a vertex that does not exist
        ("3 0 1 2 6", "3 -1 1 2 6"),
        ("3 2 1 3 6", "4 2 1 3 6"),
        ("3 2 1 3 6 0 0 .5 .5 1 1\n", ""),  # truncated
        ("1 2 3 7", "1 2 x 7"),
        ("1 2 3 7", "1 nan 3 7"),
        ("element face 2\n", "element edge 2\n"),
    ],
)
def test_damaged_files_are_refused(tmp_path, old, new):
    assert old in TEXT
    path = tmp_path / "bad.ply"
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(
        InputError, match=r"bad\.ply (cannot be read as a mesh|has no faces|has vertices that)"
    ):
        read_triangles(path)


def test_truncated_binary_and_missing_files_are_refused(tmp_path):
    mesh = trimesh.creation.icosphere(subdivisions=1)
    path = tmp_path / "cut.ply"
    mesh.export(path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(
        InputError, match=r"cut\.ply (cannot be read as a mesh|has no faces|has vertices that)"
    ):
        read_triangles(path)
    with pytest.raises(InputError, match=r"none\.ply not found"):
        read_triangles(tmp_path / "none.ply")
