"""The annotated instances of a data set as detections: scored as perfect, boxes and order by hand."""

import sys

import numpy as np
import pytest
from PIL import Image

from picopose.datasets.bop.detections import Detections
from picopose.evaluation.regions import score_detections
from tests.small_bop import box_mask, dump, load, write_set
from tools.true_detections import main

# Of image 3: of object 2 a part, of object 5 what is not seen; of object 5 in image 7 all.
MASKS = {
    "000003_000000": box_mask(5, 6, 10, 12),
    "000003_000001": np.zeros_like(box_mask(0, 0, 1, 1)),
    "000003_000002": box_mask(30, 20, 20, 8),
    "000007_000000": box_mask(60, 0, 4, 48),
}


@pytest.fixture
def folder(tmp_path):
    """A set with a second instance of object 2 in image 3, of which more is seen."""
    folder = write_set(tmp_path)
    scene = folder / "test/000001"
    truth = load(scene / "scene_gt.json")
    truth["3"].append(truth["3"][0])
    dump(scene / "scene_gt.json", truth)
    box = {"bbox_obj": [0, 0, 9, 9], "bbox_visib": [0, 0, 9, 9]}
    shares = {"3": [0.5, 0.0, 1.0], "7": [1.0]}
    dump(
        scene / "scene_gt_info.json",
        {im_id: [box | {"visib_fract": s} for s in some] for im_id, some in shares.items()},
    )
    for name, mask in MASKS.items():
        path = scene / f"mask_visib/{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(255 * mask.astype(np.uint8)).save(path)
    return folder


def run(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["true_detections", *map(str, arguments)])
    main()


def test_the_masks_are_those_of_the_images(folder, tmp_path, monkeypatch):
    out = tmp_path / "true.json"
    run(monkeypatch, folder, "--out", out)
    found = Detections(out)
    chosen = found.of_image(1, 3)
    assert [(d.obj_id, d.score, d.seconds) for d in chosen] == [(2, 1.0, 0.0)] * 2  # none that is not seen
    masks = [mask.window(0, 0, 64, 48).numpy() for mask in found.masks(chosen, size=(48, 64))]
    np.testing.assert_array_equal(masks, [MASKS["000003_000002"], MASKS["000003_000000"]])
    assert [d.box for d in (*chosen, *found.of_image(1, 7))] == [
        *((30, 20, 50, 28), (5, 6, 15, 18), (60, 0, 64, 48)),
    ]
    scores = score_detections(out, folder).kinds["masks"]
    assert (scores.AP, scores.recall) == pytest.approx((1, 1))


def test_boxes_alone(folder, tmp_path, monkeypatch):
    for name, more in (("masks", []), ("boxes", ["--boxes"])):
        run(monkeypatch, folder, "--out", tmp_path / f"{name}.json", *more)
    masks, boxes = (load(tmp_path / f"{name}.json") for name in ("masks", "boxes"))
    assert all(entry.pop("segmentation") for entry in masks)
    assert boxes == masks and len(boxes) == 3


def test_a_set_without_masks_is_refused_in_a_line(tmp_path, monkeypatch, capsys):
    out = tmp_path / "true.json"
    with pytest.raises(SystemExit):
        run(monkeypatch, write_set(tmp_path), "--out", out)
    (line,) = capsys.readouterr().err.splitlines()
    assert "test/000001/mask_visib is not there: download" in line
    assert not out.exists()
