"""Data sets of the user's meshes: read, centred, with one texture each, before photos; bad input is told."""

import json
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from PIL import Image

from picopose.datasets.bop.test_set import BopTestSet
from picopose.rendering.mesh import Mesh, load_mesh, make_mesh
from picopose.rendering.one_texture import with_one_texture
from picopose.rendering.ply_writer import write_ply
from picopose.rendering.procedural import solids
from picopose.rendering.procedural.painting import paint
from picopose.rendering.renderer import Renderer
from picopose.utils.errors import InputError
from tools.mini_set import make_mini, photos
from tools.mini_set.make_mini import _schedule
from tools.mini_set.own_meshes import read_objects
from tools.mini_set.scenes import Setting, compose

K = np.array([[300, 0, 79.5], [0, 300, 59.5], [0, 0, 1.0]])
RED, GREEN, WHITE = (220, 30, 40), (20, 200, 60), (255, 255, 255)


def picture(*colours) -> np.ndarray:
    """(32, 32, 3) uint8: stripes of colours, from above."""
    return np.repeat(np.uint8(colours), 32 // len(colours), axis=0)[:, None].repeat(32, axis=1)


def square(left: float, **look) -> Mesh:
    """A square of 10 cm that faces the camera, its left side at `left` m; uv (4, 2) may be given."""
    corners = np.array([(0, 0, 0), (0.1, 0, 0), (0.1, 0.1, 0), (0, 0.1, 0)])
    corners[:, 0] += left
    return make_mesh(corners, np.array([(0, 1, 2), (0, 2, 3)]), **look)


def layered(uv, layers, **look) -> Mesh:
    """Squares side by side; uv: per square (4, 3), layers: textures."""
    count = len(uv)
    parts = [square(0.11 * k - 0.055 * count) for k in range(count)]
    return Mesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + np.int32(4 * k) for k, part in enumerate(parts)]),
        np.concatenate([part.normals for part in parts]),
        uv=np.concatenate(uv).astype(np.float32),
        texture=np.stack(layers),
        **look,
    )


def corners(layer: float, right: float = 1, top: float = 1) -> np.ndarray:
    return np.array([(0, 0, layer), (right, 0, layer), (right, top, layer), (0, top, layer)])


def drawn(mesh: Mesh) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3] = 0, -0.05, 0.7
    with Renderer() as renderer:
        return renderer.render([(mesh, pose)], K, 160, 120).rgb.astype(int)


MANY = {
    "two layers": layered([corners(0), corners(1)], [picture(RED, GREEN), picture(GREEN, WHITE)]),
    "a plain part": layered(
        [corners(0), corners(-1)], [picture(RED, GREEN)], colors=np.uint8([WHITE] * 4 + [GREEN] * 4)
    ),
    "tinted": layered([corners(0), corners(0)], [picture(RED, WHITE)], colors=np.uint8([GREEN] * 8)),
    "repeated": layered([corners(0, 2, 3), corners(1)], [picture(RED, GREEN), picture(GREEN, WHITE)]),
}


@pytest.mark.parametrize("kind", MANY)
def test_several_textures_become_one_that_looks_the_same_and_survives_the_file(kind, tmp_path):
    one = with_one_texture(MANY[kind], "here")
    assert one.texture.ndim == 3 and one.uv.shape[1] == 2 and one.colors is None
    write_ply(tmp_path / "one.ply", one)
    apart = np.abs(drawn(MANY[kind]) - drawn(load_mesh(tmp_path / "one.ply", unit="mm")))
    assert (apart.max(axis=-1) > 12).mean() < 0.01  # texels along the seams are mixed differently
    assert drawn(one).max() > 150


def test_a_single_texture_is_kept_as_it_is_and_colours_stay():
    plain = layered([corners(0, 300, 86)], [picture(RED, GREEN)])
    one = with_one_texture(plain, "here")
    assert np.array_equal(one.texture, picture(RED, GREEN)) and one.uv.max() == 300
    tinted = with_one_texture(replace(plain, colors=np.uint8([(255, 0, 255)] * 4)), "here")
    assert np.array_equal(tinted.texture, picture((220, 0, 40), (20, 0, 60))) and tinted.uv.max() == 300
    assert np.array_equal(with_one_texture(square(0), "here").colors, np.full((4, 3), 180))


def test_textures_that_one_picture_cannot_hold_are_refused():
    huge = layered([corners(0, 300, 300), corners(1)], [picture(RED), picture(GREEN)])
    with pytest.raises(InputError, match=r"thing\.glb has too many or too large textures .*: bake"):
        with_one_texture(huge, "thing.glb")


def write_box(path, size=(0.1, 0.06, 0.04), shift=(0.0, 0.0, 0.0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    box = trimesh.creation.box(size)
    box.apply_translation(shift)
    box.export(path)
    return path


def test_objects_are_sorted_centred_and_in_metres(tmp_path):
    write_box(tmp_path / "a/cup.glb", shift=(1, 2, 3))
    write_box(tmp_path / "a/bolt.stl", size=(100, 60, 40))
    extra = write_box(tmp_path / "b/apple.obj")
    found = read_objects([tmp_path / "a", extra])
    assert [thing.name for thing in found] == ["apple", "bolt", "cup"]
    for thing in found:
        assert np.allclose(np.ptp(thing.mesh.vertices, axis=0), (0.1, 0.06, 0.04), atol=1e-6)
        assert np.allclose(thing.mesh.vertices.min(axis=0), (-0.05, -0.03, -0.02), atol=1e-6)
        assert not thing.discrete and not thing.continuous


def test_symmetries_move_with_the_origin(tmp_path):
    write_box(tmp_path / "obj_000003.ply", size=(40, 40, 100), shift=(10, 20, 30))
    half_turn = [-1, 0, 0, 20, 0, -1, 0, 40, 0, 0, 1, 0, 0, 0, 0, 1]  # about x = 10, y = 20
    axis = {"axis": [0, 0, 1], "offset": [11, 20, 0]}  # 1 mm beside the middle
    info = {"diameter": 115.0, "symmetries_discrete": [half_turn], "symmetries_continuous": [axis]}
    (tmp_path / "models_info.json").write_text(json.dumps({"3": info}))
    (thing,) = read_objects([tmp_path])
    assert thing.continuous == ((0, 0, 1),)
    assert np.allclose(thing.mesh.vertices.max(axis=0), (0.019, 0.02, 0.05), atol=1e-6)
    assert np.allclose(thing.discrete[0], np.diag([-1, -1, 1, 1]) + np.eye(4, k=3) * -0.002)


def test_bad_meshes_are_told(tmp_path):
    with pytest.raises(InputError, match=r"--meshes .*: no mesh \(.*\) in this folder; pass another"):
        read_objects([tmp_path])
    with pytest.raises(InputError, match=r"mesh .*absent\.glb not found"):
        read_objects([tmp_path / "absent.glb"])
    one, other = write_box(tmp_path / "a/cup.glb"), write_box(tmp_path / "b/cup.ply")
    with pytest.raises(InputError, match="have the same name: rename one"):
        read_objects([one, other])
    with pytest.raises(InputError, match=r"cup\.glb is 1\.2 m across: .* up to 0\.5 m fit"):
        read_objects([write_box(tmp_path / "c/cup.glb", (1.2, 0.1, 0.1))], "m")


@pytest.fixture
def small(monkeypatch):
    """Images of few pixels under few lights."""
    monkeypatch.setattr(make_mini, "WIDTH", 160)
    monkeypatch.setattr(make_mini, "HEIGHT", 120)
    monkeypatch.setattr(photos, "LAMP_SAMPLES", 2)
    monkeypatch.setattr(photos, "ROOM_SAMPLES", 3)
    monkeypatch.setattr(make_mini, "K", np.diag([0.25, 0.25, 1]) @ make_mini.K)


def test_the_command_makes_a_set_that_the_reader_understands(small, tmp_path):
    write_box(tmp_path / "things/cup.glb")
    write_box(tmp_path / "things/apple.glb", size=(0.05, 0.05, 0.07))
    (tmp_path / "views").mkdir()
    Image.fromarray(picture(RED, GREEN)).save(tmp_path / "views/one.png")
    arguments = ["--meshes", str(tmp_path / "things"), "--backgrounds", str(tmp_path / "views")]
    make_mini.main([*arguments, "--images", "2", "--out", str(tmp_path / "own")])
    assert json.loads((tmp_path / "own/models/names.json").read_text()) == {"1": "apple", "2": "cup"}
    seen = BopTestSet(tmp_path, "own")
    assert len(seen) == 2 and set(seen.objects) == {1, 2}


def test_photos_show_in_their_shares_of_the_scenes_and_distances_vary(tmp_path):
    Image.fromarray(np.full((40, 30, 3), (10, 220, 20), np.uint8)).save(tmp_path / "green.png")
    thing = paint([(solids.box((0.1, 0.06, 0.04)), [RED])])
    setting = Setting([tmp_path / "green.png"], (0.9, 1.6))
    scenes = [compose(np.random.default_rng(seed), [(1, thing)], 0, setting) for seed in range(8)]
    tables, rooms = ([green(scene.surroundings[k].mesh) for scene in scenes] for k in (0, 1))
    assert (sum(tables), sum(rooms)) == (6, 5)  # of 4 and 6.4 expected; the seeds decide
    far = [np.linalg.norm((scene.cam_from_world @ [*scene.centre, 1])[:3]) for scene in scenes]
    assert 0.49 < min(far) < 0.75 and 0.95 < max(far) < 1.41


def green(mesh: Mesh) -> bool:
    """Whether half the texture is green, as the photo is."""
    red, green, blue = np.median(mesh.texture.reshape(-1, 3), axis=0)
    return green > max(red, blue) + 25


def test_far_objects_are_in_focus():
    thing = paint([(solids.box((0.1, 0.06, 0.04)), [RED])])
    near = compose(np.random.default_rng(1), [(1, thing)], 0)
    back = np.eye(4)
    back[2, 3] = 1
    far = replace(near, cam_from_world=back @ near.cam_from_world)
    assert photos.sharp_until(near) == photos.FAR
    assert photos.sharp_until(far) > (far.cam_from_world @ [*far.centre, 1])[2] + 0.3


def test_a_schedule_of_fewer_objects_than_places_ends():
    assert all(sorted(set(chosen)) == [1, 2] for chosen in _schedule(np.random.default_rng(0), 2, 8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backgrounds", "."], "--backgrounds without --meshes"),
        (["--meshes", "cup.glb", "--backgrounds", "."], "--backgrounds .: no .jpeg or .jpg or .png in it"),
        (["--meshes", "cup.glb", "--backgrounds", "bad"], "bad/broken.jpg cannot be read"),
    ],
)
def test_impossible_options_give_one_line(small, arguments, message, tmp_path, monkeypatch, capsys):
    write_box(tmp_path / "cup.glb")
    monkeypatch.chdir(tmp_path)
    if "bad" in arguments:
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad/broken.jpg").write_bytes(b"no photo")
    with pytest.raises(SystemExit) as ending:
        make_mini.main([*arguments, "--images", "8", "--out", "own"])
    lines = capsys.readouterr().err.splitlines()
    assert ending.value.code == 2 and lines[-1].startswith("error: ") and message in lines[-1]
    assert not (tmp_path / "own").exists()
