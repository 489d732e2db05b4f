"""BOP sets as people have them: several cameras, other names of photos, matrices as lists of rows."""

import shutil

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from picopose.datasets.bop.objects import read_objects, read_symmetry
from picopose.datasets.bop.test_set import BopTestSet
from picopose.datasets.layouts import find_meshes
from picopose.rendering.mesh import diameter, load_mesh
from picopose.utils.errors import InputError
from tests.small_bop import HEIGHT, WIDTH, K, dump, load, photo, write_set

TABLES = ("camera", "gt", "gt_info")


def rename_photos(folder, name):
    """Gives the photos of `write_set` other names; `name` has the place of the number."""
    scene = folder / "test/000001"
    for im_id in (3, 7):
        target = scene / name.format(im_id)
        target.parent.mkdir(exist_ok=True)
        (scene / f"rgb/{im_id:06d}.png").rename(target.with_suffix(".png"))
        Image.open(target.with_suffix(".png")).convert("L" if "gray" in name else "RGB").save(target, None)


@pytest.mark.parametrize(
    "name", ["gray/{:06d}.jpg", "rgb/{:06d}.JPG", "rgb/{}.png", "rgb/{:03d}.TIF", "gray/{:08d}.tiff"]
)
def test_photos_are_found_under_other_names(tmp_path, name):
    rename_photos(write_set(tmp_path), name)
    found = BopTestSet(tmp_path, "toy").images[0].path
    assert found.suffix == "." + name.split(".")[1] or found.with_suffix("." + name.split(".")[1]).is_file()
    assert BopTestSet(tmp_path, "toy")[0].rgb.shape == (3, HEIGHT, WIDTH)


def test_a_scene_may_be_unpadded(tmp_path):
    folder = write_set(tmp_path)
    (folder / "test/000001").rename(folder / "test/1")
    assert BopTestSet(tmp_path, "toy")[0].scene_id == 1


def give_cameras(folder, cameras, photos):
    """Splits the scene by camera: tables of each, K of the n-th times n; photos: where they lie."""
    scene = folder / "test/000001"
    dump(scene / "scene_gt_info.json", {})
    for name in TABLES:
        content = load(scene / f"scene_{name}.json")
        for number, camera in enumerate(cameras, start=1):
            if name == "camera":
                focal = [number * K[0], *K[1:4], number * K[4], *K[5:]]
                content = {key: {"cam_K": focal} for key in ("3", "7")}
            dump(scene / f"scene_{name}_{camera}.json", content)
        (scene / f"scene_{name}.json").unlink()
    for camera, place in zip(cameras, photos, strict=True):
        (scene / place).mkdir(exist_ok=True)
        for im_id in (3, 7):
            Image.fromarray(photo(im_id + len(camera))).save(scene / place / f"{im_id:06d}.png")
    if "rgb" not in photos:
        shutil.rmtree(scene / "rgb")


LAYOUTS = {
    "IPD": (["cam1", "cam2"], ["rgb_cam1", "rgb_cam2"], "cam1"),
    "IPD with its scanner": (["cam1", "photoneo"], ["rgb_cam1", "rgb_photoneo"], "photoneo"),
    "HOT3D": (["gray1", "gray2", "rgb"], ["gray1", "gray2", "rgb"], "rgb"),
    "HOT3D on a headset": (["gray1", "gray2"], ["gray1", "gray2"], "gray1"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sets_with_several_cameras(tmp_path, layout, caplog):
    caplog.set_level("INFO")
    cameras, photos, first = LAYOUTS[layout]
    give_cameras(write_set(tmp_path), cameras, photos)
    test_set = BopTestSet(tmp_path, "toy")
    assert test_set.images[0].path.parent.name == dict(zip(cameras, photos, strict=True))[first]
    assert f"of the cameras {', '.join(cameras)}, {first} is taken in 1 scenes; choose another" in caplog.text
    caplog.clear()
    for number, (camera, place) in enumerate(zip(cameras, photos, strict=True), start=1):
        image = BopTestSet(tmp_path, "toy", camera=camera).images[0]
        assert image.path.parent.name == place and image.K[0, 0] == number * K[0]
    assert "is taken in" not in caplog.text


def test_a_camera_alone_may_be_named_by_its_tables_only(tmp_path, caplog):
    give_cameras(write_set(tmp_path), ["cam1"], ["rgb"])
    assert BopTestSet(tmp_path, "toy").images[0].path.parent.name == "rgb"
    assert "is taken" not in caplog.text


@pytest.mark.parametrize(
    ("named", "problem"),
    [(True, "no camera 'cam9': there are cam1, cam2"), (False, "its camera has no name")],
)
def test_a_camera_that_is_not_there_is_refused(tmp_path, named, problem):
    folder = write_set(tmp_path)
    if named:
        give_cameras(folder, ["cam1", "cam2"], ["rgb_cam1", "rgb_cam2"])
    with pytest.raises(InputError, match=problem):
        BopTestSet(tmp_path, "toy", camera="cam9")


def test_a_lens_that_is_no_pinhole_is_told(tmp_path):
    scene = write_set(tmp_path) / "test/000001"
    dump(scene / "scene_camera.json", {key: {"cam_model": {"projection": "fisheye"}} for key in ("3", "7")})
    with pytest.raises(InputError, match="image 3 has no cam_K: undistort the photos"):
        BopTestSet(tmp_path, "toy")


def test_a_camera_times_a_number_is_that_camera(tmp_path):
    """As in files for images: what is seen does not change with it."""
    scene = write_set(tmp_path) / "test/000001"
    doubled = [2 * value for value in K]
    dump(scene / "scene_camera.json", {"3": {"cam_K": doubled}, "7": {"cam_K": K}})
    first, second = BopTestSet(tmp_path, "toy").images
    assert first.K.tolist() == second.K.tolist() == np.reshape(K, (3, 3)).tolist()


def test_matrices_may_be_lists_of_rows(tmp_path):
    folder = write_set(tmp_path)
    dump(
        folder / "test/000001/scene_camera.json",
        {"003": {"cam_K": np.reshape(K, (3, 3)).tolist()}, "7": {"cam_K": K}},
    )
    turned = [[-1, 0, 0, 4], [0, -1, 0, 6], [0, 0, 1, 0], [0, 0, 0, 1]]
    info = {"diameter": 50, "symmetries_discrete": [turned], "symmetries_continuous": [{"axis": [0, 3, 0]}]}
    dump(folder / "models/models_info.json", {"2": info, "5": {"diameter": 80}})
    test_set = BopTestSet(tmp_path, "toy")
    assert torch.equal(test_set.images[0].K, torch.tensor(K).reshape(3, 3))
    symmetry = test_set.objects[2].symmetry
    (motion,), ((axis, point),) = symmetry.discrete * [1, 1, 1, 1000], symmetry.axes
    assert np.allclose(motion[:3], turned[:3]) and symmetry.discrete[0, 3].tolist() == [0, 0, 0, 1]
    assert axis.tolist() == [0, 1, 0] and point.tolist() == [0, 0, 0]


def test_symmetries_of_a_mesh_are_in_metres(tmp_path):
    turned = [-1, 0, 0, 4, 0, -1, 0, 6, 0, 0, 1, 0, 0, 0, 0, 1]
    axis = {"axis": [0, 0, 2], "offset": [10, 20, 30]}
    info = {"diameter": 50, "symmetries_discrete": [turned], "symmetries_continuous": [axis]}
    dump(tmp_path / "models_info.json", {"2": info})
    symmetry = read_symmetry(tmp_path / "obj_000002.ply")
    assert symmetry.discrete[0, :3, 3] == pytest.approx([0.004, 0.006, 0])
    ((direction, point),) = symmetry.axes
    assert direction.tolist() == [0, 0, 1] and point == pytest.approx([0.01, 0.02, 0.03])


IMPOSSIBLE = {
    "last row is not 0 0 0 1": {"symmetries_discrete": [[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2]]},
    "no rotation": {"symmetries_discrete": [[-1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]]},
    "16 finite numbers": {"symmetries_discrete": [[float("nan")] * 16]},
    "1001 symmetries_discrete": {"symmetries_discrete": [np.eye(4).reshape(-1).tolist()] * 1001},
    "axis is zero": {"symmetries_continuous": [{"axis": [0, 0, 0], "offset": [0, 0, 0]}]},
    "no direction": {"symmetries_continuous": [{"axis": [1e299, 1e299, 0], "offset": [0, 0, 0]}]},
    "offset must be 3": {"symmetries_continuous": [{"axis": [0, 0, 1], "offset": None}]},
    "diameter inf|finite number, not inf": {"diameter": 1e999},
    "diameter -5": {"diameter": -5},
    "metres where mm": {"diameter": 0.05},
    "finite number, not 1000000": {"diameter": 10**400},
}


@pytest.mark.parametrize("problem", IMPOSSIBLE)
def test_objects_that_cannot_be_are_refused(tmp_path, problem):
    dump(tmp_path / "models_info.json", {"2": {"diameter": 50} | IMPOSSIBLE[problem]})
    with pytest.raises(InputError, match=f"models_info.json: object 2.*({problem})"):
        read_objects(tmp_path)


@pytest.mark.parametrize("key", ["9" * 4000, "x", "-1", "", "1.5"])
def test_a_key_that_is_no_number_is_refused(tmp_path, key):
    dump(tmp_path / "models_info.json", {key: {"diameter": 50}})
    with pytest.raises(InputError, match=r"models_info\.json.*(no table by object|must be an integer)"):
        read_objects(tmp_path)


def test_an_object_that_is_listed_twice_is_refused(tmp_path):
    dump(tmp_path / "models_info.json", {"2": {"diameter": 50}, "002": {"diameter": 60}})
    with pytest.raises(InputError, match="lists object 2 twice"):
        read_objects(tmp_path)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_gltf_models_are_in_the_unit_that_their_listed_size_says(tmp_path, scale):
    folder = write_set(tmp_path)
    for obj_id, side in ((2, 30), (5, 40)):
        (folder / f"models/obj_{obj_id:06d}.ply").unlink()
        box = trimesh.creation.box(3 * [scale * side / np.sqrt(3)])
        box.export(folder / f"models/obj_{obj_id:06d}.glb")
    dump(folder / "models/models_info.json", {"2": {"diameter": 30}, "5": {"diameter": 40}})
    sizes = [
        diameter(load_mesh(file.path, unit=file.unit).vertices)
        for file in find_meshes(tmp_path, "toy").values()
    ]
    assert sizes == pytest.approx([0.03, 0.04], rel=1e-5)
    assert BopTestSet(tmp_path, "toy").objects[5].model_path.name == "obj_000005.glb"
    dump(folder / "models/models_info.json", {"2": {"diameter": 30}, "5": {"diameter": 400}})
    with pytest.raises(InputError, match=r"obj_000005\.glb is .* lists a diameter of 400 mm"):
        load_mesh(
            folder / "models/obj_000005.glb", unit=find_meshes(folder.parent, folder.name)["000005"].unit
        )
