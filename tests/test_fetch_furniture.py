"""Furniture catalogues: what is taken, what is left out, and that nothing leaves its folder."""

import zipfile

import numpy as np
import pytest

from picopose.rendering.mesh import load_mesh
from picopose.utils.errors import InputError
from picopose.utils.unpack import unpack
from tools import fetch_furniture
from tools.fetch_furniture import (
    CATALOGUE,
    Piece,
    convert,
    licence_of,
    package,
    pieces,
    read_properties,
    write_table,
)

CUBE = """mtllib cube.mtl
v 0 0 0\nv 40 0 0\nv 40 30 0\nv 0 30 0\nv 0 0 20\nv 40 0 20\nv 40 30 20\nv 0 30 20
usemtl red
f 1 4 3 2\nf 5 6 7 8\nf 1 2 6 5\nf 2 3 7 6\nf 3 4 8 7\nf 4 1 5 8
"""
LIST = """# a catalogue
license=Creative Commons Attribution 3.0 license
id#1=Some#chair
name#1=A \\
    chair
model#1=/some/chair/cube.obj
creator#1=Ann
model#2=/some/table/cube.obj
creator#2=Bob
license#2=Attribution 3.0, NonCommercial
model#3=/some/lamp/cube.obj
model#4=/../out/cube.obj
creator#4=Eve
"""


def archive(path, files: dict[str, str]):
    with zipfile.ZipFile(path, "w") as content:
        for name, text in files.items():
            content.writestr(name, text)
    return path


@pytest.mark.parametrize(
    ("statement", "licence"),
    [
        ("Public domain", "CC0 1.0"),
        ("Creative Commons Attribution 3.0 United States license  Copyright 2003", "CC BY 3.0 US"),
        ("Creative Commons Attribution 3.0 Unported license", "CC BY 3.0"),
        ("Creative Commons Attribution-NonCommercial 3.0", None),
        ("Attribution 3.0 ShareAlike", None),
        ("Free Art License", None),
        ("", None),
    ],
)
def test_licences(statement, licence):
    assert licence_of(statement) == licence


def test_properties_on_several_lines():
    assert read_properties(LIST)["name#1"] == "A chair"
    assert "# a catalogue" not in read_properties(LIST)


def test_only_free_pieces_with_an_author_are_taken(tmp_path):
    (tmp_path / CATALOGUE).write_text(LIST, encoding="latin-1")
    found = list(pieces(tmp_path, "some.sh3f"))
    assert found[0] == (
        Piece("some_cube", "Ann", "CC BY 3.0", "some.sh3f/some/chair/cube.obj"),
        tmp_path / "some/chair/cube.obj",
    )
    assert [piece for piece, _ in found[1:]] == [None, None, None]
    with pytest.raises(InputError, match="download it again"):
        list(pieces(tmp_path / "none", "none.sh3f"))


@pytest.mark.parametrize("name", ["../out.txt", "/out.txt", "a/../../out.txt", "..\\out.txt", "C:\\out.txt"])
def test_names_that_lead_out_of_an_archive_are_refused(tmp_path, name):
    path = archive(tmp_path / "bad.sh3f", {"good.txt": "", name: "harm"})
    with pytest.raises(InputError, match="leads out"):
        unpack(path, tmp_path / "in/here")
    assert {p.name for p in tmp_path.iterdir()} == {"bad.sh3f"}


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"noise" * 40, lambda data: b""]
)
def test_damaged_archives_are_named(tmp_path, damage):
    path = archive(tmp_path / "cut.sh3f", {"a.txt": "text" * 100, "b.txt": "more"})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"cut\.sh3f: damaged"):
        unpack(path, tmp_path / "out")


def test_a_piece_becomes_a_mesh_that_stands_upright(tmp_path):
    files = {"cube.obj": CUBE, "cube.mtl": "newmtl red\nKd 0.8 0.1 0.1\n"}
    unpack(archive(tmp_path / "some.sh3f", files), tmp_path / "in")
    assert convert(tmp_path / "in/cube.obj", tmp_path / "cube.glb") is None
    mesh = load_mesh(tmp_path / "cube.glb", unit="m")
    # OBJ: 40 wide, 30 high, 20 deep; in metres half a metre wide, with its height along z.
    assert np.ptp(mesh.vertices, axis=0) == pytest.approx([0.5, 0.25, 0.375], abs=1e-5)
    assert (mesh.colors[:, 0] > 3 * mesh.colors[:, 1]).all()
    centre = (mesh.vertices.max(axis=0) + mesh.vertices.min(axis=0)) / 2
    assert ((mesh.normals * (mesh.vertices - centre)).sum(axis=1) > 0).all()


def test_what_cannot_be_read_is_told(tmp_path):
    (tmp_path / "noise.obj").write_bytes(b"\x00noise")
    assert "noise.obj" in convert(tmp_path / "noise.obj", tmp_path / "noise.glb")
    (tmp_path / "flat.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    assert convert(tmp_path / "flat.obj", tmp_path / "flat.glb") == "flat.obj is flat"
    assert not list(tmp_path.glob("*.glb"))


def test_the_table_names_authors_and_licences(tmp_path):
    write_table(
        tmp_path / "list.csv",
        [Piece("b", "Bob", "CC0 1.0", "x/b"), Piece("a", "Ann, A.", "CC BY 3.0", "x/a")],
    )
    lines = (tmp_path / "list.csv").read_text().splitlines()
    assert lines == ["file,author,licence,source", 'a,"Ann, A.",CC BY 3.0,x/a', "b,Bob,CC0 1.0,x/b"]


def test_the_table_lies_beside_the_meshes(tmp_path, monkeypatch):
    files = {CATALOGUE: LIST, "some/chair/cube.obj": CUBE, "some/chair/cube.mtl": "newmtl red\nKd 1 0 0\n"}
    catalogue = archive(tmp_path / "list.sh3f", files)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fetch_furniture, "package", lambda deb, folder: [catalogue])
    monkeypatch.setattr("sys.argv", ["fetch_furniture", "--out", "meshes", "--processes", "1"])
    fetch_furniture.main()
    assert sorted(path.name for path in (tmp_path / "meshes").iterdir()) == ["furniture.csv", "some_cube.glb"]
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["meshes"]


def test_a_package_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match=r"missing\.deb"):
        package(tmp_path / "missing.deb", tmp_path)
