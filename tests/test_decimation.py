"""Simplified and varied meshes: their shape, their looks, and where they come from."""

import numpy as np
import pytest
import trimesh

from picopose.rendering.decimation import clustered, decimated
from picopose.rendering.mesh import Mesh, make_mesh
from picopose.rendering.procedural.variants import STRETCH, papered, stretched
from picopose.rendering.renderer import Renderer
from picopose.rendering.viewpoints import object_poses

K = np.array([[300.0, 0, 80], [0, 300, 80], [0, 0, 1]])


def sphere(**looks) -> Mesh:
    body = trimesh.creation.icosphere(5, 0.1)
    return make_mesh(np.asarray(body.vertices), np.asarray(body.faces), **looks)


def seamed_plate() -> Mesh:
    """A thin plate whose upper side is half red, half blue, with a seam of the texture in between."""
    steps = np.linspace(-0.1, 0.1, 101)
    texture = np.zeros((4, 64, 3), np.uint8)
    texture[:, :16], texture[:, 48:] = (255, 0, 0), (0, 0, 255)  # the middle is black and belongs to nobody
    parts = []
    for left, low in ((True, 0.02), (False, 0.8)):
        x, y = np.meshgrid(steps[:51] if left else steps[50:], steps)
        index = np.arange(x.size).reshape(x.shape)
        a, b, c, d = (
            part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1])
        )
        across = (x - x.min()) / np.ptp(x)
        uv = np.column_stack([(low + 0.18 * across).ravel(), np.full(x.size, 0.5)])
        faces = np.concatenate([np.column_stack([a, b, c]), np.column_stack([a, c, d])])
        parts.append((np.column_stack([x.ravel(), y.ravel(), 0 * x.ravel()]), faces, uv))
    vertices = np.concatenate([part[0] for part in parts])
    faces = np.concatenate([parts[0][1], parts[1][1] + len(parts[0][0])])
    uv = np.concatenate([part[2] for part in parts]).astype(np.float32)
    return make_mesh(vertices, faces, uv=uv, texture=texture)


def test_a_simplified_sphere_is_still_one_without_gaps():
    fine = sphere()
    coarse = decimated(fine, 4000)
    assert 1000 < len(coarse.faces) <= 4000 < len(fine.faces)
    radius = np.linalg.norm(coarse.vertices, axis=1)
    assert radius.min() > 0.095 and radius.max() < 0.1001
    assert trimesh.Trimesh(coarse.vertices, coarse.faces).is_watertight
    outward = (coarse.normals * coarse.vertices).sum(axis=1) / radius
    assert outward.min() > 0.95
    assert decimated(coarse, 4000) is coarse


def test_vertex_colours_stay_at_their_places():
    plain = sphere()
    colors = np.where(plain.vertices[:, :1] > 0, np.uint8([[250, 0, 0]]), np.uint8([[0, 0, 250]]))
    coarse = decimated(sphere(colors=colors), 2000)
    right, left = coarse.vertices[:, 0] > 0.02, coarse.vertices[:, 0] < -0.02
    assert (coarse.colors[right] == [250, 0, 0]).all() and (coarse.colors[left] == [0, 0, 250]).all()


def test_seams_of_textures_are_not_mixed():
    fine = seamed_plate()
    coarse = clustered(fine, 20)
    assert len(coarse.faces) < len(fine.faces) / 10
    pose = np.diag([1.0, -1, -1, 1])
    pose[2, 3] = 0.5
    with Renderer() as renderer:
        drawn = [renderer.render([(mesh, pose)], K, 160, 160) for mesh in (fine, coarse)]
    inside = drawn[0].mask & drawn[1].mask
    assert inside.sum() > 0.9 * drawn[0].mask.sum()
    black = [(image.rgb[inside].max(axis=1) < 100).mean() for image in drawn]
    assert black[1] <= black[0] + 0.01


def test_thin_plates_keep_both_sides():
    fine = trimesh.creation.box((0.2, 0.2, 0.002)).subdivide_to_size(0.004)
    coarse = clustered(make_mesh(np.asarray(fine.vertices), np.asarray(fine.faces)), 20)
    assert np.ptp(coarse.vertices[:, 2]) == pytest.approx(0.002, rel=0.05)


def test_stretched_meshes_keep_their_longest_side_and_right_normals():
    fine = sphere()
    for seed in range(5):
        mesh = stretched(np.random.default_rng(seed), fine)
        extent = np.ptp(mesh.vertices, axis=0)
        assert extent.max() == pytest.approx(0.2, rel=1e-3) and extent.max() <= extent.min() * STRETCH * 1.001
        expected = make_mesh(mesh.vertices, mesh.faces).normals
        assert (mesh.normals * expected).sum(axis=1).min() > 0.999


def test_papered_meshes_show_the_image_on_every_side():
    box = trimesh.creation.box((0.1, 0.1, 0.1))
    mesh = make_mesh(np.asarray(box.vertices), np.asarray(box.faces))
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    paper = papered(np.random.default_rng(1), mesh, image)
    poses = object_poses(mesh.vertices, 42)[::5]
    with Renderer() as renderer:
        for pose in poses:
            plain, drawn = (renderer.render([(m, pose)], K, 160, 160) for m in (mesh, paper))
            assert np.array_equal(plain.ids, drawn.ids) and np.abs(plain.depth - drawn.depth).max() < 1e-6
            assert drawn.rgb[drawn.mask].std(axis=0).min() > 10
