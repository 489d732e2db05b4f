"""Scores of 2D detections: cases worked out by hand, and the numbers of COCO's own program."""

import contextlib
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from picopose.commands.score import main
from picopose.evaluation.regions import score_detections
from picopose.utils.errors import InputError
from tests.shared import ROOT
from tests.small_bop import HEIGHT, WIDTH, detection, dump, load, write_set

SEEN, RIGHT = [5, 6, 9, 11], [30, 20, 19, 7]  # of gt_info, whose sides are a pixel short
SEEN_BOX, RIGHT_BOX = (5, 6, 10, 12), (30, 20, 20, 8)
ELSEWHERE = (50, 30, 8, 8)


def instance(box: list[int], visible: float = 1.0, whole: list[int] | None = None) -> dict:
    return {"visib_fract": visible, "bbox_visib": box, "bbox_obj": whole or box}


def write_truth(folder: Path, *, hidden: float = 1.0, whole: list[int] | None = None) -> Path:
    """Object 2 and, `hidden` but for this share, object 5 in image 3, and object 5 in image 7."""
    info = {"3": [instance(SEEN, whole=whole), instance(RIGHT, hidden)], "7": [instance(RIGHT)]}
    dump(folder / "test/000001/scene_gt_info.json", info)
    return folder


def scored(folder: Path, *entries: dict, kind: str = "boxes"):
    return score_detections(dump(folder / "found.json", list(entries)), folder).kinds[kind]


def test_true_boxes_are_found_wholly(tmp_path):
    folder = write_truth(write_set(tmp_path))
    found = scored(folder, detection(3, 2, 0.9, SEEN_BOX), *(detection(i, 5, 0.8, RIGHT_BOX) for i in (3, 7)))
    assert (found.AP, found.AP50, found.recall) == pytest.approx((1, 1, 1))
    assert found.objects == pytest.approx({2: 1, 5: 1})


def test_a_shifted_box_counts_up_to_its_overlap(tmp_path):
    """A pixel to the right of ten: an IoU of 9/11, above seven of the ten thresholds."""
    folder = write_truth(write_set(tmp_path))
    found = scored(folder, detection(3, 2, 0.9, (6, 6, 10, 12)))
    assert found.objects == pytest.approx({2: 0.7, 5: 0})
    assert (found.AP50, found.recall) == pytest.approx((0.5, 0.5))


def test_false_ones_and_duplicates_cost_precision(tmp_path):
    """A better false one halves it; what comes after all is found costs nothing."""
    folder = write_truth(write_set(tmp_path))
    true, twin = detection(3, 2, 0.5, SEEN_BOX), detection(3, 2, 0.4, SEEN_BOX)
    assert scored(folder, true, twin).objects[2] == pytest.approx(1)
    assert scored(folder, true, detection(3, 2, 0.9, ELSEWHERE)).objects[2] == pytest.approx(0.5)
    elsewhere = detection(7, 2, 0.9, SEEN_BOX)  # where the object is not
    assert scored(folder, true, elsewhere).objects[2] == pytest.approx(0.5)


def test_what_is_hardly_seen_counts_neither_way_and_only_once(tmp_path):
    folder = write_truth(write_set(tmp_path), hidden=0.09)
    on_hidden, true = (
        [detection(3, 5, score, RIGHT_BOX) for score in (0.9, 0.8)],
        detection(7, 5, 0.7, RIGHT_BOX),
    )
    assert scored(folder, true).objects[5] == pytest.approx(1)
    assert scored(folder, true, *on_hidden[:1]).objects[5] == pytest.approx(1)
    assert scored(folder, true, *on_hidden).objects[5] == pytest.approx(0.5)


def test_the_recall_is_of_the_five_best(tmp_path):
    folder, true = write_truth(write_set(tmp_path)), detection(3, 2, 0.1, SEEN_BOX)
    false = [detection(3, 2, 0.9, ELSEWHERE)] * 5
    assert scored(folder, true, *false[:4]).recall == pytest.approx(0.5)  # all of object 2, none of object 5
    found = scored(folder, true, *false)
    assert found.recall == 0 and found.objects[2] == pytest.approx(1 / 6)


def test_boxes_are_of_silhouettes_inside_the_photo_and_of_what_is_seen(tmp_path):
    folder = write_truth(write_set(tmp_path), whole=[-7, 2, 24, 20])
    seen, whole = detection(3, 2, 0.9, SEEN_BOX), detection(3, 2, 0.9, (0, 2, 18, 21))
    assert scored(folder, whole).objects[2] == pytest.approx(1)
    assert scored(folder, whole, kind="visible boxes").objects[2] == 0
    assert scored(folder, seen).objects[2] == 0
    assert scored(folder, seen, kind="visible boxes").objects[2] == pytest.approx(1)


def coco_numbers(folder: Path, kind: str, whole: bool) -> dict[str, float]:
    """By COCO's classes, from the files themselves; what is hardly seen is too large to count."""
    images, truths, found = [], [], load(folder / "detections.json")
    for scene in sorted((folder / "test").iterdir()):
        gt, info = (load(scene / f"scene_{name}.json") for name in ("gt", "gt_info"))
        for im_id in gt:
            images.append({"id": 1000 * int(scene.name) + int(im_id), "width": 640, "height": 480})
            for index, (truth, known) in enumerate(zip(gt[im_id], info[im_id], strict=True)):
                name = f"{int(im_id):06d}_{index:06d}.png"
                seen, silhouette = (np.array(Image.open(scene / m / name)) for m in ("mask_visib", "mask"))
                if not seen.any():
                    continue
                rows, columns = np.nonzero(silhouette if whole else seen)
                left, top = int(columns.min()), int(rows.min())
                box = [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1]
                code = coco_masks.encode(np.asfortranarray(seen > 0).astype(np.uint8))
                entry = {"image_id": images[-1]["id"], "category_id": truth["obj_id"], "iscrowd": 0}
                area = 1 if known["visib_fract"] >= 0.1 else 1e20
                truths.append(
                    entry | {"id": len(truths) + 1, "bbox": box, "segmentation": code, "area": area}
                )
    for entry in found:
        entry["image_id"] += 1000 * entry["scene_id"]
    truth = COCO()
    categories = [{"id": obj_id} for obj_id in range(1, 11)]
    truth.dataset = {"images": images, "annotations": truths, "categories": categories}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), kind)
        evaluation.params.maxDets = [1, 5, 100]
        evaluation.evaluate(), evaluation.accumulate(), evaluation.summarize()
    recall = evaluation.eval["recall"][0, :, 0, 1]
    return {"AP": evaluation.stats[0], "AP50": evaluation.stats[1], "recall": recall[recall > -1].mean()}


def test_the_numbers_are_those_of_coco(tmp_path):
    """On photos of the mini set, with as many false detections, and some objects hardly to be seen."""
    source, folder = ROOT / "data/mini", tmp_path / "mini"
    scene = folder / "test/000002"
    shutil.copytree(source / "test/000002", scene, ignore=shutil.ignore_patterns("depth"))
    targets, entries = (load(source / name) for name in ("test_targets_bop19.json", "detections.json"))
    dump(folder / "test_targets_bop19.json", [target for target in targets if target["scene_id"] == 2])
    entries, rng = [entry for entry in entries if entry["scene_id"] == 2], np.random.default_rng(0)
    for entry in list(entries):
        entries.append(entry | {"category_id": int(rng.integers(1, 11)), "score": float(rng.uniform(0.5, 1))})
    found = dump(folder / "detections.json", entries)
    table = load(scene / "scene_gt_info.json")
    for known in (known for image in table.values() for known in image):
        known["visib_fract"] /= 2 + 8 * (known["visib_fract"] < 0.9)
    dump(scene / "scene_gt_info.json", table)
    kinds = score_detections(found, folder).kinds
    for kind, iou, whole in (("masks", "segm", 0), ("boxes", "bbox", 1), ("visible boxes", "bbox", 0)):
        expected = coco_numbers(folder, iou, bool(whole))
        ours = {name: getattr(kinds[kind], name) for name in expected}
        assert ours == pytest.approx(expected, abs=1e-12)
        assert 0.1 < expected["AP"] < expected["AP50"] < 0.95


def test_the_program(tmp_path, capsys):
    folder = write_truth(write_set(tmp_path))
    found, out = tmp_path / "found.json", tmp_path / "scores.json"
    dump(found, [detection(3, 2, 0.9, (6, 6, 10, 12))])
    given = ["--detections", str(found), "--dataset_dir", str(folder)]
    main([*given, "--out", str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["toy", "boxes", "0.3500", "0.5000", "0.5000", "0.2500"],
        ["toy", "visible", "boxes", "0.3500", "0.5000", "0.5000", "0.2500"],
    ]
    scores = load(out)
    assert scores["instances"] == {"2": 1, "5": 2}
    assert scores["kinds"]["boxes"]["objects"] == pytest.approx({"2": 0.7, "5": 0})
    for more in (["--measures"], ["--task", "detection"], ["--scorer", "bop_toolkit"]):
        with pytest.raises(SystemExit):
            main([*given, *more])
        assert f"error: {more[0]}" in capsys.readouterr().err


def truth_without(key: str):
    def change(folder: Path) -> None:
        path = folder / "test/000001/scene_gt_info.json"
        dump(
            path,
            {i: [{k: v for k, v in one.items() if k != key} for one in o] for i, o in load(path).items()},
        )

    return change


def hidden(folder: Path) -> None:
    path = folder / "test/000001/scene_gt_info.json"
    dump(path, {i: [one | {"visib_fract": 0.0} for one in objects] for i, objects in load(path).items()})


def small_mask(folder: Path) -> None:
    for name in ("000003_000000", "000003_000001", "000007_000000"):
        path = folder / f"test/000001/mask_visib/{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((HEIGHT, WIDTH - 1), 255, np.uint8)).save(path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (truth_without("bbox_obj"), "image 3, object 0 has no bbox_obj in gt_info: download"),
        (truth_without("visib_fract"), "image 3, object 0 has no visib_fract"),
        (small_mask, r"mask_visib/000003_000000\.png is not of its photo's size, 64x48 px"),
        (lambda folder: (folder / "test/000001/mask_visib").mkdir(), r"mask_visib/000003_000000\.png"),
        (lambda folder: (folder / "test/000001/scene_gt_info.json").unlink(), "scene_gt_info.json"),
        (hidden, "nothing is annotated in its images"),
    ],
)
def test_truth_that_cannot_be_is_refused_in_a_line(tmp_path, change, problem):
    folder = write_truth(write_set(tmp_path))
    change(folder)
    with pytest.raises(InputError, match=problem) as caught:
        scored(folder, detection(3, 2, 0.9, SEEN_BOX))
    assert "\n" not in str(caught.value)
