"""The surface that RNNPose sees: drawn triangles and what is interpolated over them, against a ray caster."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from picopose.model.rnnpose.quirks import MENDED, RELEASED
from picopose.model.rnnpose.surface import Surface, barycentrics, trace
from picopose.rendering.mesh import Mesh, load_mesh, make_mesh
from picopose.rendering.mesh_views import MeshViews
from picopose.rendering.subdivision import subdivided
from tests.raycast import cast_depth, surface_points
from tests.rendered import renderer
from tests.shared import ROOT

SIZE = 48
K = np.array([[55.0, 0, 22.25], [0, 56.0, 24.75], [0, 0, 1]])


def pose(x: float, y: float, z: float, angles: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix[:3, 3] = x, y, z
    return matrix.astype(np.float32).astype(float)  # the same for all


POSES = np.stack([pose(0, 0, 0.15, (30, 40, 50)), pose(0.02, -0.01, 0.2, (200, 10, -70))])


def box() -> Mesh:
    """A box whose sides have looks and corners of their own: 24 vertices at 8 places."""
    signs = np.array([(x, y) for x in (-1, 1) for y in (-1, 1)])
    vertices, faces, colours = [], [], []
    for axis in range(3):
        for side in (-1, 1):
            vertices.append(np.insert(signs, axis, side, axis=1) * (0.03, 0.02, 0.04))
            faces.append(np.array([[0, 1, 2], [1, 3, 2]]) + 4 * len(faces))
            colours.append(np.full((4, 3), (40 * axis + 60, 60 * side + 120, 90)))
    looks = {"colors": np.concatenate(colours).astype(np.uint8)}
    return make_mesh(np.concatenate(vertices), np.concatenate(faces), **looks)


@pytest.fixture(scope="module")
def mug() -> Mesh:
    return load_mesh(ROOT / "data/mini/models/obj_000001.ply")


@dataclass(frozen=True)
class Drawn:
    surface: Surface
    faces: Tensor  # (2, S, S)
    rgb: Tensor  # (2, 3, S, S)
    cam_from_obj: Tensor  # (2, 4, 4)
    K: Tensor  # (2, 3, 3)


def drawn(mesh: Mesh) -> Drawn:
    poses, cameras = torch.from_numpy(POSES).float(), torch.from_numpy(K).float().expand(2, 3, 3)
    rgb, faces = MeshViews({1: mesh}).draw_faces([1, 1], poses, cameras, SIZE)
    return Drawn(Surface.of(mesh), faces, rgb, poses, cameras)


@pytest.fixture(scope="module", params=["mug", "box"])
def seen(request, mug) -> tuple[Mesh, Drawn]:
    mesh = mug if request.param == "mug" else box()
    return mesh, drawn(mesh)


def traced(seen: Drawn, quirks=MENDED):
    return trace(seen.surface, seen.faces, seen.cam_from_obj, seen.K, quirks)


def test_vertices_that_differ_in_looks_alone_are_one():
    mesh = box()
    surface = Surface.of(mesh)
    assert len(mesh.vertices) == 24 and len(surface.vertices) == 8
    assert torch.equal(surface.vertices[surface.faces], torch.from_numpy(mesh.vertices[mesh.faces]))
    order = [(mesh.vertices == own).all(1).argmax() for own in surface.vertices.numpy()]
    assert order == sorted(order)


def test_normals_are_means_of_the_triangles_by_their_areas():
    mesh = box()
    surface = Surface.of(mesh)
    expected = np.zeros((8, 3))
    for face in surface.faces.tolist():
        a, b, c = surface.vertices[face].double().numpy()
        for corner in face:
            expected[corner] += np.cross(b - a, c - a)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(surface.normals.numpy() - expected).max() < 1e-6


def test_a_mesh_of_single_vertices_stays_as_it_is():
    corners = np.float32([[0, 0, 1], [0, 1, 0], [1, 0, 0], [2, 2, 2]])
    surface = Surface.of(make_mesh(corners, np.array([[0, 1, 2]])))
    assert torch.equal(surface.vertices, torch.from_numpy(corners[:4]))
    assert torch.equal(surface.normals[3], torch.zeros(3))


# Which triangle is seen


def test_triangles_are_drawn_with_the_renderers_colours(seen):
    mesh, seen = seen
    for i, cam_from_obj in enumerate(POSES):
        image = renderer().render([(mesh, cam_from_obj)], K, SIZE, SIZE)
        assert np.array_equal((seen.rgb[i] * 255).round().byte().permute(1, 2, 0).numpy(), image.rgb)
        assert np.array_equal(seen.faces[i].numpy() >= 0, image.mask)


def test_triangles_are_those_that_rays_hit_first(seen):
    mesh, seen = seen
    depth = traced(seen).depth.numpy()
    for i, cam_from_obj in enumerate(POSES):
        expected = cast_depth(mesh.vertices, mesh.faces, cam_from_obj, K, SIZE, SIZE)
        assert ((depth[i] > 0) != (expected > 0)).sum() <= 3  # on the outline
        both = (depth[i] > 0) & (expected > 0)
        assert both.sum() > 200
        off = np.abs(depth[i] - expected)[both]
        assert np.quantile(off, 0.99) < 2e-6 and off.max() < 2e-3  # on edges


# What is interpolated over it


def test_vertices_values_are_those_where_rays_meet_the_surface(seen):
    mesh, seen = seen
    found = traced(seen).spread(seen.surface.vertices)
    pixels = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), axis=-1).reshape(-1, 2)
    for i, cam_from_obj in enumerate(POSES):
        expected, hit = surface_points(pixels, K, cam_from_obj, mesh.vertices, mesh.faces)
        hit &= seen.faces[i].flatten().numpy() >= 0
        off = np.abs(found[i].flatten(1).T.numpy() - expected)[hit].max(axis=1)
        assert np.quantile(off, 0.99) < 2e-6 and off.max() < 2e-3
    assert (found[(seen.faces < 0)[:, None].expand_as(found)] == 0).all()


def test_barycentric_coordinates_are_shares(seen):
    _, seen = seen
    shares = barycentrics(seen.surface, seen.faces, seen.cam_from_obj, seen.K)
    assert shares.shape == ((seen.faces >= 0).sum(), 3)
    assert (shares >= 0).all() and (shares.sum(1) - 1).abs().max() < 1e-6


def test_gradients_reach_the_vertices(seen):
    _, seen = seen
    values = torch.ones(len(seen.surface.vertices), 2, requires_grad=True)
    traced(seen).spread(values).sum().backward()
    assert values.grad.sum() == pytest.approx(2 * (seen.faces >= 0).sum().item(), rel=1e-5)
    hidden = torch.ones(len(values), dtype=torch.bool)
    hidden[seen.surface.faces[seen.faces[seen.faces >= 0]]] = False
    assert (values.grad[hidden] == 0).all()


def test_original_takes_the_depth_of_the_nearest_vertex_and_adds_to_all():
    """Nearest in barycentric coordinates; 0.01 mm are added, to the background's too."""
    seen = drawn(box())
    kept = traced(seen, RELEASED)
    assert torch.equal(kept.depth[~kept.seen], torch.full_like(kept.depth[~kept.seen], 1e-5))
    surface = seen.surface
    for image, row, column in kept.seen.nonzero()[::17].tolist():
        turn, shift = seen.cam_from_obj[image, :3, :3], seen.cam_from_obj[image, :3, 3]
        corners = surface.vertices[surface.faces[seen.faces[image, row, column]]] @ turn.T + shift
        ray = torch.linalg.inv(seen.K[image]) @ torch.tensor([column, row, 1.0])
        nearest = torch.linalg.solve(corners.T, ray).argmax()
        expected = corners[nearest, 2].item() + 1e-5
        assert kept.depth[image, row, column].item() == pytest.approx(expected, abs=1e-7)


def test_light_comes_from_a_lamp_in_the_objects_frame():
    """At (1, 1, -1) m: half of the colour, up to 0.3 of it by the lamp, and 0.2 of white."""
    seen = drawn(box())
    kept = traced(seen)
    lit = kept.shaded(seen.rgb, seen.surface)
    xyz, normals = kept.spread(seen.surface.vertices), kept.spread(seen.surface.normals)
    to_lamp = torch.tensor([1.0, 1.0, -1.0])[None, :, None, None] - xyz
    cosine = (to_lamp * normals).sum(1) / (to_lamp.norm(dim=1) * normals.norm(dim=1))
    expected = seen.rgb * (0.5 + 0.3 * cosine.clamp(min=0))[:, None] + 0.2
    inside = kept.seen[:, None].expand_as(lit)
    assert (lit - expected)[inside].abs().max() < 1e-5
    assert (lit[~inside] == 0).all() and lit.max() <= 1


def test_divided_meshes_look_the_same(mug):
    divided = drawn(subdivided(mug, 0.01))
    whole = drawn(mug)
    assert len(divided.surface.vertices) > 1.5 * len(whole.surface.vertices)
    assert ((divided.faces >= 0) != (whole.faces >= 0)).sum() <= 4
    both = (divided.faces >= 0) & (whole.faces >= 0)
    assert (divided.rgb - whole.rgb).abs().amax(1)[both].quantile(0.99) < 3 / 255
    off = (traced(divided).depth - traced(whole).depth)[both].abs()
    assert off.quantile(0.99) < 1e-6
