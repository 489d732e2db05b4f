"""What users bring with a photo: cameras of many kinds, detections of three programs, meshes of any unit."""

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from picopose.datasets.places import find_places
from picopose.demo.shots import CameraHint, camera_of
from picopose.rendering.units import check_plausible, describe, guess_unit
from picopose.utils.errors import InputError
from tests.masks import whole
from tests.small_bop import dump, runs_of

WIDTH, HEIGHT = 640, 480
NAMES = ["obj_000002", "obj_000007"]
MUG_BOX = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
MUG_BOX[20:70, 100:180] = True


def read_places(path, photo, size, names, **options):
    return [marked.place(size) for marked in find_places(path, [photo], names, **options)[photo]]


def save_photo(path, **exif) -> Image.Image:
    image = Image.new("RGB", (WIDTH, HEIGHT))
    tags = image.getexif()
    tags.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base[name]: value for name, value in exif.items()})
    image.save(path, exif=tags)
    return path


@pytest.mark.parametrize(
    "hint",
    [
        CameraHint(file="600,610,320,240"),
        CameraHint(file={"fx": 600, "fy": 610, "cx": 320, "cy": 240}),
        CameraHint(file={"cam_K": [600, 0, 320, 0, 610, 240, 0, 0, 1]}),
        CameraHint(file={"K": [[600, 0, 320], [0, 610, 240], [0, 0, 1]], "resolution": [480, 640]}),
        CameraHint(K=["600", "610", "320", "240"]),
    ],
)
def test_one_camera_in_many_forms(tmp_path, hint):
    if isinstance(hint.file, dict):
        hint = CameraHint(file=str(dump(tmp_path / "camera.json", hint.file)))
    K = camera_of(tmp_path / "photo.png", hint, WIDTH, HEIGHT).K
    assert K.tolist() == [[600, 0, 320], [0, 610, 240], [0, 0, 1]]


def test_a_camera_of_larger_photos_is_scaled(tmp_path):
    content = {"fx": 1200, "fy": 1200, "cx": 639.5, "cy": 479.5, "width": 1280, "height": 960}
    hint = CameraHint(file=str(dump(tmp_path / "camera.json", content)))
    K = camera_of(tmp_path / "photo.png", hint, WIDTH, HEIGHT).K
    assert torch.allclose(K, torch.tensor([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]]))


def test_a_field_of_view():
    K = camera_of("photo.png", CameraHint(fov=90), WIDTH, HEIGHT).K
    assert torch.allclose(K, torch.tensor([[320.0, 0, 319.5], [0, 320, 239.5], [0, 0, 1]]))


@pytest.mark.parametrize(
    ("exif", "focal"),
    [
        # A diagonal of 800 px is one of 43.27 mm.
        ({"FocalLengthIn35mmFilm": 43}, 43 / 43.27 * 800),
        # 2000 px of the full image are 0.5 inches; this one was resized to a third of its width.
        (
            {
                "FocalLength": 5.08,
                "FocalPlaneXResolution": 4000.0,
                "FocalPlaneResolutionUnit": 2,
                "ExifImageWidth": 1920,
                "ExifImageHeight": 1440,
            },
            5.08 / 25.4 * 4000 / 3,
        ),
    ],
)
def test_the_focal_length_of_a_photo_is_used_and_said(tmp_path, caplog, exif, focal):
    caplog.set_level("INFO")
    photo = save_photo(tmp_path / "photo.jpg", **exif)
    K = camera_of(photo, CameraHint(), WIDTH, HEIGHT).K
    assert K[0, 0] == pytest.approx(focal, rel=1e-4) and K[0, 0] == K[1, 1]
    assert K[:2, 2].tolist() == [319.5, 239.5]
    assert f"focal length {focal:.0f} px" in caplog.text


BOP = {"scene_id": 1, "image_id": 4, "category_id": 2, "bbox": [100, 20, 80, 50], "score": 0.9, "time": 0.1}
COCO = {
    "image_id": 4,
    "category_id": 2,
    "score": 0.9,
    "segmentation": {"size": [HEIGHT, WIDTH], "counts": runs_of(MUG_BOX.numpy())},
}
MEGAPOSE = {"label": "obj_000002", "bbox_modal": [100, 20, 180, 70]}


@pytest.mark.parametrize("entry", [BOP, COCO, MEGAPOSE], ids=["BOP", "COCO", "MegaPose"])
def test_detections_of_three_programs(tmp_path, entry):
    path = dump(tmp_path / "detections.json", [entry])
    (place,) = read_places(path, tmp_path / "000001/rgb/000004.png", (HEIGHT, WIDTH), NAMES)
    assert place.name == "obj_000002" and torch.equal(whole([place.mask], HEIGHT, WIDTH)[0], MUG_BOX)


def test_detections_of_others_are_left_out(tmp_path):
    entries = [
        BOP | {"image_id": 5},
        BOP | {"scene_id": 2},
        BOP | {"category_id": 3},
        BOP | {"score": 0.2},
        MEGAPOSE | {"image": "other.png"},
        BOP | {"category_id": 7},
    ]
    path = dump(tmp_path / "detections.json", entries)
    photo = tmp_path / "000001/rgb/000004.png"
    places = read_places(path, photo, (HEIGHT, WIDTH), NAMES, min_score=0.5)
    assert [place.name for place in places] == ["obj_000007"]
    # Where there is one mesh of another name, a label means it, and a box without a label may hold any.
    path = dump(tmp_path / "alone.json", [MEGAPOSE, {"bbox_modal": [1, 2, 30, 40]}])
    assert [place.name for place in read_places(path, photo, (HEIGHT, WIDTH), ["mug"])] == ["mug", "mug"]
    assert [place.name for place in read_places(path, photo, (HEIGHT, WIDTH), NAMES)] == ["obj_000002", None]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([MEGAPOSE | {"label": "cup"}], "'cup': no mesh has this name"),
        ([{"label": "obj_000002"}], "has no bbox"),
        ([BOP | {"bbox": [1, 2, 3]}], "bbox must be 4 finite numbers"),
        ([BOP | {"bbox": [700, 2, 30, 40]}], "detection 0: box 700 2 730 42: nothing of 640x480 px"),
        ([COCO | {"segmentation": {"size": [4, 4], "counts": [16]}}], "4x4 px for a photo of 640x480"),
        ({"bbox": 3}, "not a JSON list"),
    ],
)
def test_detections_that_cannot_be_used(tmp_path, entries, message):
    path = dump(tmp_path / "detections.json", entries)
    with pytest.raises(InputError, match=message) as error:
        read_places(path, tmp_path / "000001/rgb/000004.png", (HEIGHT, WIDTH), NAMES)
    assert str(path) in str(error.value)


def test_units_that_sizes_speak_for():
    assert [guess_unit(size) for size in (143, 0.143, 23.7)] == ["mm", "m", "mm"]
    assert guess_unit(14.3, distance=60) == "cm"  # its box says how far it is in the same unit
    assert describe(0.143, "mm") == "diameter 143 mm, read as mm"


def test_a_unit_that_contradicts_the_photo():
    K = np.array([[600, 0, 320], [0, 600, 240], [0, 0, 1.0]])
    check_plausible("mug", 0.143, "mm", (100, 100, 200, 200), K)
    with pytest.raises(InputError, match="mesh looks like metres: give unit m"):
        check_plausible("mug", 0.000143, "mm", (100, 100, 200, 200), K)
    with pytest.raises(InputError, match="mesh looks like millimetres: give unit mm"):
        check_plausible("mug", 143.0, "m", (100, 100, 200, 200), K)
    with pytest.raises(InputError, match="pass the camera of this image"):
        check_plausible("mug", 0.143, "mm", (0, 0, 640, 480), K * [[0.2], [0.2], [1]])
