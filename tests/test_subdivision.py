"""Divided meshes: the same surface and looks, short edges, and no difference for a mesh in another unit."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from picopose.rendering.mesh import Mesh, load_mesh
from picopose.rendering.subdivision import subdivided
from tests.shared import ROOT

LONGEST = 0.01  # m


@pytest.fixture(scope="module")
def mug() -> Mesh:
    return load_mesh(ROOT / "data/mini/models/obj_000001.ply")


def edges(mesh: Mesh) -> np.ndarray:
    corners = mesh.vertices.astype(float)[mesh.faces]
    return np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)


def area(mesh: Mesh) -> float:
    corners = mesh.vertices.astype(float)[mesh.faces]
    return (
        np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
        / 2
    )


def test_edges_are_short_and_the_surface_is_the_same(mug):
    divided = subdivided(mug, LONGEST)
    assert edges(mug).max() > 2 * LONGEST and edges(divided).max() <= 1.002 * LONGEST
    assert area(divided) == pytest.approx(area(mug), rel=1e-5)
    assert cKDTree(divided.vertices).query(mug.vertices)[0].max() < 1e-8
    assert np.allclose(np.linalg.norm(divided.normals, axis=1), 1, atol=1e-5)


def test_new_vertices_take_the_look_of_their_edge(mug):
    flat = Mesh(
        np.float32([[0, 0, 0], [0.03, 0, 0], [0, 0.03, 0]]),
        np.int32([[0, 1, 2]]),
        np.float32([[0, 0, 1]] * 3),
        uv=np.float32([[0, 0], [1, 0], [0, 1]]),
        texture=np.zeros((2, 2, 3), np.uint8),
    )
    divided = subdivided(flat, LONGEST)
    assert len(divided.vertices) > 9 and np.allclose(divided.uv, divided.vertices[:, :2] / 0.03, atol=1e-6)


def test_a_mesh_that_was_rounded_is_divided_in_the_same_way(mug):
    rng = np.random.default_rng(0)
    for scale in (1e-8, 3e-8):
        moved = mug.vertices + np.float32(scale * rng.uniform(-1, 1, mug.vertices.shape))
        other = subdivided(Mesh(moved, mug.faces, mug.normals, mug.colors, mug.uv, mug.texture), LONGEST)
        divided = subdivided(mug, LONGEST)
        assert len(divided.vertices) > 1.5 * len(mug.vertices)
        assert np.array_equal(divided.faces, other.faces)
        assert np.abs(divided.vertices - other.vertices).max() < 2e-7
