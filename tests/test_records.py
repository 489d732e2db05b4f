"""Rows of estimates: chosen, joined, grouped and scored, with their masks and what is not known yet."""

from dataclasses import replace

import torch

from picopose.utils.records import Estimates, Mask


def masks(count: int) -> list[Mask]:
    return [Mask(torch.tensor([0, 0, i + 1, 1]), None) for i in range(count)]


def found(count: int) -> Estimates:
    score = torch.linspace(0.9, 0.5, count)
    return Estimates.of([10 + i for i in range(count)], masks(count), score=score, seconds=0.5)


def test_detections_are_groups_of_one_row():
    estimates = found(3)
    assert len(estimates) == 3 and estimates.group.tolist() == [0, 1, 2]
    assert estimates.box.tolist() == [[0, 0, 1, 1], [0, 0, 2, 1], [0, 0, 3, 1]]
    assert Estimates.of([4], masks(1)).score.tolist() == [1]
    nothing = Estimates.of([], [])
    assert len(nothing) == 0 and nothing.box.shape == (0, 4) and len(nothing.by_group()[0]) == 0


def test_rows_keep_their_masks_and_what_is_not_known_stays_unknown():
    estimates = replace(found(3), support=torch.tensor([0.1, 0.2, 0.3]))
    for rows in ([2, 0], torch.tensor([2, 0]), torch.tensor([False, True, True]), slice(1, 3)):
        chosen = estimates[rows]
        index = torch.arange(3)[rows].tolist()
        assert chosen.obj_id.tolist() == [10 + i for i in index]
        assert [mask.box[2].item() for mask in chosen.mask] == [i + 1 for i in index]
        assert torch.equal(chosen.support, estimates.support[index]) and chosen.cam_from_obj is None
        assert chosen.seconds == 0.5


def test_estimates_are_joined_row_by_row():
    both = Estimates.cat([found(2), replace(found(1), seconds=0.75)])
    assert both.obj_id.tolist() == [10, 11, 10] and len(both.mask) == 3 and both.seconds == 0.75
    assert both.mask[2].box.tolist() == [0, 0, 1, 1] and both.cam_from_obj is None


def test_groups_are_told_by_their_first_rows_wherever_these_are():
    estimates = replace(found(5), group=torch.tensor([7, 3, 7, 3, 9]))
    first, owner = estimates.by_group()
    assert first.obj_id.tolist() == [11, 10, 14] and first.group.tolist() == [3, 7, 9]
    assert owner.tolist() == [1, 0, 1, 0, 2]


def test_the_score_is_the_detections_times_what_is_believed_of_the_pose():
    estimates = found(2)
    assert torch.equal(estimates.total_score, estimates.score)
    supported = replace(estimates, support=torch.tensor([0.5, 2.0]))
    assert torch.equal(supported.total_score, estimates.score * supported.support)
    judged = replace(supported, confidence=torch.tensor([0.25, 1.0]))
    assert torch.equal(judged.total_score, estimates.score * judged.confidence)
