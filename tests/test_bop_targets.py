"""Lists of targets in both forms, and which of a data set's lists is taken."""

import re

import pytest

from picopose.datasets.bop.targets import find_targets, read_targets
from picopose.utils.errors import InputError
from tests.small_bop import dump

TARGET = {"scene_id": 1, "im_id": 3, "obj_id": 2, "inst_count": 2}
IMAGE = {"scene_id": 1, "im_id": 3}


def test_both_forms(tmp_path):
    listed = read_targets(dump(tmp_path / "a.json", [TARGET, TARGET | {"obj_id": 5}, TARGET | {"im_id": 1}]))
    assert list(listed.images.items()) == [((1, 3), {2: 2, 5: 2}), ((1, 1), {2: 2})]
    assert listed.per_object and listed.task == "localization"
    listed = read_targets(dump(tmp_path / "b.json", [IMAGE, {"scene_id": 7, "im_id": 0}, IMAGE]))
    assert listed.images == {(1, 3): {}, (7, 0): {}}
    assert not listed.per_object and listed.task == "detection"


def test_the_list_of_localization_comes_first(tmp_path, caplog):
    caplog.set_level("INFO")
    of_images = dump(tmp_path / "test_targets_bop24.json", [IMAGE])
    assert find_targets(tmp_path) == of_images
    assert f"has no test_targets_bop19.json, but {of_images.name}" in caplog.text
    of_objects = dump(tmp_path / "test_targets_bop19.json", [TARGET])
    assert find_targets(tmp_path) == of_objects
    of_images.unlink(), of_objects.unlink()
    with pytest.raises(InputError, match=r"bop19\.json does not exist: download"):
        read_targets(find_targets(tmp_path))


def test_the_list_of_a_task(tmp_path, caplog):
    """Detection takes the images of the other list; localization cannot do without objects."""
    caplog.set_level("INFO")
    of_objects = dump(tmp_path / "test_targets_bop19.json", [TARGET, TARGET | {"obj_id": 5}])
    assert find_targets(tmp_path, "localization") == find_targets(tmp_path, "detection") == of_objects
    assert "has no test_targets_bop24.json, but test_targets_bop19.json" in caplog.text
    as_detection = read_targets(of_objects).as_task("detection")
    assert as_detection.images == {(1, 3): {}} and as_detection.task == "detection"
    assert read_targets(of_objects).as_task(None).images == {(1, 3): {2: 2, 5: 2}}
    of_images = dump(tmp_path / "test_targets_bop24.json", [IMAGE])
    assert find_targets(tmp_path, "localization") == of_objects
    assert find_targets(tmp_path, "detection") == of_images
    with pytest.raises(InputError, match=r"bop24\.json names no objects, which localization needs"):
        read_targets(of_images).as_task("localization")
    of_objects.unlink()
    with pytest.raises(InputError, match=r"bop19\.json does not exist, but .*: choose the task detection"):
        find_targets(tmp_path, "localization")
    of_images.unlink()
    assert find_targets(tmp_path, "detection") == of_images  # which the reader says is missing


BAD = {
    "holds no list": [{}, [], 3, "x"],
    "target 0 needs scene_id, im_id": [[3], [{"im_id": 3}], [IMAGE | {"obj_id": 2}]],
    "target 1 needs scene_id, im_id": [[TARGET, IMAGE], [IMAGE, TARGET], [IMAGE, None]],
    "inst_count must be 1": [[TARGET | {"inst_count": 0}]],
    "must be an integer": [
        [TARGET | {"im_id": value}] for value in (1e999, 10**300, -1, True, 1.5, "x", None, [1], "9" * 400)
    ],
}


@pytest.mark.parametrize(("problem", "content"), [(key, one) for key, many in BAD.items() for one in many])
def test_what_is_no_list_is_refused_by_its_entry(tmp_path, problem, content):
    path = dump(tmp_path / "targets.json", content)
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}.*{problem}") as caught:
        read_targets(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_numbers_may_be_spelt_otherwise(tmp_path):
    content = [{"scene_id": "1", "im_id": 3.0, "obj_id": "000002", "inst_count": 1}]
    assert read_targets(dump(tmp_path / "a.json", content)).images == {(1, 3): {2: 1}}
