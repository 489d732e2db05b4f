"""The confidence of poses: its evidence against brute force, its calibration, and what it tells apart."""

import json
from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
import torch
import trimesh
from scipy.optimize import least_squares, minimize
from scipy.spatial.transform import Rotation

from benchmarks import confidence as benchmark
from benchmarks.confidence import Cases, confidence_of, fit, read_cases
from benchmarks.logistic import auroc
from picopose.evaluation.ground_truth import ImageTruth, load_ground_truth
from picopose.model.confidence import (
    CALIBRATION,
    Confidence,
    Evidence,
    _expected_error,
    _residuals,
    _spread,
    read_calibration,
)
from picopose.model.drawn.crops import PADDING
from picopose.model.drawn.matcher import Matcher
from picopose.model.drawn.xfeat import load_xfeat
from picopose.model.stage import Thing, Things
from picopose.pipeline.verdict import GOOD, WRONG, verdict
from picopose.rendering.mesh import make_mesh
from picopose.rendering.mesh_views import MeshViews
from picopose.utils.errors import InputError
from picopose.utils.records import Correspondences, Estimates, Frame
from tests.masks import records, whole
from tests.mini_photos import DATA, annotated, error, model, things
from tests.raycast import cast_depth
from tools.pictures.confidence import reliability

NAMES = [field.name for field in fields(Evidence)]


def at(found: Estimates, cam_from_obj: torch.Tensor) -> Estimates:
    support, view = torch.rand(len(found)), torch.arange(len(found))
    return replace(
        found, cam_from_obj=cam_from_obj.float(), support=support, inlier_ratio=0.5 * support, view=view
    )


def make_judge(known: Things, *, batch: int = 16) -> Confidence:
    judge = Confidence(Matcher(load_xfeat(), batch=batch), read_calibration())
    judge.prepare(known)
    return judge


@pytest.fixture(scope="module")
def judge() -> Confidence:
    return make_judge(things())


# --- evidence

WIDTH, HEIGHT = 160, 120
K = torch.tensor([[220.0, 0, 81.0], [0, 220, 57], [0, 0, 1]])


def box_scene() -> tuple[Confidence, Frame, Estimates, torch.Tensor, np.ndarray]:
    """A box in a grey photo, several regions for it, its pose and its silhouette (H, W) by ray casting."""
    box = trimesh.creation.box((0.08, 0.05, 0.03))
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.from_numpy(Rotation.from_euler("xyz", [0.4, 0.5, 0.3]).as_matrix())
    pose[:3, 3] = torch.tensor([0.01, 0.005, 0.25])
    drawn = cast_depth(box.vertices, box.faces, pose.numpy(), K.double().numpy(), WIDTH, HEIGHT) > 0
    masks = np.zeros((4, HEIGHT, WIDTH), bool)
    masks[0] = drawn
    masks[1] = np.roll(drawn, (7, 12), (0, 1))
    masks[2, 30:90, 50:110] = True  # a box
    masks[3, 5:15, 5:25] = True
    masks[3, 5, 5] = False  # far away, and no box
    frame = Frame(torch.full((3, HEIGHT, WIDTH), 128, dtype=torch.uint8), K)
    found = Estimates.of([1] * 4, records(torch.from_numpy(masks)))
    source = MeshViews({1: make_mesh(box.vertices, box.faces)})
    return make_judge(Things({1: Thing(1, "box", 0.1)}, source)), frame, found, pose, drawn


def test_overlaps_equal_those_counted_in_the_photo():
    stage, frame, found, pose, drawn = box_scene()
    evidence, is_box = stage.evidence(frame, at(found, pose.repeat(4, 1, 1)))
    assert is_box.tolist() == [False, False, True, False]
    rows, columns = np.nonzero(drawn)
    silhouette = np.zeros_like(drawn)
    silhouette[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    for i, mask in enumerate(whole(found.mask, HEIGHT, WIDTH).numpy()):
        rows, columns = np.nonzero(mask)
        box = np.zeros_like(mask)
        box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
        box_iou = (box & silhouette).sum() / (box | silhouette).sum()
        # Whole pixels are counted here, and parts of them there.
        assert evidence.box_iou[i].item() == pytest.approx(box_iou, abs=0.03)
        (x, y), radius = cv2.minEnclosingCircle(np.stack([columns, rows], axis=1).astype(np.float32))
        if i == 2:  # a box, whose circle is as wide as its side
            radius = 29.5
        u, v = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
        # What lies outside the crop does not count.
        shown = np.maximum(abs(u - x), abs(v - y)) < PADDING * (radius + 0.5)
        iou = (mask & drawn & shown).sum() / ((mask | drawn) & shown).sum()
        assert evidence.mask_iou[i].item() == pytest.approx(iou, abs=0.03)
    assert evidence.mask_iou[3] == evidence.box_iou[3] == 0
    assert evidence.mask_iou[0] > 0.97 and 0.3 < evidence.mask_iou[1] < 0.8
    assert evidence.matched[3] == 0  # nothing is drawn there
    assert torch.equal(evidence.table(), torch.stack([getattr(evidence, name) for name in NAMES], dim=1))


def test_a_pose_behind_the_camera_is_no_good_but_a_number():
    stage, frame, found, pose, _ = box_scene()
    pose[2, 3] *= -1
    poses = stage(frame, at(found, pose.repeat(4, 1, 1)))
    evidence, _ = stage.evidence(frame, poses)
    assert not evidence.box_iou.any() and not evidence.mask_iou.any()
    assert poses.confidence.isfinite().all() and (poses.confidence < WRONG).all()


def test_the_expected_error_is_that_of_noisy_matches():
    """Against the spread of poses that least squares finds from many draws of the same noise."""
    rng = np.random.default_rng(0)
    pose, points = np.eye(4), rng.uniform(-0.05, 0.05, (60, 3))
    pose[:3, :3], pose[:3, 3] = Rotation.from_euler("xyz", [0.3, 0.2, 0.1]).as_matrix(), [0.02, 0.01, 0.6]
    camera, noise = np.array([[600.0, 0, 128], [0, 600, 128], [0, 0, 1]]), 1.0

    def pixels(motion: np.ndarray) -> np.ndarray:
        turn = Rotation.from_rotvec(motion[3:]).as_matrix() @ pose[:3, :3]
        xyw = (points @ turn.T + pose[:3, 3] + motion[:3]) @ camera.T
        return xyw[:, :2] / xyw[:, 2:]

    offsets = []
    for _ in range(60):
        seen = pixels(np.zeros(6)) + rng.normal(0, noise, (60, 2))
        motion = least_squares(lambda m, seen=seen: (pixels(m) - seen).ravel(), np.zeros(6)).x
        turn = Rotation.from_rotvec(motion[3:]).as_matrix() @ pose[:3, :3]
        offsets.append((points @ (turn - pose[:3, :3]).T + motion[:3]) ** 2)
    measured = np.sqrt(np.sum(offsets, axis=2).mean())
    seen = pixels(np.zeros(6)) + rng.normal(0, noise, (60, 2))
    tensors = [torch.from_numpy(values)[None] for values in (seen, points, np.ones(60), pose, camera)]
    matches, placed, K = Correspondences(*tensors[:3]), *tensors[3:]
    residual, near = _residuals(matches, placed, K)
    covariance = _spread(matches, residual, near, placed, K)
    hull = points @ pose[:3, :3].T + pose[:3, 3]
    expected = _expected_error(covariance[0], placed[0, :3, 3], torch.from_numpy(hull))
    diameter = 2 * np.linalg.norm(hull - hull.mean(axis=0), axis=1).max()
    # Six more matches, 3 px off, are assumed, which makes it a little larger.
    assert 0.8 < expected.item() * diameter / measured < 1.6


# --- what it tells apart


@pytest.mark.parametrize(("scene_id", "im_id", "boxed"), [(1, 4, False), (2, 2, True)])
def test_true_poses_are_surer_than_turned_and_moved_ones(judge, scene_id, im_id, boxed):
    frame, found = annotated(scene_id, im_id)
    if boxed:
        found = replace(found, mask=tuple(replace(m, inside=None) for m in found.mask))
    true = found.cam_from_obj
    moved, turned = true.clone(), true.clone()
    for i, obj_id in enumerate(found.obj_id.tolist()):
        moved[i, 0, 3] += 0.5 * model(obj_id).diameter
        axis = Rotation.from_euler("x", 90, degrees=True).as_matrix()  # every object here looks another then
        turned[i, :3, :3] = true[i, :3, :3] @ torch.from_numpy(axis)
    sure, *unsure = (judge(frame, at(found, p)).confidence for p in (true, moved, turned))
    assert len(sure) >= 4 and (boxed or sure.mean() > GOOD)
    for other in unsure:
        assert (sure > other).all()
        assert other.mean() < 0.5 * sure.mean()


def test_scores_are_the_detections_times_the_confidence(judge):
    frame, found = annotated(1, 4)
    before = at(found, found.cam_from_obj)
    torch.testing.assert_close(before.total_score, found.score * before.support)
    after = judge(frame, before)
    torch.testing.assert_close(after.total_score, found.score * after.confidence)
    for name in ("cam_from_obj", "inlier_ratio", "view"):
        assert torch.equal(getattr(after, name), getattr(before, name))
    evidence, is_box = judge.evidence(frame, before)
    assert not is_box.any()
    calibration = json.loads(CALIBRATION.read_text())["mask"]
    logit = calibration["bias"] + sum(calibration[name] * getattr(evidence, name).double() for name in NAMES)
    torch.testing.assert_close(after.confidence.double(), 1 / (1 + (-logit).exp()), atol=1e-5, rtol=0)


def test_confidences_do_not_depend_on_the_batch(judge):
    seen = annotated(2, 0)
    ours, theirs = (stage(*seen).confidence for stage in (judge, make_judge(things(), batch=1)))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_no_detections(judge):
    frame, found = annotated(1, 4)
    judged = judge(frame, found[[]])
    assert len(judged) == 0 and judged.score.shape == (0,)


def test_hypotheses_about_one_detection_are_judged_one_by_one(judge):
    frame, found = annotated(1, 4)
    twice = found[torch.arange(len(found)).repeat_interleave(2)]
    torch.testing.assert_close(
        judge(frame, twice).confidence, judge(frame, found).confidence.repeat_interleave(2), atol=1e-4, rtol=0
    )


def test_verdicts():
    words = [verdict(confidence) for confidence in (0.0, WRONG - 1e-6, WRONG, GOOD - 1e-6, GOOD, 1.0)]
    assert words == ["wrong", "wrong", "doubtful", "doubtful", "good", "good"]


# --- the calibration


def table() -> dict[str, dict[str, float]]:
    return {kind: dict.fromkeys(NAMES, 1.0) | {"bias": bias} for kind, bias in (("mask", -2.0), ("box", 1.0))}


def test_masks_and_boxes_are_weighed_by_their_own(tmp_path):
    path = tmp_path / "confidence.json"
    path.write_text(json.dumps(table()))
    calibration = read_calibration(path)
    evidence = Evidence(*torch.tensor([[0.1, 0.2], [0.3, 0.0], [0.7, 0.1], [1.0, 0.5]]))
    expected = 1 / (1 + np.exp(-np.array([2.1 - 2, 0.8 - 2])))
    np.testing.assert_allclose(calibration.mask(evidence), expected, atol=1e-6)
    np.testing.assert_allclose(calibration.box(evidence), 1 / (1 + np.exp(-np.array([3.1, 1.8]))), atol=1e-6)


def without(name: str) -> str:
    changed = table()
    del changed["box"][name]
    return json.dumps(changed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "{}",
        json.dumps(table())[:-20],
        json.dumps({"mask": table()["mask"]}),
        json.dumps(table() | {"box": 3}),
        json.dumps(table() | {"box": [*NAMES, "bias"]}),
        json.dumps(table() | {"box": table()["box"] | {"depth": 1.0}}),
        json.dumps(table() | {"box": table()["box"] | {"matched": None}}),
        json.dumps(table() | {"box": table()["box"] | {"matched": "much"}}),
        json.dumps(table() | {"box": table()["box"] | {"matched": float("nan")}}),
        json.dumps(table() | {"mask": table()["mask"] | {"bias": float("inf")}}),
        without("matched"),
        without("bias"),
    ],
)
def test_damaged_calibrations_are_refused_in_one_line(tmp_path, text):
    path = tmp_path / "confidence.json"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        read_calibration(path)
    message = str(refused.value)
    assert str(path) in message and "python -m benchmarks.confidence fit" in message
    assert "\n" not in message
    with pytest.raises(InputError, match="absent"):
        read_calibration(tmp_path / "absent.json")


# --- fitting and checking it


def test_auroc_counts_pairs():
    rng = np.random.default_rng(0)
    score, right = rng.integers(0, 6, 40) / 5, rng.uniform(size=40) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in score[right] for b in score[~right]]
    assert auroc(score, right) == pytest.approx(np.mean(pairs), abs=1e-12)
    assert auroc(right.astype(float), right) == 1 and auroc(1.0 - right, right) == 0


def synthetic(count: int = 3000) -> tuple[Cases, dict[bool, np.ndarray]]:
    """Cases whose probabilities are logistic in the evidence, by other weights for boxes, and these."""
    rng = np.random.default_rng(1)
    evidence = rng.uniform(size=(count, len(NAMES))) * [1, 3, 1, 1] + [0, -4, 0, 0]
    is_box = rng.uniform(size=count) < 0.4
    weights = {False: np.array([3, -0.5, 4, -1, -5]), True: np.array([5, 0.5, 0, 1, -1.0])}
    logit = np.where(is_box, *(evidence @ w[:-1] + w[-1] for w in (weights[True], weights[False])))
    right = rng.uniform(size=count) < 1 / (1 + np.exp(-logit))
    kind = np.where(is_box, "box", "mask")
    return Cases(evidence.astype(np.float32), is_box, kind, np.where(right, 0.05, 0.5)), weights


def test_the_fit_has_the_greatest_likelihood():
    cases, weights = synthetic()
    found = fit(cases)
    for kind, is_box in (("mask", False), ("box", True)):
        chosen = cases.is_box == is_box
        table = np.column_stack([cases.evidence[chosen].astype(float), np.ones(chosen.sum())])
        sign = 2 * cases.right[chosen] - 1

        def cost(w, table=table, sign=sign):
            return np.logaddexp(0, -sign * (table @ w)).mean()

        expected = minimize(cost, np.zeros(table.shape[1]), method="BFGS").x
        ours = np.array([found[kind][name] for name in (*NAMES, "bias")])
        assert cost(ours) < cost(expected) + 1e-5
        np.testing.assert_allclose(ours, expected, atol=0.05)
        np.testing.assert_allclose(ours, weights[is_box], atol=1.0)


def test_what_is_fitted_is_read_calibrated_and_told(tmp_path):
    cases, _ = synthetic()
    parts = [cases[:1000], cases[1000:]]
    for i, part in enumerate(parts):
        np.savez(tmp_path / f"{i}.npz", **vars(part))
    again = read_cases([tmp_path / "0.npz", tmp_path / "1.npz"])
    for name, values in vars(cases).items():
        assert np.array_equal(getattr(again, name), values)
    path = tmp_path / "confidence.json"
    path.write_text(json.dumps(fit(again)))
    confidence = confidence_of(again, read_calibration(path))
    for low in (0.1, 0.4, 0.7):
        chosen = (confidence >= low) & (confidence < low + 0.2)
        assert chosen.sum() > 100
        assert again.right[chosen].mean() == pytest.approx(confidence[chosen].mean(), abs=0.08)
    lines = benchmark.report(again, confidence).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["box", "mask"]
    boxes = lines[2].split("|")
    assert int(boxes[2]) == again.is_box.sum()
    assert float(boxes[3].strip(" %")) == pytest.approx(100 * again.right[again.is_box].mean(), abs=0.06)
    area = auroc(confidence[again.is_box], again.right[again.is_box])
    assert float(boxes[4]) == pytest.approx(area, abs=6e-4)
    unsure = benchmark.report(again, np.full(len(confidence), 0.5)).splitlines()[2].split("|")
    assert [cell.strip() for cell in unsure[5:9]] == ["0.0 %", "-", "0.0 %", "-"]
    assert len(reliability(again, confidence).axes) == 2


def test_a_trial_leaves_the_shipped_calibration_alone(tmp_path, monkeypatch, capsys):
    cases, _ = synthetic()
    given, out, shipped = tmp_path / "cases.npz", tmp_path / "trial.json", CALIBRATION.read_bytes()
    np.savez(given, **vars(cases))
    monkeypatch.setattr("sys.argv", ["confidence", "fit", str(given), "--out", str(out)])
    benchmark.main()
    assert CALIBRATION.read_bytes() == shipped and json.loads(out.read_text()) == fit(cases)
    told = capsys.readouterr().out
    assert benchmark.report(cases, confidence_of(cases, read_calibration(out))) in told


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist: collect"), (b"", "holds no cases"), (b"PK\3\4 cut off", "holds no cases")],
)
def test_cases_that_cannot_be_read_are_refused_in_a_line(content, message, tmp_path, monkeypatch, capsys):
    given = tmp_path / "cases.npz"
    if content is not None:
        given.write_bytes(content)
    monkeypatch.setattr("sys.argv", ["confidence", "check", str(given)])
    with pytest.raises(SystemExit):
        benchmark.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{given} {message}" in line


def test_cases_of_something_else_are_refused(tmp_path):
    np.savez(tmp_path / "cases.npz", evidence=np.zeros((3, 4)), right=np.zeros(3, bool))
    with pytest.raises(InputError, match=r"holds no cases of this kind .*is_box"):
        read_cases([tmp_path / "cases.npz"])


@pytest.mark.parametrize(("kind", "other"), [("mask", "box"), ("box", "mask")])
def test_right_and_wrong_poses_of_both_kinds_are_needed(kind, other):
    cases, _ = synthetic(300)
    for left_out in (cases.kind == kind, (cases.kind == kind) & cases.right):
        with pytest.raises(InputError, match=f"poses in a {kind}"):
            fit(cases[~left_out])
    assert fit(cases).keys() == {kind, other}


def test_evidence_that_never_changes_weighs_nothing():
    cases, _ = synthetic(300)
    cases.evidence[:, 0] = 0.5
    found = fit(cases)
    assert found["mask"][NAMES[0]] == found["box"][NAMES[0]] == 0
    assert all(np.isfinite(list(entry.values())).all() for entry in found.values())


def image_truth() -> ImageTruth:
    """Of scene 1, image 4."""
    split, targets = DATA / "mini/test", DATA / "mini/test_targets_bop19.json"
    images = load_ground_truth(split, targets, per_object=True).images
    return next(image for image in images if (image.scene_id, image.im_id) == (1, 4))


def test_right_poses_are_those_below_a_tenth_of_the_diameter():
    _, found = annotated(1, 4)
    true, obj_ids, truth = found.cam_from_obj, found.obj_id.tolist(), image_truth()
    models = {obj_id: model(obj_id) for obj_id in obj_ids}
    diameters = torch.tensor([models[obj_id].diameter for obj_id in obj_ids])
    for share in (0.05, 0.095, 0.105, 2.0):
        moved = true.clone()
        moved[:, 2, 3] += share * diameters
        measured = benchmark._errors(at(found, moved), truth, models)
        errors = [error(o, p, t[None]) for o, p, t in zip(obj_ids, moved, true, strict=True)]
        np.testing.assert_allclose(measured, errors, rtol=1e-4)
        right = measured < 0.1
        if share < 0.1 or share > 1:  # between, a symmetric object's ADD-S is smaller than its shift
            assert right.all() == right.any() == (share < 0.1)


def test_empty_boxes_lie_clear_of_all_objects():
    models = {obj_id: model(obj_id) for obj_id in range(1, 11)}
    truth = image_truth()
    wanted = [[0, 0, 60, 40], [10, 20, 40, 90], [0, 0, 640, 480]]
    found = benchmark._empty_boxes(np.random.default_rng(0), wanted, truth, models, (480, 640))
    assert found[2] is None  # nothing as large as the photo is empty
    covered = np.zeros((480, 640), bool)
    for obj_id, pose in zip(truth.obj_id.tolist(), truth.cam_from_obj, strict=True):
        xyz = (models[obj_id].vertices @ pose[:, :3].T + pose[:, 3]) @ truth.K.T
        x, y = (xyz[:, :2] / xyz[:, 2:]).round().astype(int).T
        seen = (x >= 0) & (x < 640) & (y >= 0) & (y < 480)
        covered[y[seen], x[seen]] = True
    for box, (left, top, right, bottom) in zip(wanted[:2], found[:2], strict=True):
        assert [right - left, bottom - top] == [box[2] - box[0], box[3] - box[1]]
        assert left >= 0 and top >= 0 and right <= 640 and bottom <= 480
        assert not covered[top:bottom, left:right].any()
