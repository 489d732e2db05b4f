"""How sure DualPoseNet's poses are: evidence by hand, the file beside weights, what users are told."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from benchmarks.category_confidence import Cases, fit, moved, report
from picopose.model.dualposenet.confidence import Evidence, confidence_file, read_confidence
from picopose.model.dualposenet.network import DualPoseNet, Estimate, Sizes
from picopose.model.dualposenet.passes import Pass
from picopose.model.dualposenet.refine import Observation
from picopose.model.dualposenet.stage import DualPoseNetStage
from picopose.model.logistic import Logistic
from picopose.pipeline.category_pose import CategoryPose
from picopose.utils.errors import InputError
from picopose.utils.records import Estimates, Frame
from tests.masks import records

NAMES = [field.name for field in fields(Evidence)]
BOTTLE, MUG = 1, 6
SIZE = np.array([0.3, -0.6, 0.2])  # a network may say minus a side; the diagonal is 0.7


def a_pass(degrees: float, axis: int, points: np.ndarray, shift: float = 0.0) -> Pass:
    """One whose object is turned about one of its own axes; the implicit decoder says `shift` more."""
    turn = Rotation.from_rotvec(np.radians(degrees) * np.eye(3)[axis])
    canonical = torch.tensor(turn.apply(points) / 0.7 + shift)[None]
    rotation = torch.tensor(turn.as_quat(scalar_first=True))[None]
    estimate = Estimate(rotation, torch.zeros(1, 3).double(), torch.tensor(SIZE)[None])
    seen = Observation(torch.zeros(0), torch.zeros(0), torch.tensor(points)[None])
    return Pass(seen, len(points), np.zeros(3), estimate, canonical)


def test_the_evidence_is_what_the_passes_show():
    points = np.array([[0.15, 0.3, 0.1], [-0.15, -0.2, 0.05]] * 300)
    points[0] = 5.0  # one stray of 600 does not count
    done = [a_pass(30, 2, points), a_pass(90, 1, points), a_pass(0, 0, 0.9 * points, shift=0.1)]
    evidence = Evidence.of([done, done, done[2:]], torch.tensor([MUG, BOTTLE, MUG]))
    # Points end at 0.9 of each half side: of the longest, 0.6 / 0.7, a twentieth is left.
    np.testing.assert_allclose(evidence.gap.exp(), 0.05 * 0.6 / 0.7 + 1e-3, rtol=1e-5)
    np.testing.assert_allclose(evidence.disagreement.exp(), 0.1**2 / 2, rtol=1e-5)
    # A quarter turn of a bottle about its axis is none; a single pass is confirmed by nothing.
    np.testing.assert_allclose(evidence.turn.exp(), [90.1, 0.1, 180.1], rtol=1e-5)
    np.testing.assert_allclose(evidence.points.exp(), 600, rtol=1e-5)
    assert evidence.round.tolist() == [0, 1, 0]
    assert torch.equal(evidence.table()[:, 2], evidence.gap)


def test_weights_without_a_file_say_nothing(tmp_path):
    assert read_confidence(tmp_path / "model.pt") is None


def test_the_file_beside_the_weights_is_read_and_refused_if_damaged(tmp_path):
    weights, table = tmp_path / "model.pt", dict.fromkeys(NAMES, 0.5) | {"bias": 1.0}
    path = confidence_file(weights)
    path.write_text(json.dumps(table))
    found = read_confidence(weights)
    assert found.weights.tolist() == [0.5] * len(NAMES) and found.bias == 1
    for text in (
        "",
        "[]",
        "3",
        "{}",
        json.dumps(table | {"gap": None}),
        json.dumps(table | {"bias": np.nan}),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=r"model\.json .*benchmarks\.category_confidence fit") as refused:
            read_confidence(weights)
        assert "\n" not in str(refused.value)


@pytest.fixture(scope="module")
def network() -> DualPoseNet:
    torch.manual_seed(0)
    made = DualPoseNet(Sizes(side=16, channels=(2, 2, 2, 2), feature=8, explicit=(8,), implicit=(8,)))
    torch.nn.init.ones_(made.explicit.size[-1].bias)  # so large that no point is left out
    return made


def test_the_stage_judges_its_poses(network):
    masks = torch.zeros(2, 48, 64, dtype=torch.bool)
    masks[0, 10:30, 10:40] = masks[1, 40:42, 50:60] = True
    masks[0, 10, 10] = False
    K = torch.tensor([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])
    depth = 0.8 + 0.1 * torch.rand(48, 64, generator=torch.Generator().manual_seed(0))
    frame = Frame(torch.full((3, 48, 64), 99, dtype=torch.uint8), K, depth)
    start = Estimates.of([MUG, MUG], records(masks))
    assert DualPoseNetStage(network)(frame, start).confidence is None
    calibration = Logistic(torch.linspace(-0.1, 0.1, len(NAMES)).double(), 0.3)
    stage = DualPoseNetStage(network, calibration=calibration)
    found = stage(frame, start)
    evidence = Evidence.of([stage.look(frame, start)[0][1]], start.obj_id[:1])
    expected = torch.sigmoid(evidence.table() @ calibration.weights + 0.3)
    torch.testing.assert_close(found.confidence[:1].double(), expected, atol=1e-5, rtol=0)
    assert found.confidence[1] == 0  # too few points
    diverged = DualPoseNetStage(
        network, calibration=Logistic(torch.full((len(NAMES),), torch.nan).double(), 0.0)
    )
    assert diverged(frame, start).confidence.tolist() == [0, 0]


def test_what_a_user_is_told():
    size = np.array([0.1, 0.2, 0.3])
    pose = CategoryPose("mug", np.eye(4), size, -1.0, 0.9, 500, np.zeros(4), confidence=0.87)
    assert str(pose) == "mug at 0.000 0.000 0.000 m, 100 x 200 x 300 mm: good, 87 % sure"
    assert (pose.to_dict()["confidence"], pose.to_dict()["verdict"]) == (0.87, "good")
    unknown = replace(pose, confidence=None).to_dict()
    assert unknown["confidence"] is unknown["verdict"] is None
    lost = replace(pose, inlier_ratio=0.0, support=-np.inf, confidence=0.0)
    told = json.loads(json.dumps(lost.to_dict(), allow_nan=False))
    assert told["confidence"] is told["verdict"] is told["support"] is None


def test_the_fit_finds_what_tells_right_from_wrong():
    rng = np.random.default_rng(0)
    evidence = rng.normal(size=(4000, len(NAMES)))
    right = rng.uniform(size=4000) < 1 / (1 + np.exp(2 * evidence[:, 2] - 1))
    found = fit(Cases(evidence, right, np.zeros(4000, bool)))
    assert found["gap"] == pytest.approx(-2, abs=0.15) and found["bias"] == pytest.approx(1, abs=0.15)
    assert all(abs(found[name]) < 0.15 for name in NAMES if name != "gap")
    with pytest.raises(InputError, match="right and wrong poses are needed"):
        fit(Cases(evidence, np.ones(4000, bool), np.zeros(4000, bool)))


def test_the_report_counts_by_confidence():
    right, beside = np.array([True, True, False, True, False]), np.array([False] * 4 + [True])
    told = report(Cases(np.zeros((5, len(NAMES))), right, beside), np.array([0.9, 1.0, 0.1, 0.15, 0.8]))
    assert "detections: 4, 50.0 % called good, 50.0 % wrong, AUROC 1.000" in told
    assert "0 to 20 % | 2 | 12.5 % | 50.0 %" in told and "80 to 100 % | 2 | 95.0 % | 100.0 %" in told
    assert "masks beside their objects: 1, 100.0 % called good, 0.0 % wrong\n" in told


def test_masks_are_moved_beside_their_objects():
    mask = torch.zeros(1, 100, 100, dtype=torch.bool)
    mask[0, 40:60, 45:50] = mask[0, 45, 40:50] = True
    found = Estimates.of([MUG] * 9, records(mask) * 9)
    shifts = [one.box - found.mask[0].box for one in moved(found, np.random.default_rng(0)).mask]
    for shift in shifts:
        assert torch.equal(shift[:2], shift[2:]) and 9 <= shift[:2].double().norm() <= 31
    assert len({tuple(shift.tolist()) for shift in shifts}) == 9
