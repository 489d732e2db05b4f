"""Mean average precision by category, against the original's numbers and independent measures."""

import numpy as np
import pytest

from picopose.evaluation.categories.box_iou import box_ious, ious
from picopose.evaluation.categories.boxes import Boxes
from picopose.evaluation.categories.combined import combined_precision
from picopose.evaluation.categories.independent import independent_precision
from picopose.evaluation.categories.instances import Estimates, Truths
from picopose.evaluation.categories.pairs import measured_groups
from picopose.evaluation.categories.pose_errors import centimetres, degrees, relative_shifts
from tests.shared import shared

MODES = ("legacy", "correct", "oriented")


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(shared("reference_dualposenet/golden_eval.npz"), allow_pickle=False) as content:
        return dict(content)


@pytest.fixture(scope="module")
def instances(golden) -> tuple[Estimates, Truths]:
    estimated = [golden[f"in/pred_{name}"] for name in ("image", "class_ids", "RTs", "scales", "scores")]
    true = [golden[f"in/gt_{name}"] for name in ("image", "class_ids", "RTs", "scales", "handle_visibility")]
    return Estimates(*estimated), Truths(*true)


def test_errors_of_pairs(golden, instances):
    pairs = golden["pairs/index"]
    turn = degrees(*instances, pairs)
    # The arc cosine magnifies rounding near 0 degrees.
    np.testing.assert_allclose(turn, golden["pairs/degree_cm"][:, 0], atol=1e-5)
    np.testing.assert_allclose(centimetres(*instances, pairs), golden["pairs/degree_cm"][:, 1], atol=1e-9)
    expected = golden["pairs/degree_relative"][:, 1]
    np.testing.assert_allclose(relative_shifts(*instances, pairs), expected, atol=1e-9)


@pytest.mark.parametrize("mode", MODES)
def test_iou_of_pairs(golden, instances, mode):
    found = ious(*instances, golden["pairs/index"], mode)
    np.testing.assert_allclose(found, golden[f"pairs/iou_{mode}"], atol=1e-8)


def test_iou_of_pairs_without_turns(golden, instances):
    estimates, truths = instances
    rows, columns = golden["pairs/index"].T
    first = Boxes.of(estimates.poses[rows], estimates.sizes[rows])
    second = Boxes.of(truths.poses[columns], truths.sizes[columns])
    expected = golden["pairs/iou_oriented_no_symmetry"]
    np.testing.assert_allclose(box_ious(first, second, "oriented"), expected, atol=1e-8)


@pytest.mark.parametrize("mode", MODES)
def test_precision(golden, instances, mode):
    groups = measured_groups(*instances, mode)
    independent, combined = independent_precision(groups), combined_precision(groups)
    for name, found in (
        ("iou", independent.boxes),
        ("pose", independent.poses),
        ("combined", combined.poses),
    ):
        expected = golden[f"{mode}/{name}"]
        np.testing.assert_allclose(found, expected[1:7], atol=1e-6, err_msg=name)
        np.testing.assert_allclose(found.mean(axis=0), expected[7], atol=1e-6, err_msg=name)
