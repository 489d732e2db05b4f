"""Reading mesh files: what holds for every format."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from picopose.rendering import mesh as meshes
from picopose.rendering.mesh import read_mesh, read_triangles
from tests.box_files import BOX, FACES, SIZE, TRIANGLES, UV, off_text, ply_text, refused, size, textured_obj


@pytest.mark.parametrize("suffix", ["ply", "off"])
def test_vertices_of_no_face_do_not_count_for_the_size(tmp_path, suffix):
    points = np.vstack([[5000, 0, 0], BOX])
    rows = [f"3 {a} {b} {c}" for a, b, c in FACES + 1]
    path = tmp_path / f"box.{suffix}"
    path.write_text(ply_text(points, [], rows) if suffix == "ply" else off_text("OFF\n", points, rows))
    mesh = read_mesh(path)
    np.testing.assert_array_equal(mesh.vertices, BOX)
    np.testing.assert_array_equal(mesh.faces, FACES)
    if suffix == "ply":  # the pose errors are defined on all
        np.testing.assert_array_equal(read_triangles(path)[0], points)


def test_a_mesh_too_far_from_its_origin_for_single_precision_is_refused(tmp_path):
    """Such as a scan in the coordinates of a map."""
    path = tmp_path / "scan.obj"
    for distance, told in ((1e5, False), (5_412_312, True)):
        path.write_text("".join(f"v {x} {y + distance} {z}\n" for x, y, z in BOX) + "f 1 2 3\nf 5 6 7\n")
        if told:
            assert "times its size away from its origin" in refused(path)
        else:
            np.testing.assert_allclose(size(read_mesh(path)), SIZE, atol=0.02)


def test_textures_that_are_shrunk_to_fit_are_told(tmp_path, monkeypatch, caplog):
    path = textured_obj(tmp_path, mtl="newmtl a\nmap_Kd t.png\nnewmtl b\nmap_Kd dot.png\n")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    path.write_text(path.read_text() + "usemtl b\nf 1/1 2/2 3/3\n")
    assert read_mesh(path).texture.shape == (2, 8, 8, 3) and not caplog.text
    monkeypatch.setattr(meshes, "MAX_TEXELS", 50)
    assert read_mesh(path).texture.shape == (2, 5, 5, 3)
    assert f"{path}: its 2 textures are kept at 5 x 5 px at most" in caplog.text


def test_textures_of_16_bits_are_not_clipped(tmp_path):
    grey = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "t16.png")
    path = tmp_path / "box.ply"
    head = "comment TextureFile t16.png"
    path.write_text(ply_text(np.hstack([BOX, UV]), ["float s", "float t"], TRIANGLES, head))
    np.testing.assert_allclose(read_mesh(path).texture[0, ..., 0], grey / 257, atol=0.51)


def test_a_missing_package_is_not_told_as_damage(tmp_path, monkeypatch):
    def read(path: Path) -> list:
        raise ModuleNotFoundError("No module named 'charset_normalizer'")

    monkeypatch.setattr(meshes.ply, "read", read)
    path = tmp_path / "box.ply"
    path.write_text(ply_text(BOX, [], TRIANGLES))
    with pytest.raises(ModuleNotFoundError):
        read_mesh(path)
