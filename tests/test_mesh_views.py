"""Meshes by id: drawn as the renderer does but with soft edges, by any thread, and read when asked for."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import trimesh
from scipy.ndimage import distance_transform_edt
from scipy.spatial.transform import Rotation

from picopose.rendering import mesh_files, mesh_views
from picopose.rendering.mesh import Mesh, load_mesh, make_mesh
from picopose.rendering.mesh_files import MeshFiles
from picopose.rendering.mesh_views import MeshViews
from picopose.rendering.renderer import Renderer
from picopose.rendering.viewpoints import object_poses
from picopose.utils.mesh_file import MeshFile

SIZE = 96


def coloured(seed: int, color: tuple[int, int, int]) -> Mesh:
    rng = np.random.default_rng(seed)
    ball = trimesh.creation.icosphere(subdivisions=2, radius=0.05)
    vertices = ball.vertices * rng.uniform(0.7, 1.2, (len(ball.vertices), 1))
    return make_mesh(vertices, ball.faces, colors=np.full(vertices.shape, color, np.uint8))


MESHES = {3: coloured(0, (200, 100, 50)), 8: coloured(1, (20, 240, 120))}
IDS = [8, 3, 8]


def cameras() -> tuple[torch.Tensor, torch.Tensor]:
    poses = torch.eye(4, dtype=torch.float64).repeat(3, 1, 1)
    poses[:, :3, :3] = torch.from_numpy(Rotation.random(3, random_state=0).as_matrix())
    poses[:, :3, 3] = torch.tensor([[0.01, 0.0, 0.4], [-0.02, 0.02, 0.5], [0.0, 0.0, 0.3]])
    K = torch.tensor([[260.0, 0, 48], [0, 250, 45], [0, 0, 1]], dtype=torch.float64).repeat(3, 1, 1)
    K[1, :2, 2] += 5
    return poses, K


def test_drawings_are_the_renderers_with_edges_spread_about_where_they_were():
    poses, K = cameras()
    drawn = MeshViews(MESHES).draw(IDS, poses, K, SIZE)
    with Renderer() as renderer:
        for i, obj_id in enumerate(IDS):
            depth = renderer.render_depth(MESHES[obj_id], poses[i].numpy(), K[i].numpy(), SIZE, SIZE)
            np.testing.assert_array_equal(drawn.depth[i], depth)
            np.testing.assert_array_equal(drawn.mask[i], depth > 0)
            cover, inside = drawn.cover[i].numpy(), depth > 0
            assert cover.sum() == pytest.approx(inside.sum(), rel=2e-3)
            distance = distance_transform_edt(inside) + distance_transform_edt(~inside)  # from the outline
            assert (cover[inside & (distance > 6)] == 1).all() and not cover[~inside & (distance > 6)].any()
            at_edge = (distance < 1.1) & (distance > 0)
            assert 0.4 < cover[at_edge & inside].mean() < 0.8 and 0.2 < cover[at_edge & ~inside].mean() < 0.6
            # Light is white and from everywhere, so that colours are the mesh's own, on black.
            color = torch.from_numpy(MESHES[obj_id].colors[0] / 255).float()[:, None, None]
            assert (drawn.rgb[i] - color * drawn.cover[i]).abs().max() < 2.1 / 255
    torch.testing.assert_close(drawn.K.double(), K)
    torch.testing.assert_close(drawn.cam_from_obj.double(), poses, atol=1e-6, rtol=0)
    assert drawn.rgb.dtype == drawn.cover.dtype == drawn.depth.dtype == drawn.K.dtype == torch.float32


def test_any_thread_may_draw():
    views, (poses, K) = MeshViews(MESHES), cameras()
    expected = views.draw(IDS, poses, K, SIZE)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: views.draw(IDS, poses, K, SIZE), range(8)))
    for drawing in found:
        assert torch.equal(drawing.rgb, expected.rgb) and torch.equal(drawing.depth, expected.depth)


def test_digests_tell_contents_apart():
    again = Mesh(**vars(MESHES[3]))
    other = Mesh(**(vars(MESHES[3]) | {"colors": MESHES[3].colors + np.uint8(1)}))
    views = MeshViews({1: MESHES[3], 2: again, 3: other})
    digests = [views.digest(obj_id) for obj_id in (1, 2, 3)]
    assert digests[0] == digests[1] != digests[2]


def test_a_mesh_is_looked_at_once_for_its_digest(monkeypatch):
    calls = []
    monkeypatch.setattr(mesh_views, "content_digest", lambda mesh: calls.append(mesh) or str(len(calls)))
    views = MeshViews(MESHES)
    assert [views.digest(i) for i in (3, 8, 3, 3)] == ["1", "2", "1", "1"]


def test_hulls_reach_as_far_as_the_mesh_in_every_direction():
    views = MeshViews(MESHES)
    directions = np.random.default_rng(0).normal(size=(500, 3))
    for obj_id, mesh in MESHES.items():
        hull = views.hull(obj_id)
        assert hull.dtype == torch.float64 and len(hull) < len(mesh.vertices)
        reach = (mesh.vertices.astype(np.float64) @ directions.T).max(axis=0)
        np.testing.assert_allclose((hull.numpy() @ directions.T).max(axis=0), reach, atol=1e-12)


def test_template_poses_are_the_papers_views():
    poses = MeshViews(MESHES).template_poses(3, 42)
    np.testing.assert_array_equal(poses, object_poses(MESHES[3].vertices, 42))
    assert poses.shape == (42, 4, 4)


# --- meshes of files


@pytest.fixture
def files(tmp_path) -> dict[int, MeshFile]:
    found = {}
    for obj_id, extent in ((2, 40.0), (7, 90.0)):
        path = tmp_path / f"obj_{obj_id:06d}.ply"
        trimesh.creation.box([extent, 20, 30]).export(path)
        found[obj_id] = MeshFile(path, 1e-3)
    return found


def test_meshes_of_files_are_read_when_they_are_asked_for(files, monkeypatch):
    read = []

    def count(path, *, unit):
        read.append(path.name)
        return load_mesh(path, unit=unit)

    monkeypatch.setattr(mesh_files, "load_mesh", count)
    meshes = MeshFiles(files)
    assert list(meshes) == [2, 7] and len(meshes) == 2 and 7 in meshes and read == []
    assert np.ptp(meshes[7].vertices[:, 0]) == pytest.approx(0.09)
    assert meshes[7] is meshes[7]
    assert read == ["obj_000007.ply"]
    with pytest.raises(KeyError):
        meshes[3]


def test_those_used_longest_ago_make_room(files, monkeypatch):
    one = load_mesh(files[2].path)
    monkeypatch.setattr(mesh_files, "KEPT", sum(v.nbytes for v in vars(one).values() if v is not None) + 1)
    meshes = MeshFiles(files)
    first = meshes[2]
    assert meshes[2] is first
    meshes[7]
    again = meshes[2]
    assert again is not first and np.array_equal(again.vertices, first.vertices)
