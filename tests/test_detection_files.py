"""Detections as programs of many kinds write them: for photos of a user's own, and for data sets."""

import json

import numpy as np
import pytest
import torch

from picopose.datasets.bop.detections import Detections
from picopose.datasets.bop.test_set import BopTestSet
from picopose.datasets.masks.rle import compress
from picopose.datasets.places import find_places
from picopose.utils.errors import InputError
from tests.small_bop import HEIGHT, WIDTH, box_mask, detection, dump, runs_of, write_set

SIZE = (HEIGHT, WIDTH)
BOX = [30, 20, 20, 8]  # x, y, width, height
MASK = torch.from_numpy(box_mask(*BOX))
CORNERS = [30, 20, 50, 20, 50, 28, 30, 28]
ENTRY = {"image_id": 17, "category_id": 2, "bbox": BOX, "score": 0.9}
TWO = ["obj_000002", "obj_000007"]


def annotations(file="000017.jpg", *, category="cereal", **changes) -> dict:
    """A file of COCO annotations of one object in one image; `changes` are of its annotation."""
    entry = {"id": 1, "image_id": 5, "category_id": 2, "bbox": BOX, "iscrowd": 0, "segmentation": [CORNERS]}
    return {
        "images": [{"id": 5, "file_name": file, "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 2, "name": category}],
        "annotations": [entry | changes],
    }


def places_of(folder, content, photos=("000017.jpg",), names=("obj_000002",), **options):
    """By photo the name of each place; all places must be that of MASK."""
    paths = [folder / photo for photo in photos]
    found = find_places(dump(folder / "d.json", content), paths, names, **options)
    places = {path: [marked.place(SIZE) for marked in marks] for path, marks in found.items()}
    assert all(
        torch.equal(place.mask.window(0, 0, WIDTH, HEIGHT), MASK)
        for marks in places.values()
        for place in marks
    )
    return {path.name: [place.name for place in marks] for path, marks in places.items()}


RUNS = {"segmentation": {"counts": runs_of(MASK.numpy()), "size": list(SIZE)}}
FORMS = {
    "bbox": [ENTRY],
    "ids as text": [ENTRY | {"image_id": "17", "category_id": "2"}],
    "ids as decimals": [ENTRY | {"image_id": 17.0, "category_id": 2.0}],
    "polygon": [ENTRY | {"bbox": [0, 0, 64, 48], "segmentation": [CORNERS]}],
    "polygon alone": [{"image_id": 17, "category_id": 2, "segmentation": [CORNERS]}],
    "run lengths alone": [{"image_id": 17, "category_id": 2} | RUNS],
    "no polygon": [ENTRY | {"segmentation": []}],
    "photo by its name": [{"image": "photos\\000017.jpg", "category_id": 2, "bbox": BOX}],
    "photo by its stem": [ENTRY | {"image_id": "000017"}],
    "annotations": annotations(),
    "annotations of a path": annotations("images/000017.jpg"),
    "annotations by run lengths": annotations(iscrowd=1, **RUNS),
    "annotations by name of the object": annotations(category="obj_000002", category_id=2),
    "annotations without tables": {"annotations": [ENTRY]},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_marks_the_same_place(tmp_path, form):
    assert places_of(tmp_path, FORMS[form]) == {"000017.jpg": ["obj_000002"]}


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    for content in (annotations(), [ENTRY]):
        path = tmp_path / "bom.json"
        path.write_text(json.dumps(content), encoding="utf-8-sig")
        (marked,) = find_places(path, [tmp_path / "000017.jpg"], ["obj_000002"])[tmp_path / "000017.jpg"]
        assert torch.equal(marked.place(SIZE).mask.window(0, 0, WIDTH, HEIGHT), MASK)


def test_objects_are_found_by_the_names_of_categories(tmp_path):
    content = annotations()
    content["categories"].append({"id": 9, "name": "mug"})
    content["annotations"].append(content["annotations"][0] | {"category_id": 9})
    assert places_of(tmp_path, content, names=["mug", "cereal"]) == {"000017.jpg": ["cereal", "mug"]}


def test_the_only_mesh_takes_detections_of_one_other_object_and_says_so(tmp_path, caplog):
    caplog.set_level("INFO")
    assert places_of(tmp_path, [ENTRY, ENTRY], names=["obj_000005"]) == {"000017.jpg": 2 * ["obj_000005"]}
    assert "its detections are of object 2; taken for obj_000005, the only mesh" in caplog.text
    caplog.clear()
    assert places_of(tmp_path, annotations(), names=["mug"]) == {"000017.jpg": ["mug"]}
    assert "its detections are of 'cereal' (2); taken for mug, the only mesh" in caplog.text
    caplog.clear()
    assert places_of(tmp_path, [ENTRY]) == {"000017.jpg": ["obj_000002"]}
    assert caplog.text == ""


def test_detections_of_other_objects_are_counted(tmp_path, caplog):
    others = [ENTRY | {"category_id": number} for number in (3, 3, 4)]
    assert places_of(tmp_path, [ENTRY, *others]) == {"000017.jpg": ["obj_000002"]}
    assert "left out, as no mesh has this name or number: 2 of object 3, 1 of object 4" in caplog.text
    for names in (["obj_000009"], ["mug"], TWO):
        with pytest.raises(InputError, match="are of object 3, object 4: no mesh has this name or number"):
            places_of(tmp_path, others, names=names)


def test_a_number_that_two_meshes_end_in_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"0 is of object 2, which a/obj_2 and b/obj_2 could be: rename"):
        places_of(tmp_path, [ENTRY], names=["a/obj_2", "b/obj_2"])


def test_times_in_nanoseconds_serve_as_ids(tmp_path):
    entry = ENTRY | {"image_id": 1403636579763555584}
    assert places_of(tmp_path, [entry], ["1403636579763555584.png"])["1403636579763555584.png"]


def test_meshes_without_numbers_are_all_tried(tmp_path, caplog):
    caplog.set_level("INFO")
    assert places_of(tmp_path, [ENTRY], names=["mug", "cup"]) == {"000017.jpg": [None]}
    assert "no mesh's name ends in a number, so all are tried in 1 entries" in caplog.text


def test_the_only_photo_takes_detections_of_one_image_and_says_so(tmp_path, caplog):
    caplog.set_level("INFO")
    assert places_of(tmp_path, [ENTRY, ENTRY], ["rgb.jpg"]) == {"rgb.jpg": 2 * ["obj_000002"]}
    assert "its detections are of image 17; taken for rgb.jpg" in caplog.text


@pytest.mark.parametrize(
    ("content", "photos", "problem"),
    [
        ([ENTRY, ENTRY | {"image_id": 18}], ["rgb.jpg"], "is of rgb.jpg, they are of image 17, image 18"),
        ([ENTRY], ["a.jpg", "b.jpg"], "is of a.jpg, b.jpg, they are of image 17"),
        ([ENTRY | {"scene_id": 3}], ["000004.jpg"], "they are of image 17 of scene 3: name photos"),
        (annotations("left.png"), ["000017.jpg"], "they are of left.png"),
        ([ENTRY | {"scene_id": 1}, ENTRY | {"scene_id": 2}], ["000017.jpg"], "in several scenes"),
        ([], ["000017.jpg"], "holds no detections"),
        (annotations() | {"annotations": []}, ["000017.jpg"], "holds no detections"),
    ],
)
def test_photos_that_nothing_is_said_of_are_told(tmp_path, content, photos, problem):
    with pytest.raises(InputError, match=problem):
        places_of(tmp_path, content, photos)


def test_photos_without_detections_among_others_are_told(tmp_path, caplog):
    caplog.set_level("INFO")
    found = places_of(tmp_path, [ENTRY], ["000016.jpg", "000017.jpg", "a.jpg"])
    assert found == {"000016.jpg": [], "000017.jpg": ["obj_000002"], "a.jpg": []}
    assert "nothing in 2 of 3 photos: 000016.jpg, a.jpg" in caplog.text


def test_a_year_in_a_path_is_no_scene(tmp_path):
    (tmp_path / "2024/photos").mkdir(parents=True)
    assert places_of(tmp_path, [ENTRY | {"scene_id": 1}], ["2024/photos/000017.jpg"])["000017.jpg"]


def test_scores_that_none_reaches_are_told(tmp_path):
    with pytest.raises(InputError, match=r"none of its 1 scores reaches min_score 0\.95"):
        places_of(tmp_path, [ENTRY], min_score=0.95)


ULTRALYTICS = {"name": "cereal", "class": 2, "confidence": 0.9, "box": {"x1": 3, "y1": 2, "x2": 4, "y2": 3}}
HUGE = 10**400
BAD = {
    r"0 has no bbox, bbox_modal, segmentation \(it has box, class, confidence, name\)": [[ULTRALYTICS]],
    "category_id must be an integer": [
        [ENTRY | {"category_id": value}] for value in ([1], {}, 1.5, HUGE, 1e999, "two", True, -3, "9" * 5000)
    ],
    "image_id must be an integer": [[ENTRY | {"image_id": value}] for value in ([1], 1e999, HUGE, 2.5)],
    "scene_id must be an integer": [[ENTRY | {"scene_id": HUGE}]],
    "bbox must be 4 finite numbers": [
        [ENTRY | {"bbox": [HUGE, 1, 2, 3]}],
        [ENTRY | {"bbox": [1e999, 1, 2, 3]}],
    ],
    "score must be a finite number": [[ENTRY | {"score": HUGE}], [ENTRY | {"score": None}]],
    "label must be the name": [[ENTRY | {"label": [3]}]],
    "image must be the name": [[ENTRY | {"image": 3}]],
    "image_id 6 is not in the file's table": [annotations(image_id=6)],
    "category_id 8 is not in the file's table": [annotations(category_id=8)],
    "has no annotations": [{"images": []}, {"annotations": {}}],
    "annotation 0 is no object": [{"annotations": [3]}],
    "lists id 5 twice": [annotations() | {"images": 2 * annotations()["images"]}],
    "entry 0 is no object": [annotations() | {"images": [3]}],
    "an entry of 64x40 px for a photo of 64x48 px": [
        annotations() | {"images": [{"id": 5, "file_name": "000017.jpg", "width": 64, "height": 40}]}
    ],
}


@pytest.mark.parametrize(("problem", "content"), [(key, one) for key, many in BAD.items() for one in many])
def test_what_cannot_be_read_as_meant_is_refused(tmp_path, problem, content):
    with pytest.raises(InputError, match=problem) as caught:
        places_of(tmp_path, content)
    message = str(caught.value)
    assert str(tmp_path / "d.json") in message and "\n" not in message and len(message) < 500


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [480, 640], "counts": [2**62, 2**62, 2**62, 2**62, 307200]},  # whose sum wraps around
        {"size": [1e999, 640], "counts": [1]},
        {"size": [10**400, 640], "counts": [1]},
        {"size": [60000, 60000], "counts": [3_600_000_000]},
        {"size": [10, -10], "counts": [-100]},
        {"size": [10, 10, 3], "counts": [300]},
        {"size": {}, "counts": [100]},
        {"size": [10, 10], "counts": [[100]]},
        {"size": [10, 10], "counts": [2**64, 1]},
        {"size": [10, 10], "counts": {"a": 1}},
        {"size": [10, 10], "counts": "\udc80"},
    ],
)
def test_run_lengths_that_cannot_be_are_refused(segmentation):
    with pytest.raises(InputError, match=r"^here.*"):
        compress(segmentation, "here")


def test_data_sets_take_annotations_and_polygons(tmp_path):
    folder = write_set(tmp_path)
    polygon = detection(7, 5, 0.8, (0, 0, 64, 48)) | {"segmentation": [CORNERS]}
    named = annotations("000001/rgb/000007.png", category_id=2)
    named["categories"][0]["id"] = named["annotations"][0]["category_id"] = 5
    without_scene = {key: value for key, value in polygon.items() if key != "scene_id"}
    for content in ([polygon], [without_scene], named):
        test_set = BopTestSet(tmp_path, "toy", detections=dump(folder / "other.json", content))
        found = test_set.start(test_set[1])
        assert found.obj_id.tolist() == [5]
        assert torch.equal(found.mask[0].window(0, 0, WIDTH, HEIGHT), MASK)


def test_missing_scenes_and_scores_are_told(tmp_path, caplog):
    caplog.set_level("INFO")
    path = dump(tmp_path / "d.json", [{"image_id": 7, "category_id": 5, "bbox": BOX}])
    (found,) = Detections(path, images={(1, 7), (1, 3)}).of_image(1, 7)
    assert found.score == 1 and found.box == (30, 20, 50, 28)
    assert "1 detections name no scene; taken for scene 1" in caplog.text
    assert "1 detections have no score; taken for 1" in caplog.text
    with pytest.raises(InputError, match="scene_id is missing, and the images are of several scenes"):
        Detections(path, images={(1, 7), (2, 7)})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            [detection(99, 5, 0.8, BOX)],
            r"none .* is of an image of the targets \(the first is of scene 1, image 99",
        ),
        ([ULTRALYTICS], "0 has no scene_id, image_id, category_id, bbox"),
        (annotations("left.png"), "is of 'left.png', which is no SCENE/rgb/IMAGE.png"),
        ([{"scene_id": 1, "image_id": 7, "bbox": BOX}], "has no category_id"),
    ],
)
def test_detections_that_no_data_set_can_use_are_refused(tmp_path, content, problem):
    with pytest.raises(InputError, match=problem):
        Detections(dump(tmp_path / "d.json", content), images={(1, 7)})


def test_targets_without_objects_ask_for_all_that_is_detected(tmp_path, caplog):
    folder = write_set(tmp_path)
    (folder / "test_targets_bop19.json").unlink()
    dump(folder / "test_targets_bop24.json", [{"scene_id": 1, "im_id": 7}, {"scene_id": 1, "im_id": 3}])
    entries = [
        detection(7, obj_id, score, BOX) for obj_id, score in ((5, 0.2), (2, 0.7), (77, 0.9), (5, 0.8))
    ]
    dump(folder / "detections.json", entries)
    test_set = BopTestSet(tmp_path, "toy")
    assert (test_set[0].im_id, test_set[1].im_id) == (7, 3)
    first, second = (test_set.start(test_set[k]) for k in (0, 1))
    assert first.obj_id.tolist() == [5, 2, 5] and np.allclose(first.score, [0.8, 0.7, 0.2])
    assert len(second) == len(second.mask) == 0
    assert list(test_set.objects) == [2, 5]
    assert "1 detections of 1 objects without a model are left out: 77" in caplog.text
    dump(folder / "detections.json", [detection(7, 5, i / 200, BOX) for i in range(120)])
    test_set = BopTestSet(tmp_path, "toy")
    found = test_set.start(test_set[0])
    assert len(found) == 100 and found.score.min() == pytest.approx(20 / 200)
    assert list(test_set.objects) == [5]
    dump(folder / "detections.json", [detection(7, 77, 0.9, BOX)])
    with pytest.raises(InputError, match="none of its detections is of an object that toy has a model of"):
        BopTestSet(tmp_path, "toy")


def test_targets_that_were_not_detected_are_told(tmp_path, caplog):
    caplog.set_level("INFO")
    write_set(tmp_path)
    BopTestSet(tmp_path, "toy")
    assert (
        "toy: targets without a detection: 1 (of objects 5); their images' best ones are tried" in caplog.text
    )
