"""Reading PLY files, text and binary: geometry, textures, colours, and what is refused."""

import struct

import numpy as np
import pytest
import trimesh

from picopose.rendering.mesh import read_mesh, read_triangles
from picopose.utils.errors import InputError
from tests.box_files import (
    BOX,
    BOX_COLOURS,
    BOX_UV,
    COLOURS,
    FACES,
    RGB,
    SIDES,
    TRIANGLES,
    UV,
    colours_at,
    corner_uv,
    picture,
    ply_text,
    refused,
    volume,
)

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


@pytest.mark.parametrize(
    ("columns", "properties"),
    [
        (np.hstack([BOX, UV, COLOURS]), ["float s", "float t", *RGB]),
        (np.hstack([BOX, COLOURS]), [f"uchar diffuse_{name}" for name in ("red", "green", "blue")]),
        (np.hstack([BOX, COLOURS / 255]), ["float red", "float green", "float blue"]),
        (np.hstack([BOX, COLOURS * 257]), ["ushort red", "ushort green", "ushort blue"]),
    ],
)
def test_ply_vertex_colours(tmp_path, columns, properties):
    path = tmp_path / "box.ply"
    path.write_text(ply_text(columns, properties, TRIANGLES))
    mesh = read_mesh(path)
    assert mesh.texture is None and colours_at(mesh) == BOX_COLOURS


@pytest.mark.parametrize(
    ("kind", "code", "factor"),
    [
        ("uchar", "u1", 1),
        ("ushort", "<u2", 257),
        ("int", "<i4", 1),
        ("uint16", "<u2", 1),
        ("int", "<i4", 257),
        ("int64", "<i8", 1),
    ],
)
@pytest.mark.parametrize("darkest", [False, True])
def test_ply_colours_of_every_type_of_whole_numbers(tmp_path, kind, code, factor, darkest):
    """In text and in binary; tools write colours up to 255 in wider types too."""
    colors = np.arange(24).reshape(8, 3) * 10
    if darkest and factor == 1:
        colors = colors > 0  # ones, which are no fractions here
    names = [f"{kind} {name}" for name in ("red", "green", "blue")]
    path = tmp_path / "box.ply"
    text = ply_text(np.hstack([BOX, colors * factor]), names, TRIANGLES)
    rows = np.zeros(8, np.dtype([("point", "<f4", 3), ("color", code, 3)]))
    rows["point"], rows["color"] = BOX, colors * factor
    head = text[: text.index("end_header")].replace("ascii", "binary_little_endian") + "end_header\n"
    faces = b"".join(struct.pack("<B3i", 3, *face) for face in FACES)
    for content in (text.encode(), head.encode() + rows.tobytes() + faces):
        path.write_bytes(content)
        np.testing.assert_array_equal(read_mesh(path).colors, colors)


def test_ply_colours_of_faces_without_the_texture(tmp_path, caplog):
    (tmp_path / "t.png").write_bytes(picture())
    head, face = "comment TextureFile t.png", "property int texnumber"
    faces = [f"{row} {-(k >= 6)}" for k, row in enumerate(TRIANGLES)]
    path = tmp_path / "box.ply"
    path.write_text(ply_text(np.hstack([BOX, UV, COLOURS]), ["float s", "float t", *RGB], faces, head, face))
    mesh = read_mesh(path)
    bare = mesh.faces[mesh.uv[mesh.faces[:, 0], 2] < 0]
    assert len(bare) == 6
    for vertex in np.unique(bare):
        assert tuple(mesh.colors[vertex].tolist()) == BOX_COLOURS[tuple(mesh.vertices[vertex].tolist())]
    assert "its colours only where it has none" in caplog.text
    face = "\n".join([face, *(f"property {kind}" for kind in RGB)])
    faces = [f"{row} {k} 0 200" for k, row in enumerate(faces)]
    path.write_text(ply_text(np.hstack([BOX, UV]), ["float s", "float t"], faces, head, face))
    mesh = read_mesh(path)
    bare = mesh.faces[mesh.uv[mesh.faces[:, 0], 2] < 0]
    np.testing.assert_array_equal(
        np.sort(mesh.colors[bare[:, 0]], axis=0), [[k, 0, 200] for k in range(6, 12)]
    )


def test_ply_textures_in_elements_of_their_own_are_refused(tmp_path):
    """As RealityCapture writes them."""
    path = tmp_path / "box.ply"
    more = "element multi_texture_vertex 1\nproperty uchar tx\nproperty float u\nproperty float v\n"
    more += "element multi_texture_face 1\nproperty uchar tx\nproperty uint tn\n"
    more += "property list uchar uint texture_vertex_indices\nend_header"
    text = ply_text(BOX, [], TRIANGLES, "comment TextureFile t.png").replace("end_header", more)
    path.write_text(text + "0 0.5 0.5\n0 0 3 0 0 0\n")
    assert "(multi_texture_face), which is not read: export it as OBJ or GLB" in refused(path)


def test_ply_face_colours_and_normals(tmp_path):
    path = tmp_path / "box.ply"
    faces = [f"{row} {k} 0 200" for k, row in enumerate(TRIANGLES)]
    path.write_text(ply_text(BOX, [], faces, face="\n".join(f"property {kind}" for kind in RGB)))
    mesh = read_mesh(path)
    seen = np.unique(np.column_stack([mesh.colors[mesh.faces].reshape(-1, 9)]), axis=0)
    np.testing.assert_array_equal(seen, [[k, 0, 200] * 3 for k in range(12)])
    path.write_text(ply_text(np.hstack([BOX, 2 * BOX]), ["float nx", "float ny", "float nz"], TRIANGLES))
    expected = BOX / np.linalg.norm(BOX, axis=1, keepdims=True)
    np.testing.assert_allclose(read_mesh(path).normals, expected, atol=1e-6)


def test_ply_several_textures(tmp_path):
    colors = [(250, 0, 0), (0, 250, 0)]
    for name, color in zip("ab", colors, strict=True):
        (tmp_path / f"{name} 1.png").write_bytes(picture(color=color))
    head = "comment TextureFile a 1.png\ncomment TextureFile b 1.png"
    wedges = [
        f"{row} 6 {' '.join(f'{value:g}' for value in UV[face].ravel())}"
        for row, face in zip(TRIANGLES, FACES, strict=True)
    ]
    face = "property list uchar float texcoord\nproperty int texnumber"
    path = tmp_path / "box.ply"
    path.write_text(ply_text(BOX, [], [f"{row} {k % 2}" for k, row in enumerate(wedges)], head, face))
    mesh = read_mesh(path)
    assert corner_uv(mesh) == BOX_UV
    shown = mesh.texture[mesh.uv[mesh.faces[:, 0], 2].astype(int), 0, 0]
    corners = mesh.vertices[mesh.faces].reshape(-1, 9).tolist()
    by_face = {tuple(face): tuple(color) for face, color in zip(corners, shown.tolist(), strict=True)}
    assert [by_face[tuple(face)] for face in BOX[FACES].reshape(-1, 9).tolist()] == colors * 6
    path.write_text(ply_text(BOX, [], wedges, head, face.splitlines()[0]))
    assert "names 2 textures, but no face says which" in refused(path)


def binary_ply(order: str, polygons: list[list[int]], **changes) -> bytes:
    name = {"<": "little", ">": "big"}[order]
    points, count = changes.get("points", BOX), changes.get("count", len(polygons))
    head = f"ply\nformat binary_{name}_endian 1.0\nelement vertex {len(points)}\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz")
    head += f"element face {count}\nproperty uchar flag\nproperty list uchar int vertex_indices\nend_header\n"
    rows = b"".join(struct.pack(f"{order}2B{len(p)}i", 7, len(p), *p) for p in polygons)
    return head.encode() + points.astype(f"{order}f4").tobytes() + rows


@pytest.mark.parametrize("order", ["<", ">"])
def test_ply_binary_polygons(tmp_path, order):
    """A six-sided prism: its sides have four corners, top and bottom six."""
    angles = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angles), np.sin(angles), np.zeros(6)], axis=1)
    points = np.concatenate([ring, ring + np.array([0, 0, 2])])
    polygons = [
        [5, 4, 3, 2, 1, 0],
        *[[k, (k + 1) % 6, (k + 1) % 6 + 6, k + 6] for k in range(6)],
        [*range(6, 12)],
    ]
    path = tmp_path / "prism.ply"
    path.write_bytes(binary_ply(order, polygons, points=points))
    mesh = read_mesh(path)
    assert len(mesh.faces) == 20 and volume(mesh) == pytest.approx(3 * np.sqrt(3), rel=1e-5)
    np.testing.assert_array_equal(read_triangles(path)[0], points.astype("f4"))


def test_ply_strips(tmp_path):
    path = tmp_path / "strip.ply"
    corners = [0, 1, 2, 3, -1, 4, 6, 5, 7]
    text = (
        ply_text(BOX, [], []).replace("element face 0", "element tristrips 1").replace("uchar int", "int int")
    )
    path.write_text(text + f"{len(corners)} {' '.join(map(str, corners))}\n")
    vertices, faces = read_triangles(path)
    np.testing.assert_array_equal(vertices, BOX)
    np.testing.assert_array_equal(faces, [[0, 1, 2], [1, 3, 2], [4, 6, 5], [6, 7, 5]])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (binary_ply("<", SIDES.tolist(), count=7), "cut short"),
        (binary_ply("<", SIDES.tolist(), count=5), "bytes more than its header says"),
        (binary_ply("<", SIDES.tolist())[:-3], ""),
        (binary_ply("<", [*SIDES.tolist(), [0, 1]]), "fewer than three corners"),
        (binary_ply("<", [*SIDES.tolist(), [0, 1, 8]]), "does not exist"),
        (ply_text(BOX, [], TRIANGLES) + "3 0 1 2\n", "21 rows instead of 20"),
        (ply_text(BOX, [], [*TRIANGLES[:-1], "3 0 1"]), ""),
        (ply_text(BOX, [], [*TRIANGLES[:-1], "4 0 1 2"]), ""),
        (ply_text(BOX, [], [*TRIANGLES[:-1], "3 0 1 2.5"]), "not whole"),
        (ply_text(BOX, [], TRIANGLES, head="elephant vertex"), "its header has a line 'elephant vertex'"),
    ],
)
def test_ply_whose_counts_lie_is_refused(tmp_path, content, reason):
    path = tmp_path / "bad.ply"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert reason in refused(path) and "cannot be read as a mesh" in refused(path)
