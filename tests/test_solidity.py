"""Solid bodies are told from open and inside-out ones, and their front alone looks like the whole."""

from collections.abc import Iterator

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from picopose.rendering.mesh import Mesh, make_mesh
from picopose.rendering.renderer import Renderer
from picopose.rendering.solidity import is_solid

K = np.array([[300.0, 0, 79.7], [0, 310.0, 61.2], [0, 0, 1]])
SIZE = (160, 120)


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    with Renderer() as made:
        yield made


def ball(seed: int, shift: float = 0.0) -> trimesh.Trimesh:
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=0.05)
    radii = np.random.default_rng(seed).uniform(0.8, 1.2, (len(sphere.vertices), 1))
    return trimesh.Trimesh(sphere.vertices * radii + [shift, 0, 0], sphere.faces, process=False)


def bodies() -> dict[str, tuple[Mesh, bool]]:
    """Meshes by name and whether they are solid."""
    one, other = ball(1), ball(2, shift=0.08)
    inside_out = trimesh.Trimesh(other.vertices, other.faces[:, ::-1], process=False)
    one_turned = one.faces.copy()
    one_turned[7] = one_turned[7, ::-1]
    made = {
        "ball": (one, True),
        "two balls": (trimesh.util.concatenate([one, other]), True),
        "one of two inside out": (trimesh.util.concatenate([one, inside_out]), False),
        "a face turned": (trimesh.Trimesh(one.vertices, one_turned, process=False), False),
        "a face missing": (trimesh.Trimesh(one.vertices, one.faces[1:], process=False), False),
        "bowl": (trimesh.Trimesh(one.vertices, one.faces[: len(one.faces) // 2], process=False), False),
    }
    return {name: (make_mesh(mesh.vertices, mesh.faces), solid) for name, (mesh, solid) in made.items()}


@pytest.mark.parametrize("name", bodies())
def test_solid_bodies_are_told_from_others(name):
    mesh, solid = bodies()[name]
    assert is_solid(mesh.vertices, mesh.faces) == solid


def test_no_faces_are_no_solid():
    assert not is_solid(np.zeros((3, 3)), np.zeros((0, 3), int))


@pytest.mark.parametrize("name", bodies())
def test_front_only_shows_the_same_surface(renderer, name):
    mesh, solid = bodies()[name]
    for seed in range(6):
        pose = np.eye(4)
        pose[:3, :3] = Rotation.random(random_state=seed).as_matrix()
        pose[:3, 3] = 0, 0, 0.35
        whole = renderer.render_depth(mesh, pose, K, *SIZE)
        front = renderer.render_depth(mesh, pose, K, *SIZE, front_only=True)
        assert (whole > 0).sum() > 500
        np.testing.assert_array_equal(whole > 0, front > 0)
        if solid:
            assert (np.abs(whole - front) > 1e-6).mean() < 1e-3  # single pixels of the outline
            np.testing.assert_allclose(front, whole, atol=1e-3)
        else:
            np.testing.assert_array_equal(whole, front)


@pytest.mark.parametrize("case", ["mirrored", "camera inside"])
def test_front_only_draws_all_where_the_front_faces_away(renderer, case):
    mesh, pose = bodies()["ball"][0], np.eye(4)
    pose[:3, 3] = (0, 0, 0.3) if case == "mirrored" else (0, 0, 0.01)
    if case == "mirrored":
        pose[0, 0] = -1
    whole = renderer.render_depth(mesh, pose, K, *SIZE)
    assert (whole > 0).any()
    np.testing.assert_array_equal(whole, renderer.render_depth(mesh, pose, K, *SIZE, front_only=True))
