"""Reading OFF files: geometry, colours, and what is refused."""

import numpy as np
import pytest

from picopose.rendering.mesh import read_mesh
from tests.box_files import BOX, BOX_COLOURS, COLOURS, SIDES, SIZE, UV, colours_at, off_text, refused, volume

OPAQUE = np.full((8, 1), 255)


@pytest.mark.parametrize(
    ("head", "columns"),
    [
        ("COFF\n", np.hstack([BOX, COLOURS, OPAQUE])),
        ("COFF ", np.hstack([BOX, COLOURS / 255, OPAQUE / 255])),
        ("COFF", np.hstack([BOX, COLOURS])),
        ("CNOFF\n", np.hstack([BOX, BOX, COLOURS])),
        ("STCNOFF\n", np.hstack([BOX, BOX, COLOURS, OPAQUE, UV])),
    ],
)
def test_off_vertex_colours(tmp_path, head, columns):
    path = tmp_path / "box.off"
    path.write_text(off_text(head, columns))
    mesh = read_mesh(path)
    assert colours_at(mesh) == BOX_COLOURS and volume(mesh) == pytest.approx(np.prod(SIZE))
    if "N" in head:
        np.testing.assert_allclose(mesh.normals, BOX / np.linalg.norm(BOX, axis=1, keepdims=True), atol=1e-6)


def test_off_face_colours(tmp_path):
    path = tmp_path / "box.off"
    faces = [f"4 {' '.join(map(str, side))}" for side in SIDES]
    path.write_text(off_text("OFF\n", BOX, [f"{faces[0]} 255 0 10", *faces[1:]]))
    mesh = read_mesh(path)
    painted = (mesh.colors == [255, 0, 10]).all(axis=1)
    assert painted.sum() == 4 and (mesh.vertices[painted, 2] == -70).all()
    np.testing.assert_array_equal(np.unique(mesh.colors[~painted]), [180])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (off_text("OFF\n", BOX, counts="9 6 0"), "says that it has 9 vertices"),
        (off_text("OFF\n", BOX, counts="8 5 0"), "and 5 faces"),
        (off_text("OFF\n", np.hstack([BOX, COLOURS])), "which its first word does not say"),
        (off_text("OFF BINARY\n", BOX), "save it as ASCII OFF or PLY"),
        (off_text("4OFF\n", BOX), "save it as ASCII OFF or PLY"),
        (off_text("OFF\n", BOX, ["4 0 1 2"]), "fewer corners than it says"),
        (off_text("OFF\n", BOX, ["3 0 1 8"]), "does not exist"),
        (off_text("OFF\n", BOX, ["3 0 1 2.5"]), "not whole"),
    ],
)
def test_off_that_makes_no_sense_is_refused(tmp_path, text, reason):
    path = tmp_path / "bad.off"
    path.write_text(text)
    assert reason in refused(path)
