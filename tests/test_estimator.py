"""The estimator as a library: a mesh and a photo in, poses out."""

import gc
import json
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from picopose.model.stage import Stage
from picopose.pipeline import estimator as estimating
from picopose.pipeline.estimator import PoseEstimator
from picopose.utils.errors import InputError
from picopose.utils.records import Estimates, Frame
from picopose.utils.symmetry import parse_symmetry
from tests.box_and_cone import BOX, PHOTO, TINY, K, as_pose
from tests.shared import ROOT
from tests.toys import detector


def test_one_pose_for_each_place(estimator):
    poses = estimator.estimate(PHOTO, K, boxes=[BOX, (80, 40, 150, 110)], objects=["cone", "box"])
    assert [pose.name for pose in poses] == ["cone", "box"]
    assert poses[1].box.tolist() == [80, 40, 150, 110]
    for pose in poses:
        rotation = pose.cam_from_obj[:3, :3]
        assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)
        assert np.allclose(Rotation.from_quat(pose.quaternion_xyzw).as_matrix(), rotation, atol=1e-6)
        assert pose.cam_from_obj[2, 3] > 0 and 0 <= pose.inlier_ratio <= 1
        assert 0 <= pose.confidence <= 1


class Told(Stage):
    """A stage that is told the confidence of each object's poses; whatever else is better is less sure."""

    def __init__(self, confidence: list[float]):
        self.confidence, self.asked = torch.tensor(confidence), []

    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        self.asked.append(found.obj_id.tolist())
        confidence = self.confidence[found.obj_id]
        ahead = torch.eye(4).repeat(len(confidence), 1, 1)
        ahead[:, 2, 3] = 1
        other = 1 - confidence
        view = torch.zeros(len(other), dtype=torch.long)
        return replace(found, cam_from_obj=ahead, inlier_ratio=other, view=view, confidence=confidence)


class Agreeing(Stage):
    """A stage that keeps one object, of all that may be at a place."""

    def __init__(self, obj_id: int):
        self.obj_id = obj_id

    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        return replace(found[found.obj_id == self.obj_id], cam_from_obj=torch.eye(4)[None])


@pytest.mark.parametrize(("obj_id", "name"), [(1, "cone"), (0, "box")])
def test_of_several_objects_only_the_one_that_agrees_best_gets_a_pose(estimator, monkeypatch, obj_id, name):
    """However sure the poses of the other one would be."""
    told = Told([0.4, 0.4])
    told.confidence[1 - obj_id] = 0.9
    monkeypatch.setattr(estimator, "_stages", [told])
    monkeypatch.setattr(estimator, "_identifying", [Agreeing(obj_id)])
    (best,) = estimator.estimate(PHOTO, K, boxes=[BOX])
    assert (best.name, best.confidence) == (name, pytest.approx(0.4))
    three = estimator.estimate(PHOTO, K, boxes=[BOX, (0, 0, 50, 50), (80, 40, 150, 110)])
    assert [pose.name for pose in three] == [name] * 3
    assert [pose.box[0] for pose in three] == [30, 0, 80]
    assert told.asked == [[obj_id], [obj_id] * 3]


def test_as_many_boxes_as_objects_pair_in_order(estimator, monkeypatch):
    """However sure it is of another object: each is looked for at its own place alone."""
    told = Told([0.9, 0.1])
    monkeypatch.setattr(estimator, "_stages", [told])
    poses = estimator.estimate(PHOTO, K, boxes=[BOX, (80, 40, 150, 110)])
    assert [(pose.name, pose.box[0]) for pose in poses] == [("box", 30), ("cone", 80)]
    assert told.asked == [[0, 1]]
    poses = estimator.estimate(PHOTO, K, boxes=[BOX, BOX], objects=["cone", "cone"])
    assert [pose.name for pose in poses] == ["cone", "cone"]


def test_one_name_is_that_of_every_place_and_none_is_of_any(estimator, monkeypatch):
    monkeypatch.setattr(estimator, "_stages", [told := Told([0.2, 0.9])])
    monkeypatch.setattr(estimator, "_identifying", [Agreeing(1)])
    boxes = [BOX, (80, 40, 150, 110)]

    def names(objects) -> list[str]:
        return [pose.name for pose in estimator.estimate(PHOTO, K, boxes, objects=objects)]

    assert names("box") == ["box", "box"]
    assert names(["box", None]) == ["box", "cone"]
    assert names([None, None]) == ["cone", "cone"]
    assert told.asked == [[0, 0], [0, 1], [1, 1]]
    monkeypatch.setattr(estimator, "_detector", None)
    monkeypatch.setattr(estimating, "DETECTOR", "tests.toys.detector")
    assert [pose.name for pose in estimator.estimate(PHOTO, K, objects="cone")] == ["cone"]
    assert [pose.name for pose in estimator.estimate(PHOTO, K, objects=[None])] == ["box", "cone"]


def test_where_nothing_is_known_objects_are_detected(meshes, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(estimating, "DETECTOR", "tests.toys.detector")  # everything is in the left half
    config = ROOT / "config" / "lite.yaml"
    estimator = PoseEstimator(None, config=config, device="cpu", log_dir=tmp_path, overrides=TINY)
    estimator.add_object(meshes / "box.ply").add_object(meshes / "cone.stl")
    poses = estimator.estimate(PHOTO, K)
    assert [pose.name for pose in poses] == ["box", "cone"]
    assert all(pose.box.tolist() == [0, 0, 80, 120] for pose in poses)
    assert [pose.name for pose in estimator.estimate(PHOTO, K, objects=["cone"])] == ["cone"]
    assert estimator.estimate(PHOTO, K, boxes=[]) == [] and "not found" not in caplog.text
    monkeypatch.setattr(estimating, "PRESENT", 2.0)
    assert estimator.estimate(PHOTO, K) == []
    assert "cone is not found; if it is in the photo, give its box" in caplog.text


def test_a_detection_that_is_doubted_makes_its_pose_doubted(meshes, tmp_path, monkeypatch):
    monkeypatch.setattr(estimating, "DETECTOR", "tests.toys.detector")
    config = ROOT / "config" / "lite.yaml"
    estimator = PoseEstimator(None, config=config, device="cpu", log_dir=tmp_path, overrides=TINY)
    estimator.add_object(meshes / "box.ply")
    (sure,) = estimator.estimate(PHOTO, K)
    certain = detector.Detector.__call__
    halved = lambda *args: replace(found := certain(*args), score=found.score * 0.6)  # noqa: E731
    monkeypatch.setattr(detector.Detector, "__call__", halved)
    (doubted,) = estimator.estimate(PHOTO, K)
    assert doubted.confidence == pytest.approx(0.6 * sure.confidence)


@pytest.mark.parametrize(("config", "options"), [("lite", TINY), ("default", TINY[1:])])
def test_a_removed_object_leaves_nothing_in_memory(meshes, tmp_path, config, options):
    config = ROOT / "config" / f"{config}.yaml"
    estimator = PoseEstimator(None, config=config, device="cpu", log_dir=tmp_path, overrides=options)
    estimator.add_object(meshes / "cone.stl").add_object(meshes / "box.ply")
    estimator.estimate(PHOTO, K, boxes=[BOX], objects=["box"])
    (cone,) = estimator.estimate(PHOTO, K, boxes=[BOX], objects=["cone"])
    estimator.estimate(PHOTO, K, boxes=[BOX])  # the two compete
    kept = estimator.objects["box"]
    left = [weakref.ref(mesh) for mesh in (kept.mesh, estimator._centred[kept.id])]
    left.append(weakref.ref(estimator._drawings.hull(kept.id)))
    del kept
    estimator.remove_object("box")
    gc.collect()
    assert [ref() for ref in left] == [None, None, None]
    (again,) = estimator.estimate(PHOTO, K, boxes=[BOX])  # the other is as it was
    assert again.name == "cone" and np.array_equal(again.cam_from_obj, cone.cam_from_obj)
    estimator.remove_object("cone")
    stage = estimator._stages[0]
    bank = stage.templates if config.stem == "lite" else stage.views
    assert len(bank._kept) == 0
    with pytest.raises(InputError, match="no object named box: there are none"):
        estimator.remove_object("box")


def test_what_failed_to_be_prepared_is_not_taken_for_the_next(meshes, tmp_path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    estimator = PoseEstimator(device="cpu", log_dir=tmp_path, overrides=TINY[1:])
    with pytest.raises(KeyboardInterrupt):
        estimator.add_object(meshes / "box.ply", progress=stop)
    assert estimator.objects == {} and estimator._centred == {}
    estimator.add_object(meshes / "cone.stl")
    cone = estimator.objects["cone"]
    corners = estimator._drawings.hull(cone.id).numpy() + cone.centre
    assert np.allclose(corners.max(axis=0), cone.mesh.vertices.max(axis=0), atol=1e-6)


def test_a_symmetric_object_keeps_the_pose_nearest_to_its_last(estimator):
    symmetry = estimator.objects["cone"].symmetry

    def found(**last) -> np.ndarray:
        return estimator.estimate(PHOTO, K, boxes=[BOX], objects=["cone"], **last)[0].cam_from_obj

    canonical = found()
    assert np.allclose(symmetry.canonical(canonical), canonical, atol=1e-6)
    before = canonical.copy()
    before[:3, :3] = canonical[:3, :3] @ Rotation.from_euler("z", 130, degrees=True).as_matrix()
    other = np.eye(4)
    other[:3, 3] = 5, 5, 5
    turned = found(last=[as_pose("box", canonical), as_pose("cone", other), as_pose("cone", before)])
    assert np.allclose(turned, before, atol=1e-5)
    assert not np.allclose(turned, canonical, atol=0.1)


def test_of_two_instances_the_nearer_one_was_its_last(estimator):
    """Nearer by its middle: a pose's own origin may lie anywhere, and turns with the equivalent."""
    cone = estimator.objects["cone"]
    away = replace(cone, centre=np.array([0.4, 0.0, 0.0]), symmetry=parse_symmetry("z", (0.4, 0.0, 0.0)))
    here = np.eye(4)
    here[:3, 3] = 0, 0, 1
    same = here.copy()  # half a turn about the axis: the same to see, its origin 0.8 m off
    same[:3, :3] = Rotation.from_euler("z", 180, degrees=True).as_matrix()
    same[0, 3] = 0.8
    beside = here.copy()
    beside[0, 3] = 0.3
    chosen = away.equivalent(as_pose("cone", here), [as_pose("cone", beside), as_pose("cone", same)])
    assert np.allclose(chosen.cam_from_obj, same, atol=1e-6)


def test_an_answer_as_json_and_in_a_line(estimator):
    pose = replace(as_pose("mug", np.eye(4)), confidence=0.934, template=7, box=np.array([1.0, 2, 3, 4]))
    pose.cam_from_obj[:3, 3] = 0.0123, -0.5, 1.25
    told = json.loads(json.dumps(pose.to_dict()))
    assert told == {
        "object": "mug",
        "cam_from_obj": [[1, 0, 0, 0.0123], [0, 1, 0, -0.5], [0, 0, 1, 1.25], [0, 0, 0, 1]],
        "quaternion_xyzw": [0, 0, 0, 1],
        "translation": [0.0123, -0.5, 1.25],
        "confidence": 0.934,
        "verdict": "good",
        "inlier_ratio": 1.0,
        "template": 7,
        "box": [1, 2, 3, 4],
    }
    assert str(pose) == "mug at 0.012 -0.500 1.250 m: good, 93 % sure"
    assert repr([pose]) == f"[<ObjectPose {pose}>]"
    (found,) = estimator.estimate(PHOTO, K, BOX, objects="box")
    json.dumps(found.to_dict())  # as it comes, too


@pytest.mark.parametrize(
    ("stages", "problem"),
    [
        ("rendermatch,best", "none of them judges the poses; add confidence"),
        ("best,confidence", "confidence needs poses to start from; name a method before it"),
    ],
)
def test_stages_that_cannot_answer_are_refused(meshes, tmp_path, stages, problem):
    with pytest.raises(InputError, match=problem):
        estimator = PoseEstimator(
            device="cpu", log_dir=tmp_path, overrides=[f"stages=[{stages}]", "test.views=42"]
        )
        estimator.add_object(meshes / "box.ply").estimate(PHOTO, K, boxes=[BOX])


def test_a_detector_among_the_stages_is_the_one_that_looks(meshes, tmp_path):
    stages = "stages=[tests.toys.detector,rendermatch,best,confidence]"
    options = [stages, "test.views=42", "test.hypotheses=1"]
    estimator = PoseEstimator(device="cpu", log_dir=tmp_path, overrides=options)
    estimator.add_object(meshes / "box.ply")
    assert estimator.estimate(PHOTO, K)[0].box.tolist() == [0, 0, 80, 120]
    assert estimator.estimate(PHOTO, K, boxes=[BOX])[0].box.tolist() == [*BOX]


def test_an_object_that_was_never_looked_for_can_be_removed(meshes, tmp_path):
    options = ["stages=[detect,rendermatch,best,confidence]", "test.views=42"]
    estimator = PoseEstimator(device="cpu", log_dir=tmp_path, overrides=options)
    estimator.add_object(meshes / "box.ply").remove_object("box")
    assert estimator.objects == {}


def test_one_pose_needs_no_list(meshes, tmp_path):
    estimator = PoseEstimator(device="cpu", log_dir=tmp_path, overrides=["test.views=42"])
    (pose,) = estimator.add_object(meshes / "box.ply").estimate(PHOTO, K, boxes=BOX)
    assert np.array_equal(estimator.draw(PHOTO, pose, K), estimator.draw(PHOTO, [pose], K))
    (again,) = estimator.estimate(PHOTO, K, boxes=BOX, last=pose)
    assert np.array_equal(again.cam_from_obj, pose.cam_from_obj)
