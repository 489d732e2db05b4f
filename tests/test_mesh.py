"""Reading meshes of every kind, from files that the tests write, and refusing what cannot be used."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from scipy.spatial.distance import pdist
from trimesh.visual.material import PBRMaterial, SimpleMaterial

from picopose.rendering.mesh import Mesh, bounding_sphere, diameter, load_mesh, make_mesh, vertex_colors
from picopose.rendering.mesh_formats import part, textures
from picopose.rendering.renderer import Renderer
from picopose.utils.errors import InputError

# Four colours as they are seen on the rectangle below: red, green / blue, yellow.
QUARTERS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]], np.uint8)
CORNERS = np.array([[-200, -150, 0], [200, -150, 0], [200, 150, 0], [-200, 150, 0]], float)  # mm; y down
FACES = np.array([[0, 1, 2], [0, 2, 3]])
UV = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], float)

PLY_HEADER = """ply
format ascii 1.0
{comment}
element vertex {vertices}
property float x
property float y
property float z
{properties}
element face {faces}
property list uchar int vertex_indices
end_header
"""


def ply(
    vertices: np.ndarray, faces: np.ndarray, properties: str = "", comment: str = "comment made by hand"
) -> str:
    extra = "\n".join(f"property {kind}" for kind in properties.split(",")) if properties else "comment"
    header = PLY_HEADER.format(comment=comment, vertices=len(vertices), faces=len(faces), properties=extra)
    rows = [" ".join(f"{value:g}" for value in row) for row in vertices]
    rows += [" ".join(str(value) for value in (len(face), *face)) for face in faces]
    return header + "\n".join(rows) + "\n"


def picture(folder: Path, name: str = "quarters.png") -> Image.Image:
    image = Image.fromarray(QUARTERS.repeat(32, axis=0).repeat(32, axis=1))
    image.save(folder / name)
    return image


def textured_ply(folder: Path) -> Path:
    picture(folder)
    path = folder / "model.ply"
    columns = np.hstack([CORNERS, UV])
    path.write_text(
        ply(columns, FACES, "float texture_u,float texture_v", "comment TextureFile quarters.png")
    )
    return path


def textured_obj(folder: Path) -> Path:
    picture(folder)
    (folder / "model.mtl").write_text("newmtl paint\nKd 0.2 0.2 0.2\nmap_Kd quarters.png\n")
    lines = ["mtllib model.mtl", "usemtl paint"]
    lines += [f"v {x} {y} {z}" for x, y, z in CORNERS] + [f"vt {u} {v}" for u, v in UV]
    lines += ["f 1/1 2/2 3/3 4/4"]  # a quadrangle
    (folder / "model.obj").write_text("\n".join(lines))
    return folder / "model.obj"


def textured_obj_in_gazebo_layout(folder: Path) -> Path:
    (folder / "meshes").mkdir()
    (folder / "materials" / "textures").mkdir(parents=True)
    path = textured_obj(folder / "meshes")
    (folder / "meshes" / "quarters.png").rename(folder / "materials" / "textures" / "quarters.png")
    return path


def textured_obj_in_shapenet_layout(folder: Path) -> Path:
    (folder / "models").mkdir()
    (folder / "images").mkdir()
    path = textured_obj(folder / "models")
    (folder / "models" / "quarters.png").rename(folder / "images" / "quarters.png")
    (folder / "models" / "model.mtl").write_text("newmtl paint\nmap_Kd ../images/quarters.png\n")
    return path


def textured_glb(folder: Path) -> Path:
    material = PBRMaterial(baseColorTexture=picture(folder))
    visual = trimesh.visual.TextureVisuals(uv=UV, material=material)
    trimesh.Trimesh(CORNERS, FACES, visual=visual, process=False).export(folder / "model.glb")
    return folder / "model.glb"


@pytest.mark.parametrize(
    "write",
    [
        textured_ply,
        textured_obj,
        textured_obj_in_gazebo_layout,
        textured_obj_in_shapenet_layout,
        textured_glb,
    ],
)
def test_textures_of_every_format_appear_upright(write: Callable[[Path], Path], tmp_path):
    mesh = load_mesh(write(tmp_path))
    camera, cam_from_obj = np.array([[90.0, 0, 31.5], [0, 90, 23.5], [0, 0, 1]]), np.eye(4)
    cam_from_obj[2, 3] = 1.0
    with Renderer() as renderer:
        image = renderer.render([(mesh, cam_from_obj)], camera, 64, 48)
    np.testing.assert_array_equal(image.rgb[[15, 15, 31, 31], [20, 44, 20, 44]].reshape(2, 2, 3), QUARTERS)


def test_vertex_and_face_colours(tmp_path):
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 8, 7]])
    path = tmp_path / "vertex.ply"
    path.write_text(ply(np.hstack([CORNERS, colors]), FACES, "uchar red,uchar green,uchar blue"))
    mesh = load_mesh(path)
    np.testing.assert_array_equal(mesh.colors, colors)
    np.testing.assert_allclose(mesh.vertices, CORNERS / 1000, atol=1e-7)
    box = trimesh.creation.box((50, 60, 70))
    box.visual.face_colors = np.column_stack([np.arange(36).reshape(12, 3), np.full(12, 255)])
    box.export(tmp_path / "face.ply")
    mesh = load_mesh(tmp_path / "face.ply")
    np.testing.assert_array_equal(mesh.colors[mesh.faces], np.arange(36).reshape(12, 1, 3).repeat(3, axis=1))


@pytest.mark.parametrize("suffix", ["stl", "ply", "obj", "off", "glb"])
def test_models_without_colours(suffix: str, tmp_path):
    box = trimesh.creation.box((0.05, 0.06, 0.07))
    box.export(tmp_path / f"box.{suffix}")
    mesh = load_mesh(tmp_path / f"box.{suffix}", unit="m")
    assert mesh.texture is None
    np.testing.assert_allclose(np.abs(mesh.vertices).max(axis=0), [0.025, 0.03, 0.035], atol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-6)
    assert len(mesh.faces) == 12
    assert len(np.unique(vertex_colors(mesh))) == 1
    assert diameter(mesh.vertices) == pytest.approx(np.sqrt(0.05**2 + 0.06**2 + 0.07**2), rel=1e-6)


def test_nodes_of_a_scene_are_moved_and_merged(tmp_path):
    material = PBRMaterial(baseColorTexture=picture(tmp_path))
    small = Image.fromarray(np.full((8, 8, 3), 200, np.uint8))
    first = trimesh.Trimesh(CORNERS / 1000, FACES, process=False)
    second, third = first.copy(), trimesh.creation.box((0.1, 0.1, 0.1))
    first.visual = trimesh.visual.TextureVisuals(uv=UV, material=material)
    second.visual = trimesh.visual.TextureVisuals(uv=UV, material=PBRMaterial(baseColorTexture=small))
    third.visual = trimesh.visual.TextureVisuals(material=PBRMaterial(baseColorFactor=[255, 128, 0, 255]))
    turned = trimesh.transformations.rotation_matrix(np.pi / 2, [0, 0, 1]) @ np.diag([2.0, 2.0, 2.0, 1.0])
    turned[:3, 3] = 0, 0, 0.5
    scene = trimesh.Scene()
    scene.add_geometry(first)
    scene.add_geometry(second, transform=turned)
    scene.add_geometry(third, transform=trimesh.transformations.translation_matrix([1, 0, 0]))
    scene.export(tmp_path / "scene.glb")
    mesh = load_mesh(tmp_path / "scene.glb", unit="m")
    assert (len(mesh.vertices), len(mesh.faces)) == (16, 16)
    layer = mesh.uv[:, 2]
    box, plain, painted = mesh.vertices[layer == -1], mesh.vertices[layer == 1], mesh.vertices[layer == 0]
    np.testing.assert_allclose(box.mean(axis=0), [1, 0, 0], atol=1e-6)
    by_depth = sorted([plain, painted], key=lambda part: part[:, 2].max())
    np.testing.assert_allclose(by_depth[0], CORNERS / 1000, atol=1e-6)
    np.testing.assert_allclose(np.abs(by_depth[1]), np.abs([[0.3, 0.4, 0.5]] * 4), atol=1e-6)
    assert mesh.texture.shape == (2, 64, 64, 3)
    np.testing.assert_array_equal(np.unique(mesh.colors[layer == -1], axis=0), [[255, 128, 0]])
    with Renderer() as renderer:
        away = np.eye(4)
        away[2, 3] = 3.0
        image = renderer.render(
            [(mesh, away)], np.array([[300.0, 0, 100], [0, 300, 100], [0, 0, 1]]), 300, 200
        )
    np.testing.assert_array_equal(image.rgb[100, 200], [255, 128, 0])
    np.testing.assert_array_equal(image.rgb[94, 94], [255, 0, 0])
    np.testing.assert_array_equal(image.rgb[75, 100], [200, 200, 200])


def test_materials_of_one_colour(tmp_path):
    box = trimesh.creation.box((50, 60, 70))
    box.visual = trimesh.visual.TextureVisuals(
        uv=np.zeros((8, 2)), material=SimpleMaterial(diffuse=[10, 20, 30, 255])
    )
    box.export(tmp_path / "box.obj")
    assert (load_mesh(tmp_path / "box.obj").colors == [10, 20, 30]).all()


def refused(path: Path, **options) -> str:
    with pytest.raises(InputError) as caught:
        load_mesh(path, **options)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.ply", "", "export it again"),
        ("empty.obj", "", "no faces"),
        ("noise.ply", "\x00\x01 no mesh", "cannot be read"),
        ("noise.stl", "\x00\x01 no mesh" * 20, "but is too short"),
        ("noise.glb", "no mesh at all, but long enough for a header", "cannot be read"),
        ("noise.obj", "f 1 2 3\n", "export"),
        ("nan.ply", ply(CORNERS * [1, np.nan, 1], FACES), "NaN"),
        ("infinite.ply", ply(CORNERS * [1, np.inf, 1], FACES), "NaN or infinite"),
        ("points.ply", ply(CORNERS, FACES[:0]), "no faces"),
        ("index.ply", ply(CORNERS, FACES + 3), "export it again"),
        ("photo.png", "not a mesh", "no mesh file"),
        (
            "lost.ply",
            ply(np.hstack([CORNERS, UV]), FACES, "float s,float t", "comment TextureFile lost.png"),
            "lost.png, which is not beside",
        ),
        (
            "up.ply",
            ply(np.hstack([CORNERS, UV]), FACES, "float s,float t", "comment TextureFile ../../secret.png"),
            "secret.png, which is not",
        ),
    ],
)
def test_bad_files_are_refused(name: str, content: str, reason: str, tmp_path):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    picture(tmp_path, "secret.png")
    (folder / name).write_text(content)
    assert reason in refused(folder / name)


def test_missing_and_truncated_files_are_refused(tmp_path):
    assert "not found" in refused(tmp_path / "none.ply")
    trimesh.creation.icosphere(radius=50).export(tmp_path / "ball.ply")
    path = tmp_path / "half.ply"
    path.write_bytes((tmp_path / "ball.ply").read_bytes()[:3000])
    assert "cannot be read" in refused(path)


def test_damaged_texture_is_refused(tmp_path):
    path = textured_ply(tmp_path)
    texture = tmp_path / "quarters.png"
    whole = texture.read_bytes()
    for damaged in (b"no picture", whole[: len(whole) // 2]):
        texture.write_bytes(damaged)
        assert "cannot be read" in refused(path)


def test_numbers_that_a_file_does_not_bring_are_refused(tmp_path):
    """A file of half a kilobyte that would become a billion zeros."""
    accessors = [{"componentType": 5126, "count": 10**9, "type": "VEC3"}]
    parts = {"meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}], "nodes": [{"mesh": 0}]}
    parts |= {"asset": {"version": "2.0"}, "accessors": accessors, "scenes": [{"nodes": [0]}], "scene": 0}
    header = json.dumps(parts).encode()
    header += b" " * (-len(header) % 4)
    path = tmp_path / "bomb.glb"
    length = 20 + len(header)
    path.write_bytes(struct.pack("<4sIII4s", b"glTF", 2, length, len(header), b"JSON") + header)
    with pytest.raises(InputError, match=r"bomb\.glb has 1000000000 numbers that it does not bring"):
        load_mesh(path, unit="m")
    path.with_suffix(".gltf").write_bytes(header)
    with pytest.raises(InputError, match="does not bring"):
        load_mesh(path.with_suffix(".gltf"), unit="m")


def test_a_part_that_is_shown_too_often_is_refused(tmp_path, monkeypatch):
    scene = trimesh.Scene()
    for k in range(20):
        scene.add_geometry(trimesh.creation.box((0.1, 0.1, 0.1)), geom_name="box", node_name=f"node{k}")
    scene.geometry = {"box": scene.geometry["box"]}
    for k in range(20):
        scene.graph.update(frame_to=f"copy{k}", matrix=np.eye(4), geometry="box")
    scene.export(tmp_path / "many.glb")
    monkeypatch.setattr(part, "MAX_FACES", 200)
    with pytest.raises(InputError, match=r"many\.glb has .* million faces"):
        load_mesh(tmp_path / "many.glb", unit="m")


def test_equal_textures_are_kept_once_and_large_ones_refused(tmp_path, monkeypatch):
    scene, picture = trimesh.Scene(), Image.effect_noise((64, 48), 50).convert("RGB")
    for k in range(3):
        box = trimesh.creation.box((0.1, 0.1, 0.1))
        box.visual = trimesh.visual.TextureVisuals(uv=np.random.default_rng(k).random((8, 2)), image=picture)
        box.apply_translation((0.2 * k, 0, 0))
        scene.add_geometry(box)
    scene.export(tmp_path / "boxes.glb")
    loaded = load_mesh(tmp_path / "boxes.glb", unit="m")
    assert loaded.texture.shape == (1, 48, 64, 3) and set(loaded.uv[:, 2]) == {0}
    monkeypatch.setattr(textures, "MAX_TEXELS_READ", 64 * 48)
    assert load_mesh(tmp_path / "boxes.glb", unit="m").texture.shape == (1, 48, 64, 3)  # it counts once
    monkeypatch.setattr(textures, "MAX_TEXELS_READ", 64 * 48 - 1)
    with pytest.raises(InputError, match="shrink them"):
        load_mesh(tmp_path / "boxes.glb", unit="m")


def test_the_unit_that_an_error_names_is_another_one(tmp_path):
    trimesh.creation.box((20000, 100, 100)).export(tmp_path / "crane.ply")
    with pytest.raises(InputError, match=r"crane\.ply is 20 m across.*; rescale the model"):
        load_mesh(tmp_path / "crane.ply", unit="mm")


def test_wrong_units_are_refused(tmp_path):
    path = tmp_path / "ball.ply"
    trimesh.creation.icosphere(radius=0.05).export(path)
    assert "looks like metres" in refused(path)
    assert diameter(load_mesh(path, unit="m").vertices) == pytest.approx(0.1, rel=1e-6)
    assert diameter(load_mesh(path, unit=0.1).vertices) == pytest.approx(0.01, rel=1e-6)
    trimesh.creation.icosphere(radius=50).export(path)
    assert "looks like millimetres" in refused(path, unit="m")
    with pytest.raises(InputError, match="choose one of mm, cm, m"):
        load_mesh(path, unit="inch")


def test_mesh_checks_its_arrays():
    mesh = make_mesh(CORNERS, FACES)
    with pytest.raises(ValueError, match="vertices of a mesh must be float32"):
        Mesh(CORNERS, mesh.faces, mesh.normals)
    with pytest.raises(ValueError, match="uv and texture"):
        make_mesh(CORNERS, FACES, uv=UV.astype(np.float32))


@pytest.mark.parametrize("seed", range(3))
def test_diameter_and_bounding_sphere(seed: int):
    rng = np.random.default_rng(seed)
    cloud = rng.normal(size=(400, 3)) * [1, 0.4, 2] + [5, -3, 1]
    assert diameter(cloud) == pytest.approx(pdist(cloud).max(), rel=1e-12)
    centre, radius = bounding_sphere(cloud)
    assert np.linalg.norm(cloud - centre, axis=1).max() <= radius * (1 + 1e-12)
    assert diameter(cloud) / 2 <= radius <= diameter(cloud) * np.sqrt(3 / 8) * 1.001  # Jung's theorem
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.7).vertices + rng.normal(size=3)
    assert bounding_sphere(ball)[1] == pytest.approx(0.7, rel=2e-3)


def test_flat_and_straight_sets_have_diameters():
    flat = np.random.default_rng(0).uniform(size=(50, 2)) @ np.array([[1.0, 2, 3], [0.5, -1, 0.2]])
    assert diameter(flat) == pytest.approx(pdist(flat).max(), rel=1e-9)
    line = np.linspace(0, 1, 20)[:, None] * [1.0, 2.0, 2.0]
    assert diameter(line) == pytest.approx(3.0, rel=1e-9)
    assert diameter(np.zeros((3, 3))) == 0
