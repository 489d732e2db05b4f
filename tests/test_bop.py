"""BOP test sets: every image kind, which detections a target gets, and what is refused."""

import re

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from picopose.datasets.bop.objects import read_objects
from picopose.datasets.bop.test_set import BopTestSet
from picopose.datasets.layouts import find_detections
from picopose.utils.errors import InputError
from tests.masks import whole
from tests.shared import shared
from tests.small_bop import HEIGHT, WIDTH, K, dump, load, photo, write_set


@pytest.mark.parametrize(
    ("image", "bits", "tolerance"),
    [
        ("rgb/{:06d}.png", 8, 0),
        ("rgb/{:06d}.jpg", 8, 8),
        ("gray/{:06d}.tif", 8, 0),
        ("gray/{:06d}.tif", 16, 0),
        ("gray/{:06d}.png", 16, 0),
    ],
)
def test_every_kind_of_image_becomes_rgb(tmp_path, image, bits, tolerance):
    write_set(tmp_path, image=image, bits=bits)
    frame = BopTestSet(tmp_path, "toy")[0]
    expected = photo(3, grey=image.startswith("gray"))
    expected = np.broadcast_to(expected.reshape(HEIGHT, WIDTH, -1), (HEIGHT, WIDTH, 3)).transpose(2, 0, 1)
    assert frame.rgb.dtype == torch.uint8 and frame.rgb.shape == (3, HEIGHT, WIDTH)
    assert np.abs(frame.rgb.numpy().astype(int) - expected).max() <= tolerance


def test_targets_get_their_best_detections_or_the_best_of_the_image(tmp_path):
    write_set(tmp_path)
    test_set = BopTestSet(tmp_path, "toy")
    frames = [test_set[index] for index in range(len(test_set))]
    assert [(frame.scene_id, frame.im_id) for frame in frames] == [(1, 3), (1, 7)]
    first, second = map(test_set.start, frames)
    assert first.obj_id.tolist() == [2, 2, 5]  # object 5 is wanted once and was not detected
    assert first.group.tolist() == [0, 1, 2]
    assert first.score.tolist() == pytest.approx([0.9, 0.5, 0.9])
    assert first.box[0].tolist() == [30, 20, 50, 28]
    masks = whole(first.mask, HEIGHT, WIDTH)
    assert masks.sum((1, 2)).tolist() == [160, 120, 160] and masks[0, 20:28, 30:50].all()
    assert first.seconds == 0.75 and second.seconds == 0.25
    assert torch.equal(frames[0].K, torch.tensor(K).reshape(3, 3))
    assert second.obj_id.tolist() == [5]


def test_the_stored_pixels_count_whatever_the_orientation_tag_says(tmp_path):
    folder = write_set(tmp_path)
    expected = BopTestSet(tmp_path, "toy")[0]
    path = folder / "test/000001/rgb/000003.png"
    with Image.open(path) as image:
        image.load()
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = 6
    image.save(path, exif=exif)
    test_set = BopTestSet(tmp_path, "toy")
    found = test_set[0]
    assert torch.equal(found.rgb, expected.rgb)
    assert test_set.start(found).mask[0].box.tolist() == [30, 20, 50, 28]


def test_an_image_without_detections_begins_with_none(tmp_path):
    folder = write_set(tmp_path)
    test_set = BopTestSet(tmp_path, "toy", detections=dump(folder / "none.json", []))
    found = test_set.start(test_set[0])
    assert len(found) == 0 and found.mask == () and found.box.shape == (0, 4)
    assert found.seconds == 0


@pytest.mark.parametrize(
    ("name", "split", "models"),
    [
        ("tless", "test_primesense", "models_cad"),
        ("hb", "test_primesense", "models"),
        ("itodd", "test", "models"),
        ("other", "test_kinect", "models"),
    ],
)
def test_folders_of_the_data_sets(tmp_path, name, split, models):
    write_set(tmp_path, name, split=split, models=models)
    test_set = BopTestSet(tmp_path, name)
    assert test_set.split == split and test_set[0].im_id == 3
    assert test_set.objects[5].model_path == tmp_path / name / models / "obj_000005.ply"


def test_objects_are_in_metres(tmp_path):
    write_set(tmp_path)
    test_set = BopTestSet(tmp_path, "toy")
    assert list(test_set.objects) == [2, 5]
    assert test_set.objects[5].diameter == pytest.approx(0.08)
    ((axis, point),) = test_set.objects[5].symmetry.axes
    assert axis.tolist() == [0, 0, 1]
    assert point == pytest.approx([0.001, 0.002, 0.003])


@pytest.mark.parametrize(("name", "expected"), [("toy", "2"), ("lmo", "benchvise"), ("lm", "benchvise")])
def test_objects_have_names_listed_or_not(tmp_path, name, expected):
    folder = write_set(tmp_path, name)
    assert read_objects(folder / "models")[2].name == expected
    dump(folder / "models/models_info.json", {"2": {"diameter": 50, "name": "mug"}, "3": {"diameter": 50}})
    found = read_objects(folder / "models")
    assert found[2].name == "mug" and found[3].name == "3"


def test_discrete_symmetries_map_the_object_onto_itself(tmp_path):
    folder = write_set(tmp_path)
    turned = [-1, 0, 0, 4, 0, -1, 0, 6, 0, 0, 1, 0, 0, 0, 0, 1]
    dump(folder / "models/models_info.json", {"2": {"diameter": 50, "symmetries_discrete": [turned]}})
    (matrix,) = read_objects(folder / "models")[2].symmetry.discrete
    assert matrix @ [0.002, 0.003, 0, 1] == pytest.approx([0.002, 0.003, 0, 1])


def camera(scene, cam_K):
    dump(scene / "scene_camera.json", {im_id: {"cam_K": cam_K} for im_id in ("3", "7")})


BAD_CAMERAS = {
    "must be 9 finite numbers": [[80, 0, 31, 0, 80, 23], "K", None, [float("nan"), *K[1:]], ["80", *K[1:]]],
    "must be positive": [[-80, *K[1:]], [*K[:4], 0, *K[5:]]],
    "no camera matrix": [np.reshape(K, (3, 3)).T.reshape(-1).tolist(), [1] * 9],
    "focal lengths": [[0.9, 0, 0.5, 0, 0.9, 0.5, 0, 0, 1], [1e6, *K[1:]]],
    "principal point": [[*K[:2], 1000, *K[3:]], [*K[:5], -300, *K[6:]]],
}


@pytest.mark.parametrize(
    ("problem", "cam_K"), [(problem, K) for problem, cases in BAD_CAMERAS.items() for K in cases]
)
def test_a_camera_that_cannot_be_is_refused(tmp_path, problem, cam_K):
    scene = write_set(tmp_path) / "test/000001"
    camera(scene, cam_K)
    with pytest.raises(InputError, match=rf"000003\.png.*{problem}|scene_camera\.json: image 3: .*{problem}"):
        BopTestSet(tmp_path, "toy")[0]


def edit(path, change):
    content = load(path)
    change(content)
    dump(path, content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    r"toy not found.*data_dir.*: other": lambda f: f.rename(f.parent / "other"),
    r"toy/test not found.*in .*: detections\.json, models, ": lambda f: (f / "test").rename(f / "train"),
    r"toy/models not found": lambda f: (f / "models").rename(f / "meshes"),
    r"targets_bop19\.json does not exist": lambda f: (f / "test_targets_bop19.json").unlink(),
    r"targets_bop19\.json is empty": lambda f: (f / "test_targets_bop19.json").write_text(" \n"),
    r"targets_bop19\.json is truncated": lambda f: cut(f / "test_targets_bop19.json"),
    r"targets_bop19\.json holds no list": lambda f: dump(f / "test_targets_bop19.json", {}),
    r"target 0 needs scene_id, im_id, obj_id": lambda f: dump(
        f / "test_targets_bop19.json", [{"scene_id": 1, "im_id": 3, "obj_id": 2}]
    ),
    r"target 1: inst_count must be 1": lambda f: edit(
        f / "test_targets_bop19.json", lambda t: t[1].update(inst_count=0)
    ),
    r"scene .*000001 not found": lambda f: (f / "test/000001").rename(f / "test/000009"),
    r"scene_camera\.json does not exist": lambda f: (f / "test/000001/scene_camera.json").unlink(),
    r"scene_camera\.json: image 7 has no cam_K": lambda f: edit(
        f / "test/000001/scene_camera.json", lambda c: c.pop("7")
    ),
    r"scene_camera\.json is no table": lambda f: dump(f / "test/000001/scene_camera.json", []),
    r"image 7 not found in .*000001": lambda f: (f / "test/000001/rgb/000007.png").unlink(),
    r"000003\.png cannot be read.*truncated": lambda f: cut(f / "test/000001/rgb/000003.png"),
    r"models_info\.json is truncated": lambda f: cut(f / "models/models_info.json"),
    r"models_info\.json lacks object 5": lambda f: edit(f / "models/models_info.json", lambda m: m.pop("5")),
    r"object 2: diameter must be a finite number, not 'wide'": lambda f: edit(
        f / "models/models_info.json", lambda m: m["2"].update(diameter="wide")
    ),
    r"object 2: diameter 0\.05 mm: metres where mm": lambda f: edit(
        f / "models/models_info.json", lambda m: m["2"].update(diameter=0.05)
    ),
    r"object 2: its name must be text in one line": lambda f: edit(
        f / "models/models_info.json", lambda m: m["2"].update(name="mug\nred")
    ),
    r"object 5: diameter 20000 mm: metres where mm": lambda f: edit(
        f / "models/models_info.json", lambda m: m["5"].update(diameter=20000)
    ),
    r"object 2: symmetries_discrete holds a matrix that is no rotation": lambda f: edit(
        f / "models/models_info.json", lambda m: m["2"].update(symmetries_discrete=[[1.0] * 16])
    ),
    r"object 2: symmetries_discrete must be 16": lambda f: edit(
        f / "models/models_info.json", lambda m: m["2"].update(symmetries_discrete=[[1.0] * 9])
    ),
    r"object 5: symmetries_continuous: the axis is zero": lambda f: edit(
        f / "models/models_info.json", lambda m: m["5"]["symmetries_continuous"][0].update(axis=[0, 0, 0])
    ),
    r"object 5: symmetries_continuous needs axis": lambda f: edit(
        f / "models/models_info.json", lambda m: m["5"].update(symmetries_continuous=[[0, 0, 1]])
    ),
    r"model .*obj_000002\.ply not found": lambda f: (f / "models/obj_000002.ply").unlink(),
    r"no detections for toy: put cnos-fastsam_toy": lambda f: (f / "detections.json").unlink(),
    r"detection 1: a mask of 64x48 px": lambda f: Image.new("RGB", (60, 48)).save(
        f / "test/000001/rgb/000003.png"
    ),
}


@pytest.mark.parametrize(("problem", "harm"), DAMAGES.items())
def test_damaged_sets_are_refused_in_one_line(tmp_path, problem, harm):
    harm(write_set(tmp_path))
    with pytest.raises(InputError) as caught:
        dataset = BopTestSet(tmp_path, "toy")
        dataset.start(dataset[0])
    assert re.search(problem, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


def test_published_detections_are_found_by_name(tmp_path):
    folder = write_set(tmp_path)
    published = tmp_path / "detections/cnos-fastsam/cnos-fastsam_toy-test_3cb298ea.json"
    published.parent.mkdir(parents=True)
    (folder / "detections.json").rename(published)
    assert BopTestSet(tmp_path, "toy").detections.path == published
    published.with_name("cnos-fastsam_toy-test_again.json").write_text("[]")
    with pytest.raises(InputError, match="several detection files"):
        BopTestSet(tmp_path, "toy")


@pytest.mark.parametrize(
    "place", [".", "cnos-fastsam", "detections/a/b", "default_detections/a/cnos-fastsam"]
)
def test_default_detections_are_found_as_they_come(tmp_path, place):
    path = tmp_path / place / "cnos-fastsam_toy-test_3cb298ea.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[]")
    path.with_name("cnos-fastsam_toys-test_3cb298ea.json").write_text("[]")
    assert find_detections(tmp_path, "toy") == path


def test_real_photos_of_lmo():
    lmo = shared("lmo")
    test_set = BopTestSet(lmo.parent, "lmo", detections=lmo / "detections_oracle.json")
    assert len(test_set) == 40 and list(test_set.objects) == [1, 5, 6, 8, 9, 10, 11, 12]
    assert sum(len(test_set.start(test_set[index])) for index in range(40)) == 285
    frame = test_set[0]
    found = test_set.start(frame)
    truth = load(lmo / "test/000002/scene_gt.json")[str(frame.im_id)]
    origins = {entry["obj_id"]: torch.tensor(entry["cam_t_m2c"]) @ frame.K.T for entry in truth}
    for obj_id, box in zip(found.obj_id.tolist(), found.box, strict=True):
        xy = origins[obj_id][:2] / origins[obj_id][2]
        assert (xy > box[:2] - 20).all() and (xy < box[2:] + 20).all()


@pytest.mark.parametrize(
    ("name", "split", "images"), [("mini", "test", 6), ("minib", "test_primesense", None)]
)
def test_reference_sets(tmp_path, name, split, images):
    root = shared("bop_golden")
    targets = load(root / name / "test_targets_bop19.json")
    test_set = BopTestSet(root, name, detections=dump(tmp_path / "none.json", []))
    assert test_set.split == split
    assert len(test_set) == (images or len({(t["scene_id"], t["im_id"]) for t in targets}))
    symmetries = {obj_id: info.symmetry.discrete.shape[0] for obj_id, info in test_set.objects.items()}
    assert symmetries == {1: 0, 2: 1, 5: 7, 8: 0, 9: 0}


@pytest.mark.parametrize(
    ("size", "refusal"),
    [
        ({}, "its principal point at 60, 23.5"),
        (
            {"width": 2 * WIDTH, "height": HEIGHT},
            f"is of {2 * WIDTH}x{HEIGHT} px, the photo has {WIDTH}x{HEIGHT}",
        ),
        ({"width": WIDTH, "height": HEIGHT}, None),
    ],
)
def test_photos_that_are_cut_out_of_larger_ones_have_cameras_that_state_their_size(tmp_path, size, refusal):
    folder = write_set(tmp_path)
    aside = [*K[:2], 60.0, *K[3:]]
    dump(folder / "test/000001/scene_camera.json", {key: {"cam_K": aside, **size} for key in ("3", "7")})
    images = BopTestSet(tmp_path, "toy")
    if refusal is None:
        assert images[0].K[0, 2] == 60
    else:
        with pytest.raises(InputError, match=refusal):
            images[0]
