"""Reading OBJ files and their MTL files: geometry, textures, colours, and what is refused."""

import time

import numpy as np
import pytest

from picopose.rendering import mesh as meshes
from picopose.rendering.mesh import read_mesh
from picopose.utils.errors import InputError
from tests.box_files import (
    BOX,
    BOX_COLOURS,
    BOX_UV,
    COLOURS,
    SIDES,
    SIZE,
    colours_at,
    corner_uv,
    obj_lines,
    refused,
    size,
    textured_obj,
    volume,
)


def test_obj_relative_indices_count_back_from_their_line(tmp_path):
    second = BOX * 0.4 + [0, 0, 120]
    path = tmp_path / "parts.obj"
    sides = [" ".join(str(k - 8) for k in side) for side in SIDES]
    path.write_text(obj_lines(BOX, sides) + obj_lines(second, sides))
    mesh = read_mesh(path)
    np.testing.assert_allclose(mesh.vertices, np.concatenate([BOX, second]), atol=1e-5)
    assert volume(mesh) == pytest.approx(1.064 * np.prod(SIZE), rel=1e-5)
    path.write_text(obj_lines(BOX, ["-1 -2 -9"]))
    assert "does not exist" in refused(path)


@pytest.mark.parametrize("scale", [1, 255])
def test_obj_vertex_colours_beside_a_material(tmp_path, scale):
    (tmp_path / "a.mtl").write_text("newmtl a\nKd 0.75 0.75 0.75\n")
    path = tmp_path / "box.obj"
    path.write_text("mtllib a.mtl\nusemtl a\n" + obj_lines(np.hstack([BOX, COLOURS / 255 * scale])))
    assert colours_at(read_mesh(path)) == BOX_COLOURS


def test_obj_colours_of_some_vertices(tmp_path):
    path = tmp_path / "box.obj"
    lines = obj_lines(np.hstack([BOX, COLOURS / 255])).splitlines()
    lines[0] = "v -45 -30 -70"
    path.write_text("\n".join(lines))
    assert colours_at(read_mesh(path)) == BOX_COLOURS | {(-45.0, -30.0, -70.0): (180, 180, 180)}


def test_obj_faces_without_texture_coordinates_leave_the_others_theirs(tmp_path):
    path = textured_obj(tmp_path, mtl="newmtl a\nKd 0.2 0.4 0.6\nmap_Kd t.png\n")
    text = path.read_text().replace("f 2/2 4/4 8/8 6/6", "f 2 4/4 8/8 6")
    path.write_text(text)
    mesh = read_mesh(path)
    bare = mesh.uv[mesh.faces[:, 0], 2] < 0
    assert bare.sum() == 2 and (mesh.vertices[mesh.faces[bare], 0] == 45).all()
    np.testing.assert_array_equal(
        np.unique(mesh.colors[mesh.faces[bare]].reshape(-1, 3), axis=0), [[51, 102, 153]]
    )
    assert mesh.texture[0, 0, 0].tolist() == [200, 100, 50]


@pytest.mark.parametrize(
    ("mtl", "head"),
    [
        ("\ufeffnewmtl a\nmap_Kd t.png\n", "mtllib a.mtl\n"),
        ("newmtl a\r\nmap_Kd t.png\r\n", "\ufeffmtllib a.mtl\r\n"),
        ("newmtl a\nmap_Kd -s 1 1 1 -o 0 0 0 -mm 0 1 -blendu on t.png\n", 'mtllib "a.mtl"\n'),
        ('newmtl a\n\tmap_Kd "t.png"\n', "mtllib b.mtl a.mtl\n"),
        ("newmtl a\nmap_Kd -clamp on -bm 0.5 -s 1 T.PNG\n", "mtllib A.MTL\n"),
        ("newmtl a\nmap_Kd C:\\Users\\me\\t.png\n", "mtllib c d.mtl\nmtllib a.mtl\n"),
    ],
)
def test_mtl_files_as_they_come(tmp_path, mtl, head):
    for other in ("b.mtl", "c d.mtl"):
        (tmp_path / other).write_text("newmtl other\nKd 1 0 0\n")
    path = textured_obj(tmp_path, mtl=mtl, head=head)
    mesh = read_mesh(path)
    assert (mesh.texture == [200, 100, 50]).all()
    assert corner_uv(mesh) == BOX_UV
    assert {"a.mtl", "t.png"} <= {file.name for file in meshes.files_named(path)}


@pytest.mark.parametrize(
    ("mtl", "reason"),
    [
        ("newmtl a\nmap_Kd -s 2 2 1 t.png\n", "option -s 2 2 1, which is not read: bake it"),
        ("newmtl a\nmap_Kd -o 0.5 t.png\n", "option -o 0.5"),
        ("newmtl a\nmap_Kd -mm 0.2 1 t.png\n", "option -mm 0.2 1"),
        ("newmtl b\nmap_Kd t.png\n", "uses material 'a', which its MTL file does not define"),
        ("newmtl a\nmap_Kd lost.png\n", "names lost.png, which is not beside it"),
        ("newmtl a\nKd spectral file.rfl\n", "not in red, green and blue"),
        ("newmtl a\nKd red\n", "cannot be read"),
    ],
)
def test_mtl_files_that_are_not_shown_as_meant_are_refused(tmp_path, mtl, reason):
    path = textured_obj(tmp_path, mtl=mtl)
    with pytest.raises(InputError, match=reason.replace("(", r"\(")):
        read_mesh(path)


def test_obj_in_other_encodings(tmp_path):
    path = tmp_path / "teil.obj"
    text = f"# Größe\n{obj_lines()}"
    for encoding in ("latin-1", "utf-8-sig", "utf-16", "gbk"):
        path.write_bytes(
            text.replace("öß", "").encode(encoding) if encoding == "gbk" else text.encode(encoding)
        )
        np.testing.assert_array_equal(size(read_mesh(path)), SIZE)
    textured = textured_obj(tmp_path, head="mtllib gehäuse.mtl\n")
    textured.write_bytes(textured.read_text().encode("latin-1"))
    assert "which is not beside it" in refused(textured)
    (tmp_path / "a.mtl").rename(tmp_path / "gehäuse.mtl")
    assert (read_mesh(textured).texture == [200, 100, 50]).all()


def test_obj_concave_polygons_keep_their_area(tmp_path):
    """Letters L and a spiral, whose fans would reach beyond them."""
    shapes = [
        [(0, 0), (3, 0), (3, 1), (1, 1), (1, 3), (0, 3)],
        [(1, 1), (0, 4), (0, 0), (4, 0)],  # an arrow head, from its notch
        [(0, 0), (5, 0), (5, 4), (1, 4), (1, 2), (2, 2), (2, 3), (4, 3), (4, 1), (0, 1)],
    ]
    path = tmp_path / "shape.obj"
    for corners in shapes:
        for start in range(len(corners)):
            x, y = np.roll(corners, start, axis=0).T.astype(float)
            area = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2  # Gauss's formula
            in_slanted_plane = np.stack([x, y, 2 * x], axis=1)
            path.write_text(obj_lines(in_slanted_plane, [" ".join(map(str, range(1, len(corners) + 1)))]))
            mesh = read_mesh(path)
            a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
            normals = np.cross(b - a, c - a)
            assert np.linalg.norm(normals, axis=1).sum() / 2 == pytest.approx(area * np.sqrt(5), rel=1e-5)
            assert (normals @ normals.sum(axis=0) > 0).all()


def test_obj_polygons_with_holes_bridged_by_an_edge(tmp_path):
    corners = [(0, 0), (10, 0), (10, 10), (0, 10), (0, 0), (3, 3), (3, 7), (7, 7), (7, 3), (3, 3)]
    path = tmp_path / "hole.obj"
    for start in range(len(corners)):
        x, y = np.roll(corners, start, axis=0).T.astype(float)
        path.write_text(obj_lines(np.stack([x, y, 0 * x], axis=1), ["1 2 3 4 5 6 7 8 9 10"]))
        mesh = read_mesh(path)
        a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
        area = np.cross(b - a, c - a)[:, 2] / 2
        assert area.min() >= 0 and area.sum() == pytest.approx(100 - 16)


def test_obj_polygons_with_corners_twice_in_a_row(tmp_path):
    corners = np.repeat([(0, 0), (3, 0), (3, 1), (1, 1), (1, 3), (0, 3)], 2, axis=0)
    path = tmp_path / "shape.obj"
    for start in range(len(corners)):
        x, y = np.roll(corners, start, axis=0).T.astype(float)
        path.write_text(obj_lines(np.stack([y, 0 * x, x], axis=1), [" ".join(map(str, range(1, 13)))]))
        mesh = read_mesh(path)
        a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
        area = np.cross(b - a, c - a)[:, 1] / 2
        assert area.min() >= 0 and area.sum() == pytest.approx(5)


def test_obj_polygons_that_cross_themselves_do_not_take_long(tmp_path):
    corners = np.random.default_rng(0).random((900, 3))
    path = tmp_path / "tangle.obj"
    path.write_text(obj_lines(corners, [" ".join(map(str, range(1, 901)))]))
    begin = time.process_time()
    assert len(read_mesh(path).faces) == 898
    assert time.process_time() - begin < 10


def test_obj_round_polygons_of_very_many_corners(tmp_path):
    """Their corners are rounded, so some turn the other way."""
    angles = np.arange(20_000) / 10_000 * np.pi
    path = tmp_path / "round.obj"
    rows = [f"v {np.cos(angle):.6f} {np.sin(angle):.6f} 0" for angle in angles]
    path.write_text("\n".join(rows) + f"\nf {' '.join(map(str, range(1, 20_001)))}\n")
    mesh = read_mesh(path)
    a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
    assert np.abs(np.cross(b - a, c - a)[:, 2]).sum() / 2 == pytest.approx(np.pi, rel=1e-5)


def test_obj_of_an_old_mac(tmp_path):
    path = textured_obj(tmp_path, head="# made by hand\nmtllib a.mtl\n")
    for file in (path, tmp_path / "a.mtl"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r"))
    assert corner_uv(read_mesh(path)) == BOX_UV
    assert {file.name for file in meshes.files_named(path)} == {"a.mtl", "t.png"}


def test_obj_points_and_lines_among_the_faces_are_left_out_and_told(tmp_path, caplog):
    """Before, between and behind the faces, which keep their materials."""
    (tmp_path / "a.mtl").write_text("newmtl a\nKd 1 0 0\nnewmtl b\nKd 0 0 1\n")
    path = tmp_path / "box.obj"
    first, *others = [f"f {' '.join(str(k - 8) for k in side)}" for side in SIDES]
    faces = ["f 1 2", "usemtl a", "f -8", first, "f 5 5", "usemtl b", *others, "f 1 2"]
    vertices = obj_lines().partition("f ")[0]
    path.write_text("\n".join(["mtllib a.mtl", vertices, *faces]))
    mesh = read_mesh(path)
    assert volume(mesh) == pytest.approx(np.prod(SIZE), rel=1e-5)
    red = (mesh.colors[mesh.faces] == [255, 0, 0]).all(axis=(1, 2))
    corners = {tuple(vertex) for vertex in mesh.vertices[mesh.faces[red]].reshape(-1, 3).tolist()}
    assert red.sum() == 2 and corners == set(map(tuple, BOX[SIDES[0]].tolist()))
    assert "box.obj: 4 of its 10 faces are points or lines: left out" in caplog.text


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_obj_comments_that_end_in_a_backslash_hide_no_line(tmp_path, end):
    path = tmp_path / "box.obj"
    text = "# D:\\parts\\\\\n# E:\\\n" + obj_lines(faces=["1 2 3", "4 \\\n5 7"])
    path.write_bytes(text.replace("\n", end).encode())
    mesh = read_mesh(path)
    np.testing.assert_array_equal(mesh.vertices[mesh.faces], BOX[[[0, 1, 2], [3, 4, 6]]])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("v 0 0\nf 1 1 1\n", "too few or too many numbers"),
        ("v 0 0 0 2\nf 1 1 1\n", "weight other than 1"),
        ("v 0 0 0\nf 1 0 1\n", "does not exist"),
        ("v 0 0 0\nf 1 2 1\n", "does not exist"),
        ("v 0 0 0\nf 1/1 1/1 1/1\n", "does not exist"),
        ("v 0 0 0\nf 1 1 1\nf 1 2\n", "does not exist"),
        ("v 0 0 0\nf 1 1\n", "no faces"),
        ("v 0 0 0\nf 1 1 1\nf\n", "fewer than three corners"),
        ("v 0 0 0\nf 1/1/1/1 1 1\n", "an index too many"),
        ("v 0 0 0\nf 1.5 1 1\n", "not whole"),
        ("v 0,5 0 0\nf 1 1 1\n", "cannot be read"),
        ("v 0 0 0\nsurf 0 1 0 1 1 2\n", "free-form surfaces (surf)"),
        ("v 0 0 0\nfx 1 1 1\n", "line 2 begins with 'fx'"),
        ("v 0 0 0\n", "no faces"),
    ],
)
def test_obj_that_makes_no_sense_is_refused(tmp_path, text, reason):
    path = tmp_path / "bad.obj"
    path.write_text(text)
    assert reason in refused(path)


def test_obj_lines_that_go_on_and_comments_behind(tmp_path):
    path = tmp_path / "box.obj"
    path.write_text(obj_lines().replace("f 1 3 4 2", "f 1 3 \\\n 4 2 # bottom").replace("v ", "v\t", 3))
    np.testing.assert_array_equal(read_mesh(path).vertices, BOX)
