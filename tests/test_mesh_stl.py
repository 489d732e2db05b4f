"""Reading STL files, text and binary: geometry, colours, and what is refused."""

import struct

import numpy as np
import pytest
import trimesh

from picopose.rendering.mesh import read_mesh
from tests.box_files import BOX, FACES, SIZE, refused, size, volume


def stl_bytes(
    attributes: list[int] | int = 0, header: bytes = b"solid made by a tool", count: int = 12
) -> bytes:
    facets = np.zeros(12, np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")]))
    facets["corners"], facets["attribute"] = BOX[FACES], attributes
    return header.ljust(80, b" ") + struct.pack("<I", count) + facets.tobytes()


def test_stl_with_bytes_behind(tmp_path, caplog):
    path = tmp_path / "box.stl"
    path.write_bytes(stl_bytes())
    np.testing.assert_array_equal(size(read_mesh(path)), SIZE)
    path.write_bytes(stl_bytes() + b"\x01made by a tool")
    assert volume(read_mesh(path)) == pytest.approx(np.prod(SIZE))
    assert "the 15 bytes behind its 12 facets are not read" in caplog.text
    path.write_bytes(stl_bytes(count=10))
    assert "says that it has 10 facets, but has bytes of 12" in refused(path)
    path.write_bytes(stl_bytes(count=13))
    assert "says that it has 13 facets, but is too short" in refused(path)


def test_stl_colours(tmp_path):
    path = tmp_path / "box.stl"
    path.write_bytes(stl_bytes([0x8000 | 31 << 10 | 10 << 5, 0] * 6))  # VisCAM
    mesh = read_mesh(path)
    np.testing.assert_array_equal(mesh.colors[mesh.faces[:, 0]], [[255, 82, 0], [180, 180, 180]] * 6)
    path.write_bytes(stl_bytes([31 | 10 << 5, 0x8000] * 6, b"COLOR=\x01\x02\x03\xff"))  # Magics
    mesh = read_mesh(path)
    np.testing.assert_array_equal(mesh.colors[mesh.faces[:, 0]], [[255, 82, 0], [1, 2, 3]] * 6)


def test_stl_of_autodesk_names_the_colour_of_the_whole_alone(tmp_path):
    path = tmp_path / "box.stl"
    path.write_bytes(stl_bytes(0, b"STLB ATF 12.6.0.36 COLOR=\xa0\x80\x60\xff"))
    assert (read_mesh(path).colors == [0xA0, 0x80, 0x60]).all()


def test_stl_as_text(tmp_path):
    path = tmp_path / "box.stl"
    trimesh.Trimesh(BOX, FACES, process=False).export(path, file_type="stl_ascii")
    mesh = read_mesh(path)
    np.testing.assert_allclose(mesh.vertices[mesh.faces], BOX[FACES])
    text = path.read_bytes()
    path.write_bytes(text.replace(b"solid", b"solid Geh\xe4use", 1))
    np.testing.assert_array_equal(size(read_mesh(path)), SIZE)
    for damaged in (text[: len(text) // 2], text[: text.rindex(b"endsolid")]):
        path.write_bytes(damaged)
        assert "cannot be read as a mesh" in refused(path)
