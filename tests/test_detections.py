"""Detections: both run-length forms, selection of pixels, files too large to hold, and what is refused."""

import json
import re
import tracemalloc

import numpy as np
import pytest
from pycocotools import mask as coco

from picopose.datasets.bop.detections import Detections
from picopose.datasets.masks.rle import compress, decode
from picopose.utils.errors import InputError
from tests.masks import whole
from tests.shared import shared
from tests.small_bop import HEIGHT, WIDTH, box_mask, detection, dump, runs_of

SIZE = (HEIGHT, WIDTH)


def masks_of(path, size=SIZE):
    found = Detections(path)
    return whole(found.masks(found.of_image(1, 3), size=size), *size).numpy()


def test_both_forms_of_run_lengths_agree_with_coco():
    rng = np.random.default_rng(0)
    for density in (0.0, 0.01, 0.5, 1.0):
        mask = rng.random((57, 83)) < density
        mask[10:40, 20:60] ^= True
        packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        forms = (runs_of(mask), packed["counts"], packed["counts"].decode())
        for counts in forms:
            code, size = compress({"counts": counts, "size": [57, 83]}, "mask")
            assert code == packed["counts"] and np.array_equal(decode(code, size), mask)


@pytest.mark.parametrize(
    "segmentation",
    [
        {"counts": [10, 20], "size": [10, 10]},
        {"counts": [50, 60], "size": [10, 10]},
        {"counts": [-10, 110], "size": [10, 10]},
        {"counts": [1.5, 98.5], "size": [10, 10]},
        {"counts": [2**40, 1], "size": [10, 10]},
        {"counts": [2**70, 1], "size": [10, 10]},
        {"counts": ["a"], "size": [10, 10]},
        {"counts": "zzzzzzzz", "size": [10, 10]},
        {"counts": "\u00e9", "size": [10, 10]},
        {"counts": "", "size": [10, 10]},
        {"counts": "34", "size": [10, 10]},
        {"counts": [], "size": [0, 0]},
        {"counts": [100]},
        {"size": [10, 10]},
        [[1, 2, 3, 4, 5, 6]],
        7,
    ],
)
def test_bad_run_lengths_are_refused(segmentation):
    with pytest.raises(InputError, match=r"^somewhere.*again$"):
        compress(segmentation, "somewhere")


def test_best_detection_comes_first_and_ties_keep_their_order(tmp_path):
    entries = [detection(3, obj_id, score, (0, 0, 9, 9)) for obj_id, score in ((1, 0.5), (2, 0.9), (3, 0.5))]
    found = Detections(dump(tmp_path / "d.json", entries)).of_image(1, 3)
    assert [entry.obj_id for entry in found] == [2, 1, 3]


def test_masks_of_up_to_eight_pixels_and_missing_ones_become_the_box(tmp_path):
    entries = [
        detection(3, 1, 0.9, (20, 10, 9, 7), mask=box_mask(22, 12, 2, 4)),
        detection(3, 1, 0.8, (20, 10, 9, 7), mask=box_mask(22, 12, 3, 3)),
        detection(3, 1, 0.7, (20, 10, 9, 7)),
        detection(3, 1, 0.6, (60, -5, 20, 10)),
        detection(3, 1, 0.5, (500, 500, 0, 0)),
    ]
    box = box_mask(20, 10, 9, 7)
    expected = [box, box_mask(22, 12, 3, 3), box, box_mask(60, 0, 4, 5), box_mask(63, 47, 1, 1)]
    assert np.array_equal(masks_of(dump(tmp_path / "d.json", entries)), expected)


def test_a_mask_of_another_size_is_refused_by_name(tmp_path):
    path = dump(tmp_path / "d.json", [detection(3, 1, 0.9, (2, 2, 9, 9), mask=box_mask(2, 2, 9, 9))])
    with pytest.raises(InputError, match=rf"{re.escape(str(path))}: detection 0: .*64x48 px .* 640x480 px"):
        masks_of(path, size=(480, 640))


def test_only_the_asked_images_are_kept(tmp_path):
    path = dump(tmp_path / "d.json", [detection(image, 1, 0.9, (2, 2, 9, 9)) for image in (3, 4, 5)])
    found = Detections(path, images={(1, 4)})
    assert [len(found.of_image(1, image)) for image in (3, 4, 5)] == [0, 1, 0]


def test_memory_stays_far_below_the_file(tmp_path):
    noise = np.random.default_rng(1).random(SIZE) < 0.5
    entry = json.dumps(detection(3, 1, 0.9, (2, 2, 9, 9), mask=noise))
    path = tmp_path / "large.json"
    few = json.dumps(detection(9, 1, 0.9, (2, 2, 9, 9), scene_id=9))
    path.write_text("[" + ", ".join([entry] * 3000 + [few]) + "]")
    tracemalloc.start()
    found = Detections(path, images={(9, 9)})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.of_image(1, 3) == () and len(found.of_image(9, 9)) == 1
    assert path.stat().st_size > 10e6 and peak < 6e6


GOOD = detection(3, 1, 0.9, (2, 2, 9, 9))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "does not exist"),
        ("", "is empty"),
        ("{}", "not a JSON list"),
        ("[3]", "where an object is expected"),
        (json.dumps([GOOD])[:-9], "truncated or not JSON"),
        (json.dumps([GOOD])[:-1], "truncated or not JSON"),
        (json.dumps([GOOD | {"score": "high"}]), "detection 0: score must be a finite number"),
        (json.dumps([GOOD, GOOD | {"score": float("nan")}]), "detection 1: score must be a finite number"),
        (json.dumps([GOOD | {"bbox": [1, 2, 3]}]), "detection 0: bbox must be 4 finite numbers"),
        (json.dumps([GOOD | {"bbox": [1, 2, 3, -4]}]), "negative side"),
        (json.dumps([GOOD | {"category_id": 1.5}]), "category_id must be an integer"),
        (json.dumps([GOOD | {"time": None}]), "time must be a finite number"),
        (json.dumps([{k: v for k, v in GOOD.items() if k != "bbox"}]), "has no bbox"),
        (json.dumps([{k: v for k, v in GOOD.items() if k != "image_id"}]), "has no image_id (it has"),
        (json.dumps([GOOD | {"segmentation": {"counts": [5], "size": [2, 2]}}]), "do not fill its size 2x2"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, text, problem):
    path = tmp_path / "detections.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError) as caught:
        Detections(path)
    message = str(caught.value)
    assert str(path) in message and problem in message and "\n" not in message


def test_real_oracle_detections():
    found = Detections(shared("lmo/detections_oracle.json"))
    best = found.of_image(2, 3)
    masks = found.masks(best, size=(480, 640))
    for mask, entry in zip(masks, best, strict=True):
        assert abs(mask.box[0] - entry.box[0]) <= 1 and abs(mask.box[3] - 1 - entry.box[3]) <= 1
