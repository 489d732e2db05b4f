"""False detections: boxes apart from every object, true places under wrong ids, targets that ask for both."""

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from picopose.datasets.bop.test_set import BopTestSet
from tests.shared import ROOT
from tests.small_bop import HEIGHT, WIDTH, dump, load, write_set
from tools.mini_set import false_detections

MINI = ROOT / "data/mini"


def make(folder: Path, kind: str, out: Path, count: int = 60, seed: int = 0) -> tuple[list[dict], list[dict]]:
    """The detections and the targets that the command writes."""
    options = {"--dataset_dir": folder, "--kind": kind, "--count": count, "--seed": seed, "--out": out}
    false_detections.main([str(word) for pair in options.items() for word in pair])
    return load(out), load(out.with_name(f"{out.stem}_targets.json"))


def truth(detection: dict) -> list[tuple[dict, dict, Path]]:
    """Annotation, its counts and its mask, of each instance in the image of a detection."""
    scene = MINI / f"test/{detection['scene_id']:06d}"
    gts, infos = (
        load(scene / f"scene_{name}.json")[str(detection["image_id"])] for name in ("gt", "gt_info")
    )
    stem = f"mask_visib/{detection['image_id']:06d}"
    masks = [scene / f"{stem}_{gt_id:06d}.png" for gt_id in range(len(gts))]
    return list(zip(gts, infos, masks, strict=True))


def annotated_set(data_dir: Path, box=(5, 6, 9, 11)) -> Path:
    """The set of `small_bop`, every instance at the same box (BOP's x, y, last x - x, last y - y)."""
    folder = write_set(data_dir)
    known = load(folder / "test/000001/scene_gt.json")
    info = {"bbox_obj": box, "bbox_visib": box, "visib_fract": 0.8}
    dump(folder / "test/000001/scene_gt_info.json", {key: [info] * len(gts) for key, gts in known.items()})
    return folder


def test_empty_boxes_touch_no_object_and_are_as_large_as_real_ones(tmp_path):
    made, _ = make(MINI, "empty", tmp_path / "empty.json", count=120)
    assert len(made) == 120 and len({(one["scene_id"], one["image_id"]) for one in made}) == 12
    real = []
    for one in made:
        x, y, width, height = one["bbox"]
        assert x >= 0 and y >= 0 and x + width <= 640 and y + height <= 480
        for _, info, _ in truth(one):
            left, top, across, down = info["bbox_obj"]
            assert x + width <= left or left + across < x or y + height <= top or top + down < y or across < 0
            real += [np.prod(info["bbox_visib"][2:])] if info["visib_fract"] >= 0.1 else []
    assert np.median([np.prod(one["bbox"][2:]) for one in made]) == pytest.approx(np.median(real), rel=0.2)


def test_swapped_detections_are_true_masks_with_wrong_ids(tmp_path):
    made, _ = make(MINI, "swapped", tmp_path / "swapped.json")
    for one in made:
        found = coco.decode(one["segmentation"]) > 0
        same = [gt for gt, info, mask in truth(one) if info["px_count_visib"] == found.sum()]
        assert same and all(gt["obj_id"] != one["category_id"] for gt in same)
        assert one["bbox"] == [int(side) for side in coco.toBbox(one["segmentation"])]
    places = [(one["scene_id"], one["image_id"], *one["bbox"]) for one in made]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("kind", false_detections.KINDS)
def test_the_reader_takes_all_of_them_and_the_seed_decides(kind, tmp_path):
    made, targets = make(MINI, kind, tmp_path / "a.json")
    assert make(MINI, kind, tmp_path / "b.json") == (made, targets)
    assert make(MINI, kind, tmp_path / "c.json", seed=1) != (made, targets)
    dataset = BopTestSet(
        MINI.parent, "mini", detections=tmp_path / "a.json", targets=tmp_path / "a_targets.json"
    )
    frames = [dataset[k] for k in range(len(dataset))]
    taken = sorted(
        (f.scene_id, f.im_id, obj_id) for f in frames for obj_id in dataset.start(f).obj_id.tolist()
    )
    assert taken == sorted((one["scene_id"], one["image_id"], one["category_id"]) for one in made)


def test_a_set_without_masks_gives_boxes(tmp_path):
    made, _ = make(annotated_set(tmp_path), "swapped", tmp_path / "swapped.json", count=3)
    assert all(one["bbox"] == [5, 6, 10, 12] and "segmentation" not in one for one in made)


def test_what_is_impossible_is_told(tmp_path, capsys):
    folder, out = annotated_set(tmp_path), tmp_path / "out.json"
    full = annotated_set(tmp_path / "full", (0, 0, WIDTH - 1, HEIGHT - 1))
    bare = write_set(tmp_path / "bare")
    for arguments, message in (
        ((folder, "swapped", out, 4), "--count 4: "),
        ((folder, "empty", out, 0), "--count 0: give at least 1"),
        ((full, "empty", out), "leave no room for a box"),
        ((bare, "empty", out), "scene_gt_info.json does not exist: download the annotations"),
        ((tmp_path / "absent", "empty", out), "absent not found"),
    ):
        with pytest.raises(SystemExit):
            make(*arguments)
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    dump(folder / "test/000001/scene_gt_info.json", {"3": []})
    with pytest.raises(SystemExit):
        make(folder, "empty", out)
    assert "2 objects, but 0 in gt_info" in capsys.readouterr().err
    assert not out.exists()
