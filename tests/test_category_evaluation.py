"""Mean average precision by category, against the original's numbers and independent measures."""

import numpy as np
import pytest
from scipy.spatial import ConvexHull, HalfspaceIntersection

from picopose.evaluation.categories.average_precision import average_precision
from picopose.evaluation.categories.box_iou import box_ious, ious
from picopose.evaluation.categories.boxes import Boxes, turned
from picopose.evaluation.categories.combined import combined_precision
from picopose.evaluation.categories.curves import curves
from picopose.evaluation.categories.headline import headline
from picopose.evaluation.categories.independent import independent_precision, pose_precision
from picopose.evaluation.categories.instances import CLASSES, Estimates, Truths
from picopose.evaluation.categories.overlap import common_volumes
from picopose.evaluation.categories.pairs import Group, measured_groups
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


@pytest.mark.parametrize("mode", ["legacy", "correct"])
def test_headline_is_what_the_original_prints(golden, instances, mode):
    groups = measured_groups(*instances, mode)
    lines = headline(independent_precision(groups), combined_precision(groups))
    printed = [line.split(": ")[1] for line in str(golden[f"{mode}/printed"]).splitlines()]
    expected = printed[6:] + printed[:6]  # both together come first there
    digits = [1] * 7 + [2] * 6
    assert [f"{100 * line.value:.{n}f}" for line, n in zip(lines, digits, strict=True)] == expected
    assert [lines[0].name, lines[3].name, lines[7].name] == ["IoU25", "5° 2 cm", "IoU75 5° 5%"]


@pytest.mark.parametrize("mode", MODES)
def test_curves_pass_through_the_table(golden, instances, mode):
    found, boxes, poses = (
        curves(measured_groups(*instances, mode)),
        golden[f"{mode}/iou"],
        golden[f"{mode}/pose"],
    )
    np.testing.assert_allclose(found.boxes[:, [10, 25, 50, 75]], boxes[1:7], atol=1e-6)
    np.testing.assert_allclose(found.rotations[:, [5, 10]], poses[1:7, :2, 2], atol=1e-6)
    np.testing.assert_allclose(found.translations[:, [10, 25]], poses[1:7, 2, :2], atol=1e-6)


def test_precision_of_the_hand_case(golden):
    hits = golden["ap/case_match"][:, None] >= 0
    found = average_precision(hits, golden["ap/case_score"], len(golden["ap/case_gt"]))
    np.testing.assert_allclose(found, golden["ap/case_value"], atol=1e-12)


# The examples: extents (0.6, 0.5, 0.62), diagonal 0.3 m, 0.8 m in front of the camera


def rotation_about_y(angle: float) -> np.ndarray:
    return turned(np.eye(4)[None], np.radians(angle))[0, :3, :3]


def pose(scale: float = 0.3, angle: float = 0.0, shift: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = scale * rotation_about_y(angle)
    matrix[:3, 3] = np.array([0, 0, 0.8]) + shift
    return matrix


SIZES = np.array([0.6, 0.5, 0.62]) / np.linalg.norm([0.6, 0.5, 0.62])
EXAMPLES = (
    ("camera", pose(), 1, 1),
    ("camera", pose(0.15), 0.4779, 0.1250),
    ("camera", pose(shift=(0.02, 0, 0)), 0.9227, 0.8005),
    ("camera", pose(shift=(0, 0, 0.02)), 0.8262, 0.8063),
    ("camera", pose(angle=20), 0.6634, 0.6086),
    ("camera", pose(0.24), 0.7280, 0.5120),
    ("camera", pose(shift=(0.3, 0, 0)), 0.6368, 0),
    ("can", pose(angle=20), 0.9563, 0.9348),
    ("can", pose(0.15), 0.4779, 0.2439),
    ("can", pose(0.24), 0.7280, 0.7896),
)


def one_class(name: str, poses: list[np.ndarray], scores: list[float], handle_visible: bool = True):
    """Estimates of the example's object with some poses, and the object itself, in image 0."""
    count, class_id = len(poses), 1 + CLASSES.index(name)
    estimated = np.zeros(count, int), np.full(count, class_id), np.stack(poses), np.tile(SIZES, (count, 1))
    true = np.zeros(1, int), np.array([class_id]), pose()[None], SIZES[None], np.array([handle_visible])
    return Estimates(*estimated, np.array(scores)), Truths(*true)


@pytest.mark.parametrize("example", EXAMPLES)
def test_iou_of_the_examples(example):
    name, estimated, *expected = example
    both = one_class(name, [estimated], [1.0])
    found = [ious(*both, np.zeros((1, 2), int), mode)[0] for mode in ("legacy", "correct")]
    np.testing.assert_allclose(found, expected, atol=5.1e-5)


# Common volumes


def random_boxes(count: int, random: np.random.Generator) -> Boxes:
    """Boxes of 0.1 to 1 m near the origin; extents may be negative, as a network may estimate them."""
    rotations = np.linalg.qr(random.normal(size=(count, 3, 3)))[0]
    extents = random.uniform(0.05, 0.5, (count, 1, 3)) * random.choice([-1, 1], (count, 1, 3))
    return Boxes(random.uniform(-0.3, 0.3, (count, 3)), rotations * extents)


def holds(box: Boxes, points: np.ndarray) -> np.ndarray:
    """Whether a single box holds points (P, 3)."""
    local = (points - box.centers[0]) @ np.linalg.inv(box.half_axes[0]).T
    return (np.abs(local) <= 1).all(axis=1)


def test_common_volumes_against_drawn_points():
    random = np.random.default_rng(1)
    first, second = random_boxes(40, random), random_boxes(40, random)
    cube = random.uniform(-1, 1, (40_000, 3))
    found = common_volumes(first, second)
    for row in range(40):
        points = first.centers[row] + cube @ first.half_axes[row].T
        share = holds(second[[row]], points).mean()
        deviation = np.sqrt(max(share * (1 - share), 1e-4) / len(points))
        assert abs(found[row] / first.volumes[row] - share) < 4.5 * deviation


def halfspaces(box: Boxes) -> np.ndarray:
    """The planes (6, 4) of a single box: normal and offset, at most 0 within."""
    inverse = np.linalg.inv(box.half_axes[0])
    normals = np.concatenate([inverse, -inverse])
    return np.column_stack([normals, -normals @ box.centers[0] - 1])


def test_common_volumes_against_the_hull_of_their_corners():
    random = np.random.default_rng(2)
    first, second = random_boxes(200, random), random_boxes(200, random)
    second.centers[:100] = first.centers[:100]  # so that an inner point is known
    slight = np.linalg.qr(np.eye(3) + 1e-9 * random.normal(size=(50, 3, 3)))[0]
    second.half_axes[:50] = slight @ first.half_axes[:50]  # nearly the same box
    found = common_volumes(first, second)
    for row in range(100):
        planes = np.concatenate([halfspaces(first[[row]]), halfspaces(second[[row]])])
        corners = HalfspaceIntersection(planes, first.centers[row]).intersections
        np.testing.assert_allclose(found[row], ConvexHull(corners).volume, rtol=1e-6)
    np.testing.assert_allclose(found, common_volumes(second, first), rtol=1e-8, atol=1e-12)


def test_common_volumes_of_boxes_with_faces_in_one_plane():
    random = np.random.default_rng(3)
    turn, place = np.linalg.qr(random.normal(size=(3, 3)))[0], random.normal(size=3)
    shifts = np.array([[0, 0, 0], [0.5, 0, 0], [2, 0, 0], [2, 2, 2], [0.5, 0.5, 0], [-1.5, 0, 0], [3, 0, 0]])
    first = Boxes(np.tile(place, (7, 1)), np.tile(turn, (7, 1, 1)))
    second = Boxes(place + shifts @ turn.T, first.half_axes)
    expected = np.maximum(2 - np.abs(shifts), 0).prod(axis=1)
    np.testing.assert_allclose(common_volumes(first, second), expected, atol=1e-8)
    half = Boxes(first.centers + 0.5 * turn[:, 0], first.half_axes * [0.5, 1, 1])  # shares five faces
    np.testing.assert_allclose(common_volumes(first, half), half.volumes, atol=1e-8)


@pytest.mark.parametrize("scale, mode", [(0.0, "correct"), (0.0, "oriented"), *((np.nan, m) for m in MODES)])
def test_a_box_without_volume_overlaps_nothing(scale, mode):
    both = one_class("camera", [pose(scale)], [1.0])
    groups = measured_groups(*both, mode)
    assert groups[0].ious == 0
    assert not independent_precision(groups).boxes.any()


# The rules of matching


def test_equal_axes_have_no_angle():
    random = np.random.default_rng(4)
    poses = np.tile(np.eye(4), (500, 1, 1))
    poses[:, :3, :3] = (
        random.uniform(0.1, 0.5, (500, 1, 1)) * np.linalg.qr(random.normal(size=(500, 3, 3)))[0]
    )
    same = np.column_stack([np.arange(500)] * 2)
    rest = np.zeros(500, int), np.full(500, 1), poses, np.tile(SIZES, (500, 1))
    found = degrees(Estimates(*rest, np.ones(500)), Truths(*rest, np.ones(500)), same)
    np.testing.assert_allclose(found, 0, atol=5e-6)


@pytest.mark.parametrize(
    "name, handle_visible, expected",
    [("mug", True, 30), ("mug", False, 0), ("can", True, 0), ("laptop", False, 30)],
)
def test_a_hidden_handle_makes_a_mug_round(name, handle_visible, expected):
    both = one_class(name, [pose(angle=30)], [1.0], handle_visible)
    assert degrees(*both, np.zeros((1, 2), int))[0] == pytest.approx(expected, abs=1e-5)


def test_the_first_of_equal_scores_takes_the_truth():
    """Both are near enough for a hit, but one alone can have it; the second is a false positive at most."""
    both = one_class("camera", [pose(), pose(), pose(shift=(3, 0, 0))], [0.5, 0.5, 0.9])
    found = independent_precision(measured_groups(*both, "oriented")).boxes[CLASSES.index("camera")]
    np.testing.assert_allclose(found, 0.5)


def test_many_equal_scores_keep_their_order():
    scores, hits = np.arange(100) % 3 / 3, np.random.default_rng(5).random((100, 1)) < 0.5
    expected = average_precision(hits, scores - 1e-6 * np.arange(100), 50)
    np.testing.assert_array_equal(average_precision(hits, scores, 50), expected)


def test_a_pose_takes_the_truth_of_least_degrees_and_centimetres():
    """The first is within 5 degrees and 5 cm of both truths, the second of the first truth alone."""
    turn, shift = np.array([[1.0, 3.0], [1.0, 50.0]]), np.array([[4.5, 0.0], [1.0, 50.0]])
    overlaps = np.array([[0.5, 0.9], [0.9, 0.5]])
    group = Group(CLASSES.index("camera") + 1, np.array([0.9, 0.8]), overlaps, turn, shift, shift / 30)
    assert pose_precision([group], [5.0], [5.0])[CLASSES.index("camera")] == 1


def test_classes_without_truths():
    estimates, truths = one_class("bowl", [pose()], [1.0])
    elsewhere = Truths(truths.image, truths.classes + 1, truths.poses, truths.sizes, truths.handle_visible)
    groups = measured_groups(estimates, elsewhere, "correct")
    for found in (independent_precision(groups).boxes, combined_precision(groups).poses):
        assert np.isnan(found[CLASSES.index("bowl")]).all()
        assert not found[CLASSES.index("camera")].any()  # missed
        assert not found[CLASSES.index("can")].any()  # absent
    nothing = Estimates(*(values[:0] for values in vars(estimates).values()))
    assert not independent_precision(measured_groups(nothing, truths, "legacy")).poses.any()


def test_an_estimate_right_about_the_box_alone_is_wrong_together():
    both = one_class("camera", [pose(angle=8)], [1.0])
    found = combined_precision(measured_groups(*both, "oriented")).poses[CLASSES.index("camera")]
    assert not found[0].any()  # 5 degrees
    assert found[1:, :, :2].all()
