"""The project's own objects: closed, well-formed meshes, and symmetries that are true in form and look."""

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from picopose.rendering.mesh import Mesh, diameter
from picopose.rendering.procedural import solids
from picopose.rendering.procedural.shapes import random_shape
from picopose.rendering.renderer import Light, Renderer
from tools.mini_set.objects import MINI, UNSEEN, NamedObject, named_objects

NAMED = named_objects(MINI) + named_objects(UNSEEN)
PX = 160


@pytest.fixture(scope="module")
def renderer():
    with Renderer() as made:
        yield made


def welded(vertices: np.ndarray, faces: np.ndarray) -> trimesh.Trimesh:
    mesh = trimesh.Trimesh(np.asarray(vertices, np.float64).round(6), faces, process=False)
    mesh.merge_vertices(merge_norm=True, merge_tex=True)
    return mesh


def check_mesh(mesh: Mesh, largest: tuple[float, float]) -> None:
    for array in (mesh.vertices, mesh.normals):
        assert array.dtype == np.float32 and np.isfinite(array).all()
    assert (
        mesh.faces.dtype == np.int32 and mesh.faces.min() == 0 and mesh.faces.max() == len(mesh.vertices) - 1
    )
    assert 12 <= len(mesh.faces) <= 6000
    assert np.allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-4)
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (np.linalg.norm(cross, axis=1) > 0).all()
    along = (mesh.normals[mesh.faces] * cross[:, None]).sum(axis=-1)
    assert (along > 0).all()  # every corner's normal is on the outer side of its face
    solid = welded(mesh.vertices, mesh.faces)
    assert solid.is_watertight and solid.is_winding_consistent
    assert all(part.volume > 0 for part in solid.split())
    if mesh.texture is None:
        assert mesh.uv is None and mesh.colors.shape == mesh.vertices.shape
    else:
        assert mesh.texture.dtype == np.uint8 and mesh.texture.ndim == 3
        assert mesh.uv.shape == (len(mesh.vertices), 2) and mesh.uv.min() >= 0 and mesh.uv.max() <= 1
    assert largest[0] <= diameter(mesh.vertices) <= largest[1]


@pytest.mark.parametrize("seed", range(60))
def test_random_shapes_are_closed_and_well_formed(seed):
    check_mesh(random_shape(np.random.default_rng([seed, 1])), (0.04, 0.5))


def test_random_shapes_follow_the_seed():
    first, again = (random_shape(np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first.vertices, again.vertices) and np.array_equal(first.faces, again.faces)
    assert (first.texture is None) == (again.texture is None)
    assert first.texture is None or np.array_equal(first.texture, again.texture)


def test_random_shapes_are_many_kinds():
    meshes = [random_shape(np.random.default_rng([seed, 2])) for seed in range(60)]
    assert len({(len(mesh.vertices), len(mesh.faces), diameter(mesh.vertices)) for mesh in meshes}) == 60
    untextured = sum(mesh.texture is None for mesh in meshes)
    assert 5 <= untextured <= 30
    sizes = [np.ptp(mesh.vertices, axis=0).max() for mesh in meshes]
    assert min(sizes) < 0.1 and max(sizes) > 0.2 and max(sizes) <= 0.3


def volume(solid: solids.Solid) -> float:
    return welded(solid.corners.reshape(-1, 3), np.arange(3 * len(solid.corners)).reshape(-1, 3)).volume


def test_solids_have_their_known_volumes():
    n = solids.SECTIONS
    disc = n / 2 * np.sin(2 * np.pi / n)  # area of the regular polygon that stands for the unit circle
    assert volume(solids.box((0.1, 0.2, 0.3))) == pytest.approx(0.006, rel=1e-4)
    rod = solids.revolve(np.array([(0.05, 0), (0.05, 0.2)]))
    assert volume(rod) == pytest.approx(disc * 0.05**2 * 0.2, rel=1e-3)
    tube = solids.frame(solids.circle(0.05), solids.circle(0.03), 0.1)
    assert volume(tube) == pytest.approx(disc * (0.05**2 - 0.03**2) * 0.1, rel=1e-3)
    ell = np.array([(0, 0), (0.2, 0), (0.2, 0.05), (0.04, 0.05), (0.04, 0.3), (0, 0.3)])
    assert volume(solids.extrude(ell, 0.1)) == pytest.approx((0.2 * 0.05 + 0.04 * 0.25) * 0.1, rel=1e-4)
    ring = solids.sweep(np.pad(solids.circle(0.1, 96), ((0, 0), (0, 1))), solids.circle(0.02), closed=True)
    assert volume(ring) == pytest.approx(2 * np.pi * 0.1 * disc * 0.02**2, rel=5e-3)


def test_rounding_a_box_takes_its_corners_off():
    size, radius = np.array([0.1, 0.2, 0.3]), 0.02
    inner = size - 2 * radius
    exact = inner.prod() + 2 * radius * (inner[0] * inner[1] + inner[1] * inner[2] + inner[0] * inner[2])
    exact += np.pi * radius**2 * inner.sum() + 4 / 3 * np.pi * radius**3
    assert volume(solids.box(size, radius)) == pytest.approx(exact, rel=5e-3)


@pytest.mark.parametrize("thing", NAMED, ids=lambda thing: thing.name)
def test_named_objects_are_closed_and_well_formed(thing):
    check_mesh(thing.mesh, (0.05, 0.26))
    low, high = thing.mesh.vertices.min(axis=0), thing.mesh.vertices.max(axis=0)
    assert np.allclose(low + high, 0, atol=1e-6)


def test_the_two_sets_differ_in_kind_and_print():
    mini, unseen = (named_objects(makers) for makers in (MINI, UNSEEN))
    assert len(mini) >= 8 and not {thing.name for thing in mini} & {thing.name for thing in unseen}
    prints = [thing.mesh.texture.tobytes() for thing in NAMED if thing.mesh.texture is not None]
    assert len(set(prints)) == len(prints) >= 8
    for things in (mini, unseen):
        assert any(thing.continuous for thing in things) and any(thing.discrete for thing in things)
        assert sum(not thing.continuous and not thing.discrete for thing in things) > len(things) / 2
        assert any(thing.mesh.texture is None and not thing.continuous for thing in things)


def symmetries(thing: NamedObject, angles: tuple[float, ...]) -> list[np.ndarray]:
    """Rotations (3, 3) that the object declares; these angles stand for all in a continuous symmetry."""
    turns = [transform[:3, :3] for transform in thing.discrete]
    for axis in thing.continuous:
        turns += [Rotation.from_rotvec(np.array(axis) * angle).as_matrix() for angle in angles]
    return turns


SYMMETRIC = pytest.mark.parametrize(
    "thing", [t for t in NAMED if t.discrete or t.continuous], ids=lambda t: t.name
)


@SYMMETRIC
def test_declared_symmetries_map_vertices_and_colours_onto_themselves(thing):
    mesh = thing.mesh
    assert mesh.texture is None  # so that colours are those of the vertices
    tree = cKDTree(mesh.vertices)
    for turn in symmetries(thing, tuple(2 * np.pi / 64 * k for k in (1, 7, 16, 45))):
        moved = mesh.vertices.astype(np.float64) @ turn.T
        distance, _ = tree.query(moved)
        assert distance.max() < 0.5e-3  # m
        for colour, there in zip(mesh.colors, tree.query_ball_point(moved, 1e-4), strict=True):
            assert (mesh.colors[there] == colour).all(axis=1).any()


def look(renderer: Renderer, mesh: Mesh, turn: np.ndarray, viewpoint: int) -> np.ndarray:
    """(PX, PX, 3) image of the object, turned in its own frame, from one of some viewpoints; background 0."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.random(random_state=viewpoint).as_matrix() @ turn
    pose[2, 3] = 5 * np.linalg.norm(mesh.vertices, axis=1).max()
    K = np.array([[2.3 * PX, 0, PX / 2 - 0.5], [0, 2.3 * PX, PX / 2 - 0.5], [0, 0, 1]])
    light = Light((-0.4, -0.7, -0.6), directional=True)
    image = renderer.render([(mesh, pose)], K, PX, PX, ambient=0.4, lights=[light])
    return np.where(image.mask[..., None], image.rgb.astype(int) + 1, 0)


def difference(renderer: Renderer, mesh: Mesh, turn: np.ndarray) -> float:
    """Share of the object's pixels that look different (by over 25 of 255) after a turn; 6 viewpoints."""
    changed = total = 0
    for viewpoint in range(6):
        before, after = (look(renderer, mesh, t, viewpoint) for t in (np.eye(3), turn))
        changed += (np.abs(before - after).max(axis=-1) > 25).sum()
        total += (before.any(axis=-1) | after.any(axis=-1)).sum()
    return changed / total


@SYMMETRIC
def test_declared_symmetries_do_not_show(renderer, thing):
    for turn in symmetries(thing, (0.3, 1.0, 2.2, 4.0)):
        assert difference(renderer, thing.mesh, turn) < 0.02


@pytest.mark.parametrize("thing", NAMED, ids=lambda thing: thing.name)
def test_turns_that_are_not_declared_show(renderer, thing):
    free = symmetries(thing, (0, np.pi / 2, np.pi, 3 * np.pi / 2)) or [np.eye(3)]
    declared = [np.eye(3), *free, *(a @ b for a in free for b in free)]
    for axis in np.eye(3):
        for angle in (np.pi / 2, np.pi):
            turn = Rotation.from_rotvec(axis * angle).as_matrix()
            if not any(np.allclose(known, turn, atol=1e-6) for known in declared):
                assert difference(renderer, thing.mesh, turn) > 0.03
