"""Viewpoints, and the template files: their layout, their content and what an interruption leaves."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh

from picopose.commands.templates import main
from picopose.datasets import layouts
from picopose.rendering import render_templates
from picopose.rendering.mesh import files_named, hull_vertices, load_mesh, make_mesh
from picopose.rendering.mesh_digest import mesh_digest
from picopose.rendering.render_templates import Job, render_view
from picopose.rendering.renderer import Renderer
from picopose.rendering.viewpoints import object_poses, view_directions, view_poses
from picopose.utils import template_files
from picopose.utils.mesh_file import MeshFile
from tests.shared import shared


@pytest.mark.parametrize("count", [42, 162, 642])
def test_directions_cover_the_sphere_evenly(count: int):
    directions = view_directions(count)
    assert directions.shape == (count, 3)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-12)
    cosine = directions @ directions.T
    np.fill_diagonal(cosine, -1)
    nearest = np.degrees(np.arccos(cosine.max(axis=1)))
    # The directions' mean cell is a disc of this size; an even grid's neighbours are about so far apart.
    even = np.degrees(2 * np.arccos(1 - 2 / count))
    assert 0.8 * even < nearest.min() <= nearest.max() < 1.2 * even
    np.testing.assert_allclose(directions.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_array_equal(directions, view_directions(count))


def test_only_the_counts_of_an_icosphere_exist():
    with pytest.raises(ValueError, match="42, 162, 642"):
        view_directions(100)


@pytest.mark.parametrize("count", [42, 162])
def test_cameras_look_at_the_centre_and_stand_upright(count: int):
    centre = np.array([0.3, -0.2, 0.1])
    poses = view_poses(count, 0.4, centre)
    rotation, up = poses[:, :3, :3], poses[:, :3, 2]
    np.testing.assert_allclose(
        rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (count, 1, 1)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-12)
    np.testing.assert_allclose(
        rotation @ centre + poses[:, :3, 3], np.tile([0, 0, 0.4], (count, 1)), atol=1e-12
    )
    camera_in_object = -(rotation.transpose(0, 2, 1) @ poses[:, :3, 3:])[..., 0]
    np.testing.assert_allclose((camera_in_object - centre) / 0.4, view_directions(count), atol=1e-12)
    np.testing.assert_allclose(up[:, 0], 0, atol=1e-12)  # the object's z axis is vertical in every image ...
    assert (up[:, 1] < 1e-12).all()  # ... and points up, where it can be seen from the side


@pytest.mark.parametrize("count", [42, 162, 642])
def test_rotations_are_those_of_the_released_templates(count: int):
    with np.load(shared("reference/golden_viewpoints.npz")) as golden:
        np.testing.assert_allclose(
            view_poses(count, 1, np.zeros(3))[:, :3, :3], golden[f"views{count}"], atol=1e-9
        )


def test_cameras_stand_two_diagonals_of_the_box_away_and_aim_at_the_origin_unless_it_lies_far_off():
    sides = np.array([0.03, 0.04, 0.12])  # diagonal 0.13
    box = trimesh.creation.box(sides).vertices
    for offset, aim, looked_at in ((0.032, "origin", 0.0), (0.033, "origin", 0.033), (0.02, "centre", 0.02)):
        poses = object_poses(box + np.array([offset, 0, 0]), 42, aim=aim)
        seen = poses[:, :3, :3] @ [looked_at, 0, 0] + poses[:, :3, 3]
        np.testing.assert_allclose(seen, np.tile([0, 0, 0.26], (42, 1)), atol=1e-6)


SEEN_WHOLE = [("lmo", "models/*.ply", "mm"), ("meshes", "*.glb", "m")]


@pytest.mark.parametrize(("folder", "pattern", "unit"), [("mini", "models/*.ply", "mm"), *SEEN_WHOLE])
def test_no_view_of_any_model_touches_the_border(folder: str, pattern: str, unit: str):
    root = Path("data/mini") if folder == "mini" else shared(folder)
    files = sorted(root.glob(pattern))
    assert len(files) >= 8
    for file in files:
        corners = hull_vertices(load_mesh(file, unit=unit).vertices)
        poses = object_poses(corners, 162)
        xyz = np.einsum("vij,nj->vni", poses[:, :3, :3], corners) + poses[:, None, :3, 3]
        xyw = xyz @ np.array(template_files.K).T
        xy = xyw[..., :2] / xyw[..., 2:]
        assert xy.min() > 1, file
        assert (xy.max(axis=(0, 1)) < np.array(template_files.SIZE) - 2).all(), file


def write_ball(folder: Path, name: str = "ball", radius: float = 0.04) -> None:
    sphere = trimesh.creation.icosphere(subdivisions=2, radius=radius)
    colors = np.random.default_rng(5).integers(0, 255, (len(sphere.vertices), 4))
    folder.mkdir(parents=True, exist_ok=True)
    trimesh.Trimesh(sphere.vertices, sphere.faces, vertex_colors=colors, process=False).export(
        folder / f"{name}.ply"
    )


def run(data_dir: Path, *options: str) -> None:
    main(["--dataset", "toys", "--data_dir", str(data_dir), "--views", "42", *options])


def is_complete(data_dir: Path, name: str, n_views: int = 42) -> bool:
    mesh = MeshFile(data_dir / "toys" / f"{name}.ply", 1.0)
    job = Job(mesh, layouts.templates_dir(data_dir, "toys"), name, n_views, 1e-3)
    return render_templates.is_complete(job)


def snapshot(folder: Path) -> dict[Path, tuple[int, bytes]]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_files_hold_what_was_rendered(tmp_path):
    write_ball(tmp_path / "toys")
    run(tmp_path, "--processes", "1")
    sphere = trimesh.load(tmp_path / "toys" / "ball.ply", process=False)
    mesh = make_mesh(sphere.vertices, sphere.faces, colors=np.array(sphere.visual.vertex_colors[:, :3]))
    with Renderer() as renderer:
        expected = [render_view(renderer, mesh, pose) for pose in object_poses(mesh.vertices, 42)]
    templates = tmp_path / "templates" / "toys"
    assert {path.name for path in templates.iterdir()} == {"ball", "object_poses"}
    poses = np.load(templates / "object_poses" / "ball.npy")
    assert poses.shape == (42, 4, 4)
    np.testing.assert_allclose(poses[:, :3, 3], object_poses(mesh.vertices, 42)[:, :3, 3] * 1000, atol=1e-6)
    np.testing.assert_allclose(poses[:, :3, :3], object_poses(mesh.vertices, 42)[:, :3, :3], atol=1e-9)
    assert len(list((templates / "ball").iterdir())) == 84
    for view in range(42):
        bgra = cv2.imread(str(templates / "ball" / f"{view:06d}.png"), cv2.IMREAD_UNCHANGED)
        depth_mm = cv2.imread(str(templates / "ball" / f"{view:06d}_depth.png"), cv2.IMREAD_UNCHANGED)
        assert (bgra.shape, bgra.dtype, depth_mm.dtype) == ((480, 640, 4), np.uint8, np.uint16)
        np.testing.assert_array_equal(bgra[..., 2::-1], expected[view].rgb)
        np.testing.assert_array_equal(bgra[..., 3], np.where(expected[view].depth > 0, 255, 0))
        np.testing.assert_allclose(depth_mm, expected[view].depth * 1000, atol=0.501)


@pytest.mark.parametrize(
    ("dataset", "listing", "entry", "mesh"),
    [
        (
            "gso",
            "MegaPose-GSO/gso_models.json",
            {"obj_id": 7, "gso_id": "Ball"},
            "MegaPose-GSO/google_scanned_objects/models_normalized/Ball/meshes/model.obj",
        ),
        (
            "shapenet",
            "MegaPose-ShapeNetCore/shapenet_models.json",
            {"obj_id": 7, "shapenet_synset_id": "029", "shapenet_source_id": "a1"},
            "MegaPose-ShapeNetCore/shapenetcorev2/029/a1/models/model_normalized.obj",
        ),
    ],
)
def test_templates_of_training_sets(dataset: str, listing: str, entry: dict, mesh: str, tmp_path):
    (tmp_path / mesh).parent.mkdir(parents=True)
    trimesh.creation.icosphere(subdivisions=2, radius=0.5).export(tmp_path / mesh)
    (tmp_path / listing).write_text(json.dumps([entry]))
    main(["--dataset", dataset, "--data_dir", str(tmp_path), "--views", "42", "--processes", "1"])
    templates = tmp_path / "templates" / dataset
    depth = cv2.imread(str(templates / "000007" / "000007_depth.png"), cv2.IMREAD_UNCHANGED)
    # A unit of these meshes is 0.1 m: the ball is 100 mm wide, its box has a diagonal of 173.2 mm, and its
    # surface lies 50 mm before its middle, or a little less where it is flat. A count is 0.1 mm.
    assert 2964 <= depth[240, 320] <= 2994
    poses = np.load(templates / "object_poses" / "000007.npy")
    np.testing.assert_allclose(np.linalg.norm(poses[:, :3, 3], axis=1), 346.41, rtol=1e-5)  # mm


def test_interrupted_run_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    for name in ("a", "b"):
        write_ball(tmp_path / "toys", name, radius=0.01)
    templates, write, written = tmp_path / "templates" / "toys", cv2.imwrite, []

    def write_until_killed(path, *arguments):
        written.append(path)
        if len(written) > 84 + 30:  # in the middle of the second object
            raise KeyboardInterrupt
        return write(path, *arguments)

    monkeypatch.setattr(cv2, "imwrite", write_until_killed)
    with pytest.raises(SystemExit, match="130"):
        run(tmp_path, "--processes", "1")
    assert "stopped: the same command continues from here" in capsys.readouterr().err
    assert {path.name for path in (templates / "object_poses").iterdir()} == {"a.npy", "a.sha256"}
    assert not (templates / "b").exists()
    first = snapshot(templates / "a")
    assert len(first) == 84
    monkeypatch.setattr(cv2, "imwrite", write)
    run(tmp_path, "--processes", "1")
    assert "1 of 2 objects are done" in capsys.readouterr().out
    assert snapshot(templates / "a") == first
    assert len(list((templates / "b").iterdir())) == 84
    assert {path.name for path in templates.iterdir()} == {"a", "b", "object_poses"}
    everything = snapshot(templates)
    run(tmp_path)
    assert snapshot(templates) == everything


def test_incomplete_objects_are_rendered_again(tmp_path):
    write_ball(tmp_path / "toys", radius=0.01)
    run(tmp_path, "--processes", "1")
    templates = tmp_path / "templates" / "toys"
    poses = templates / "object_poses" / "ball.npy"
    for damage in (
        lambda: (templates / "ball" / "000003_depth.png").unlink(),
        lambda: poses.write_bytes(poses.read_bytes()[:500]),
        lambda: np.save(poses, np.load(poses)[:7]),
    ):
        damage()
        assert not is_complete(tmp_path, "ball")
        run(tmp_path, "--processes", "1")
        assert is_complete(tmp_path, "ball")
    assert not is_complete(tmp_path, "ball", n_views=162)


def test_templates_of_another_mesh_or_unit_are_rendered_again(tmp_path):
    write_ball(tmp_path / "toys", radius=0.01)
    poses = tmp_path / "templates" / "toys" / "object_poses" / "ball.npy"
    for radius, options in ((0.01, ()), (0.02, ()), (0.02, ("--unit", "mm"))):
        write_ball(tmp_path / "toys", radius=radius)
        if options:
            with pytest.raises(SystemExit):  # too small in mm: so the old templates were not taken
                run(tmp_path, "--processes", "1", *options)
            continue
        run(tmp_path, "--processes", "1", *options)
        distance = 2 * 2000 * radius * np.sqrt(3)  # mm: two diagonals of the ball's box
        np.testing.assert_allclose(np.linalg.norm(np.load(poses)[:, :3, 3], axis=1), distance, rtol=1e-5)
        assert is_complete(tmp_path, "ball")


def test_templates_without_a_digest_are_accepted(tmp_path):
    write_ball(tmp_path / "toys", radius=0.01)
    run(tmp_path, "--processes", "1")
    (tmp_path / "templates" / "toys" / "object_poses" / "ball.sha256").unlink()
    write_ball(tmp_path / "toys", radius=0.02)
    assert is_complete(tmp_path, "ball")
    before = snapshot(tmp_path / "templates")
    run(tmp_path, "--processes", "1")
    assert snapshot(tmp_path / "templates") == before


OBJ = "mtllib my look.mtl\r\nv 0 0 0\n"
PLY = "ply\nformat ascii 1.0\ncomment TextureFile skin.png\nend_header\n"
GLTF = '{"buffers": [{"uri": "data:;base64,AAAA"}, {"uri" : "shape.bin"}], "images": [{"uri": "skin.png"}]}'
MTL = "newmtl a\nKd 1 1 1\n  map_Kd ../images/skin.png\n"
PARTS = {  # mesh file, its content, the files that it consists of beside itself
    "a/a.obj": (OBJ, ["a/my look.mtl", "images/skin.png"]),
    "a/b.ply": (PLY, ["a/skin.png"]),
    "a/c.gltf": (GLTF, ["a/shape.bin", "a/skin.png"]),
}


@pytest.mark.parametrize("mesh", PARTS)
def test_the_digest_covers_materials_and_textures(tmp_path, mesh):
    text, parts = PARTS[mesh]
    others = ["a/my look.mtl", "images/skin.png", "a/skin.png", "a/shape.bin", "a/other.png"]
    for name in (mesh, *others):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(MTL if name.endswith(".mtl") else text if name == mesh else "x")
    assert [path.resolve() for path in files_named(tmp_path / mesh)] == [tmp_path / name for name in parts]
    first = mesh_digest(tmp_path / mesh, 42)
    assert mesh_digest(tmp_path / mesh, 162) != first == mesh_digest(tmp_path / mesh, 42)
    for name in (mesh, *others):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b"\n")
        assert (mesh_digest(tmp_path / mesh, 42) != first) == (name == mesh or name in parts), name
        first = mesh_digest(tmp_path / mesh, 42)


def test_folders_of_the_user_stay(tmp_path, capsys):
    write_ball(tmp_path / "toys", radius=0.01)
    (tmp_path / "toys" / "ball").mkdir()  # beside ball.ply
    own = [tmp_path / "toys" / "ball" / "000000.png", tmp_path / "templates" / "toys" / "ball" / "notes.txt"]
    for path in own:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    for dataset in (str(tmp_path / "toys"), "../toys", "."):
        with pytest.raises(SystemExit) as ended:
            run(tmp_path, "--processes", "1", "--dataset", dataset)
        assert ended.value.code == 2
        assert f"error: data set {dataset!r}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(tmp_path, "--processes", "1")
    assert f"error: {own[1]} is no template image" in capsys.readouterr().err
    assert [path.read_text() for path in own] == ["mine", "mine"]
    assert [path.name for path in own[1].parent.parent.iterdir()] == ["ball"]  # found out before rendering
    own[1].unlink()
    run(tmp_path, "--processes", "1", "--dataset", "toys/")
    assert len(list(own[1].parent.iterdir())) == 84


def test_bad_mesh_is_one_line_and_leaves_the_others_complete(tmp_path, capsys):
    write_ball(tmp_path / "toys", "good", radius=0.01)
    (tmp_path / "toys" / "bad.ply").write_text("no mesh")
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, "--processes", "2")
    assert ended.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert str(tmp_path / "toys" / "bad.ply") in last
    templates = tmp_path / "templates" / "toys"
    assert is_complete(tmp_path, "good")
    assert not (templates / "bad").exists()


def test_unit_of_a_folder_of_meshes_can_be_given(tmp_path, capsys):
    write_ball(tmp_path / "toys", radius=40)
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, "--processes", "1")
    assert ended.value.code == 2
    assert "looks like millimetres" in capsys.readouterr().err
    run(tmp_path, "--processes", "1", "--unit", "mm")
    poses = np.load(tmp_path / "templates" / "toys" / "object_poses" / "ball.npy")
    np.testing.assert_allclose(poses[:, 2, 3], 2 * 80 * np.sqrt(3), rtol=1e-3)
