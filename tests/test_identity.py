"""Which of several objects is at a place: who competes, and how the benchmark counts."""

import numpy as np
import torch
from torchvision.ops import box_iou

from benchmarks.identity import Competitions, places, report, rules
from picopose.datasets.bop.test_set import BopTestSet
from picopose.model.stage import Thing
from picopose.pipeline.identity import rivals_of
from tests.shared import ROOT

MUG, CUP = Thing(0, "mug", 0.1), Thing(1, "cup", 0.1)


def test_objects_compete_only_where_there_are_several():
    tried = [(0, MUG), (1, MUG), (1, CUP), (2, CUP)]
    assert rivals_of(tried) == {1: [MUG, CUP]}
    assert rivals_of(tried[:1]) == {}


def test_the_report_counts_what_each_rule_takes_and_what_is_confused():
    evidence = np.zeros((3, 2, 4))
    evidence[:, :, 0] = [[0.9, 0.1], [0.9, 0.1], [0.2, 0.3]]  # matched: right at the first and the last place
    evidence[:, :, 1] = [[0.1, 0.2], [0.1, 0.2], [0.1, 0.2]]  # error: less is better
    found = Competitions(
        obj_id=np.array([4, 7]),
        true=np.array([4, 7, 7]),
        agreement=np.array([[0.1, 0.5], [0.2, 0.6], [0.3, 0.7]]),
        evidence=evidence,
        confidence=np.array([[0.6, 0.5], [0.6, 0.7], [0.3, 0.7]]),
        seconds=np.array([1.0, 2.0, 3.0]),
    )
    lines = report(found).splitlines()
    assert "| agreement | 66.7 % |" in lines and "| confidence | 100.0 % |" in lines
    assert "| matched | 66.7 % |" in lines and "| - log_error | 33.3 % |" in lines
    assert lines[-2].endswith("4 for 7: 1") and lines[-1] == "2.00 s a place for 2 objects"
    assert found.chosen(rules(found)["agreement x matched"]).tolist() == [4, 4, 7]


def test_detections_that_lie_on_no_instance_of_their_object_are_left_out():
    """In the first image of the set one of seven is missing and one is false."""
    dataset = BopTestSet(ROOT / "data", "mini")
    frame = dataset[0]
    detected = dataset.start(frame)
    found = list(places(dataset, frame, boxes=False))
    assert 0 < len(found) < len(detected)
    kept = {(obj_id, *mask.box.tolist()) for obj_id, mask in found}
    given = [
        (obj_id, *mask.box.tolist())
        for obj_id, mask in zip(detected.obj_id.tolist(), detected.mask, strict=True)
    ]
    (left_out,) = set(given) - kept
    others = torch.tensor([one[1:] for one in kept if one[0] == left_out[0]]).reshape(-1, 4).float()
    assert (box_iou(torch.tensor([left_out[1:]]).float(), others) < 0.5).all()
    boxed = [mask for _, mask in places(dataset, frame, boxes=True)]
    assert all(mask.is_box for mask in boxed)
    assert [mask.box.tolist() for mask in boxed] == [mask.box.tolist() for _, mask in found]
