"""The renderer against an independent ray caster, closed forms and the official BOP depth renderings."""

import json
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from picopose.commands import install_egl
from picopose.rendering.mesh import GREY, Mesh, load_mesh, make_mesh
from picopose.rendering.renderer import Light, Renderer
from tests.raycast import cast_depth
from tests.shared import shared

K = np.array([[90.0, 0, 31.7], [0, 88.0, 22.4], [0, 0, 1]])
SIZE = (64, 48)


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    with Renderer() as made:
        yield made


def pose(x: float, y: float, z: float, rotation: Rotation | None = None) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = (rotation or Rotation.identity()).as_matrix()
    matrix[:3, 3] = x, y, z
    return matrix


def quad(width: float, height: float, **appearance: np.ndarray) -> Mesh:
    """A rectangle in the plane z = 0: corners clockwise from the top left, as seen along z."""
    x, y = width / 2, height / 2
    corners = np.array([[-x, -y, 0], [x, -y, 0], [x, y, 0], [-x, y, 0]])
    return make_mesh(corners, np.array([[0, 1, 2], [0, 2, 3]]), **appearance)


def blob(seed: int) -> Mesh:
    rng = np.random.default_rng(seed)
    sphere = trimesh.creation.icosphere(subdivisions=2, radius=0.05)
    return make_mesh(sphere.vertices * rng.uniform(0.6, 1.2, (len(sphere.vertices), 1)), sphere.faces)


@pytest.mark.parametrize(
    ("camera", "offset"),
    [
        (K, (0, 0, 0.25)),
        ([[90, 0, -40.2], [0, 70, 75.9], [0, 0, 1]], (0.2, -0.15, 0.25)),  # principal point outside the image
        ([[95, 12.5, 25.1], [0, 60, 20.3], [0, 0, 1]], (0.02, 0.01, 0.2)),  # skew
    ],
)
def test_depth_and_silhouette_agree_with_a_ray_caster(renderer, camera, offset):
    for seed in range(4):
        mesh, camera = blob(seed), np.array(camera, dtype=float)
        cam_from_obj = pose(*offset, Rotation.random(random_state=seed))
        expected = cast_depth(mesh.vertices, mesh.faces, cam_from_obj, camera, *SIZE)
        depth = renderer.render_depth(mesh, cam_from_obj, camera, *SIZE)
        assert (expected > 0).sum() > 300
        # OpenGL may place an outline by 1/256 px, so that a ray next to it hits on one side only.
        assert ((depth > 0) != (expected > 0)).sum() <= 1
        both = (depth > 0) & (expected > 0)
        error = np.abs(depth - expected)[both]
        assert (error > 1e-6).sum() <= 2  # m; nor may rays next to a fold inside the outline


def test_tilted_plane_is_sampled_at_pixel_centres(renderer):
    mesh, cam_from_obj = quad(2.0, 2.0), pose(0, 0, 1, Rotation.from_euler("xyz", [0.5, -0.6, 0.2]))
    normal = cam_from_obj[:3, 2]
    u, v = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(K).T
    expected = normal @ cam_from_obj[:3, 3] / (rays @ normal)
    depth = renderer.render_depth(mesh, cam_from_obj, K, *SIZE)
    # One pixel changes the depth by some 8 mm here: the samples lie within 0.001 px of the pixels' centres.
    assert (np.abs(np.diff(expected, axis=1)) > 4e-3).mean() > 0.5
    np.testing.assert_allclose(depth, expected, atol=4e-6)


@pytest.mark.parametrize("left", [10.1, 10.45, 10.55, 10.9])
def test_outline_lies_between_pixel_centres(renderer, left):
    camera = np.array([[100.0, 0, 0], [0, 100, 0], [0, 0, 1]])
    mesh = quad(0.2, 0.2)
    depth = renderer.render_depth(mesh, pose(left / 100 + 0.1, left / 100 + 0.1, 1), camera, *SIZE)
    rows, columns = np.nonzero(depth)
    assert (columns.min(), rows.min()) == (11, 11)
    assert (columns.max(), rows.max()) == (np.floor(left + 20), np.floor(left + 20))


def test_nearest_instance_wins_and_ids_follow_the_order(renderer):
    near, far = quad(0.2, 0.2), quad(0.6, 0.6)
    image = renderer.render(
        [(far, pose(0, 0, 1.0)), (near, pose(0, 0, 0.8)), (far, pose(0, 0, 1.2))], K, *SIZE
    )
    assert image.ids[22, 31] == 1
    assert image.ids[22, 50] == 0
    assert image.ids[0, 0] == -1
    assert image.depth[22, 31] == pytest.approx(0.8, abs=1e-6)
    assert image.depth[0, 0] == 0
    assert set(np.unique(image.ids)) == {-1, 0, 1}
    np.testing.assert_array_equal(image.mask, image.depth > 0)


def test_depth_alone_equals_the_depth_of_the_full_rendering(renderer):
    mesh, cam_from_obj = blob(7), pose(0.01, 0.02, 0.2)
    image = renderer.render([(mesh, cam_from_obj)], K, *SIZE, lights=[Light((0, 0, 0))])
    np.testing.assert_array_equal(renderer.render_depth(mesh, cam_from_obj, K, *SIZE), image.depth)


def test_images_do_not_depend_on_what_was_drawn_before(renderer):
    mesh, other, at = blob(1), blob(2), pose(0, 0, 0.25)
    with Renderer(cache_bytes=1) as fresh:
        first = fresh.render([(mesh, at)], K, *SIZE)
        large = fresh.render([(other, at), (mesh, at)], 4 * K, 256, 200)
        assert large.rgb.shape == (200, 256, 3)
        again = fresh.render([(mesh, at)], K, *SIZE)
    for name in ("rgb", "depth", "ids"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
        np.testing.assert_array_equal(
            getattr(renderer.render([(mesh, at)], K, *SIZE), name), getattr(first, name)
        )


def test_both_sides_of_a_surface_are_drawn(renderer):
    mesh = quad(0.2, 0.2)
    front = renderer.render_depth(mesh, pose(0, 0, 1), K, *SIZE)
    back = renderer.render_depth(mesh, pose(0, 0, 1, Rotation.from_euler("y", np.pi)), K, *SIZE)
    assert (front > 0).sum() > 200
    np.testing.assert_allclose(back, front, atol=1e-6)


def test_nothing_is_clipped_by_distance(renderer):
    mesh, camera = quad(0.02, 0.02), np.array([[400.0, 0, 31.5], [0, 400, 23.5], [0, 0, 1]])
    far = make_mesh(mesh.vertices * 5000, mesh.faces)
    image = renderer.render([(far, pose(0, 0, 500.0)), (mesh, pose(0, 0, 0.4))], camera, *SIZE)
    assert image.depth[24, 32] == pytest.approx(0.4, rel=1e-6)
    assert image.depth[0, 0] == pytest.approx(500, rel=1e-6)


def test_object_around_the_camera_is_drawn_where_it_lies_ahead(renderer):
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    mesh, cam_from_obj = make_mesh(sphere.vertices, sphere.faces), pose(0.1, 0, 0.05)
    depth = renderer.render_depth(mesh, cam_from_obj, K, *SIZE)
    expected = cast_depth(mesh.vertices, mesh.faces, cam_from_obj, K, *SIZE)
    assert (expected > 0).all()
    np.testing.assert_allclose(depth, expected, atol=2e-6)
    behind = renderer.render_depth(mesh, pose(0, 0, -1), K, *SIZE)
    assert not behind.any()


def test_an_instance_that_just_touches_the_cameras_plane_does_not_blur_the_depth_order(renderer):
    """A near plane that followed it would leave no depth resolution for the others."""
    front, back, grazing = quad(0.2, 0.2), quad(0.2, 0.2), quad(0.06, 0.08)
    for gap in (1e-4, 1e-6):
        instances = [
            (back, pose(0, 0, 0.5005)),
            (front, pose(0, 0, 0.5)),
            (grazing, pose(0.3, 0, gap - 0.05)),
        ]
        ids = renderer.render(instances, K, *SIZE).ids
        assert (ids == 1).any()
        assert not (ids == 0).any()


def test_ambient_light_alone_shows_vertex_colours_exactly(renderer):
    box = trimesh.creation.box((0.1, 0.1, 0.1))
    vertices = box.vertices[box.faces].reshape(-1, 3)
    colors = np.random.default_rng(3).integers(0, 256, (12, 3), dtype=np.uint8)
    mesh = make_mesh(vertices, np.arange(36).reshape(-1, 3), colors=colors.repeat(3, axis=0))
    cam_from_obj = pose(0, 0, 0.3, Rotation.from_euler("xyz", [0.5, 0.7, 0.1]))
    image = renderer.render([(mesh, cam_from_obj)], K, *SIZE)
    seen = np.unique(image.rgb[image.mask], axis=0)
    assert len(seen) >= 5
    assert {tuple(color) for color in seen} <= {tuple(color) for color in colors}
    assert not image.rgb[~image.mask].any()
    half = renderer.render([(mesh, cam_from_obj)], K, *SIZE, ambient=(0.5, 0.5, 0.0))
    np.testing.assert_allclose(half.rgb[..., :2], image.rgb[..., :2] / 2, atol=0.51)
    assert not half.rgb[..., 2].any()


def test_model_without_colours_is_grey(renderer):
    image = renderer.render([(quad(0.2, 0.2), pose(0, 0, 1))], K, *SIZE)
    assert (image.rgb[image.mask] == GREY).all()


QUARTERS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]], np.uint8)  # as seen: 2 x 2


def test_texture_rows_run_from_v_1_to_v_0(renderer):
    texture = QUARTERS.repeat(32, axis=0).repeat(32, axis=1)
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
    image = renderer.render([(quad(0.4, 0.3, uv=uv, texture=texture), pose(0, 0, 1))], K, *SIZE)
    seen = image.rgb[[12, 12, 32, 32], [22, 42, 22, 42]].reshape(2, 2, 3)
    np.testing.assert_array_equal(seen, QUARTERS)


def test_fine_texture_is_averaged_from_afar(renderer):
    checks = np.indices((512, 512)).sum(axis=0).astype(np.uint8) % 2 * np.uint8(255)
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
    mesh = quad(0.2, 0.2, uv=uv, texture=np.repeat(checks[..., None], 3, axis=2))
    image = renderer.render([(mesh, pose(0, 0, 1))], K, *SIZE)
    assert np.abs(image.rgb[image.mask].astype(float) - 127.5).max() < 16


def test_lambert_and_specular_light(renderer):
    instances = [(quad(0.5, 0.5, colors=np.full((4, 3), 100, np.uint8)), pose(0, 0, 1))]

    def centre(*lights: Light) -> np.ndarray:
        return renderer.render(instances, K, *SIZE, ambient=0.1, lights=lights).rgb[22, 32].astype(float)

    # 60 degrees off the normal: half of the light and no highlight.
    slanted = Light((np.sqrt(3), 0, -1), directional=True)
    np.testing.assert_allclose(centre(slanted), 100 * (0.1 + 0.5), atol=1)
    np.testing.assert_allclose(centre(Light(slanted.at, True, (1, 0.5, 0), 0.8)), [50, 30, 10], atol=1)
    head_on = centre(Light((0, 0, 0)))  # at the camera: all of the light and the whole highlight
    np.testing.assert_allclose(head_on, 100 * (0.1 + 1.0) + 0.2 * 255, atol=1)
    np.testing.assert_allclose(centre(Light((0, 0, 3.0))), 10, atol=1)  # behind the surface
    with pytest.raises(ValueError, match="at most"):
        centre(*[slanted] * 9)


def test_depth_equals_the_official_bop_renderings(renderer):
    folder = shared("bop_golden")
    images = np.load(folder / "render_golden.npz")
    meshes: dict[tuple, Mesh] = {}
    for entry in json.loads((folder / "render_golden.json").read_text()):
        key = entry["dataset"], entry["obj_id"]
        if key not in meshes:
            meshes[key] = load_mesh(folder / key[0] / "models_eval" / f"obj_{key[1]:06d}.ply")
        camera = np.array(entry["K"]).reshape(3, 3)
        camera[:2, 2] -= 0.5  # the toolkit draws through pixel corners
        cam_from_obj = np.eye(4)
        cam_from_obj[:3, :3] = np.array(entry["R"]).reshape(3, 3)
        cam_from_obj[:3, 3] = np.array(entry["t"]) / 1000
        depth_mm = renderer.render_depth(meshes[key], cam_from_obj, camera, *entry["size"]) * 1000
        expected, (x0, y0) = images[entry["key"]], (entry["x0"], entry["y0"])
        window = depth_mm[y0 : y0 + expected.shape[0], x0 : x0 + expected.shape[1]]
        assert (depth_mm > 0).sum() == (expected > 0).sum() == entry["n_px"]
        np.testing.assert_array_equal(window > 0, expected > 0)
        np.testing.assert_allclose(window, expected, atol=0.01)  # the toolkit's depth buffer has 16 bits


def test_missing_egl_is_installed_or_explained(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["install-egl"])
    install_egl.main()  # OpenGL works here: nothing to do
    assert capsys.readouterr() == ("", "")
    calls = []

    def run(command, **_):
        calls.append(command)
        return install_egl.subprocess.CompletedProcess(command, returncode=100)

    monkeypatch.setattr(install_egl, "has_opengl", lambda: False)
    monkeypatch.setattr(install_egl.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(install_egl.subprocess, "run", run)
    monkeypatch.setattr(install_egl.os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit, match="2"):
        install_egl.main()
    assert "sudo apt-get install libegl1 libgl1-mesa-dri" in capsys.readouterr().err
    monkeypatch.setattr(install_egl.os, "geteuid", lambda: 0)
    calls.clear()
    with pytest.raises(SystemExit, match="2"):
        install_egl.main()
    assert calls[-1][-2:] == ["libegl1", "libgl1-mesa-dri"]
    assert "failed" in capsys.readouterr().err
