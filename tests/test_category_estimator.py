"""Categories in one photo with depth: boxes drawn at true poses fit, what cannot be gets one line."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from examples import estimate_category
from picopose import CategoryEstimator, PoseEstimator
from picopose.datasets.nocs.frames import read_depth, read_mask, read_rgb
from picopose.datasets.nocs.layout import CLASSES, SPLITS
from picopose.model.dualposenet.network import DualPoseNet, Sizes
from picopose.pipeline import category_estimator
from picopose.rendering.boxes import corners
from picopose.utils.config import Config
from picopose.utils.config_files import to_yaml
from picopose.utils.errors import InputError
from tests.shared import shared

FRAMES = {
    "CAMERA/train/00000/0000": SPLITS["camera_train"].K,
    "Real/train/scene_1/0000": SPLITS["real_train"].K,
    "Real/test/scene_1/0000": SPLITS["real_test"].K,
}
REAL = "Real/test/scene_1/0000"
TINY = {"side": 16, "channels": [4, 4, 4, 4], "feature": 16, "explicit": [16, 16], "implicit": [16, 16, 16]}


def knowing(frame: str) -> CategoryEstimator:
    """One that knows the true poses in a frame of the sample."""
    file = shared("reference_dualposenet/sample/true_poses.json")
    options = [f"options.true_boxes.file={file}", f"options.true_boxes.frame={frame}"]
    return CategoryEstimator(
        device="cpu", config="config/default.yaml", overrides=["method=tests.toys.true_boxes", *options]
    )


def paths(frame: str) -> list[str]:
    folder = shared("reference_dualposenet/sample")
    return [f"{folder}/{frame}_{part}.png" for part in ("color", "depth", "mask")]


def objects(frame: str) -> tuple[list[np.ndarray], list[str]]:
    """Masks (H, W) bool and categories of what a frame shows."""
    numbers = read_mask(paths(frame)[2])
    truths = json.loads(shared("reference_dualposenet/sample/true_poses.json").read_text())[frame]
    shown = [truth for truth in truths if (numbers == truth["inst_id"]).any()]
    return [numbers == t["inst_id"] for t in shown], [CLASSES[t["cls"] - 1] for t in shown]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Of a network that has learnt nothing."""
    torch.manual_seed(0)
    config = Config(method="dualposenet", options={"dualposenet": {"network": TINY}})
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    torch.save({"model": DualPoseNet(Sizes(**TINY)).state_dict(), "config": to_yaml(config)}, path)
    return path


@pytest.fixture(scope="module")
def tiny(weights) -> CategoryEstimator:
    return CategoryEstimator(weights, device="cpu")


@pytest.mark.parametrize("frame", FRAMES)
def test_boxes_at_true_poses_fit_the_objects_in_the_photo(frame):
    image, depth, _ = paths(frame)
    masks, names = objects(frame)
    estimator, K = knowing(frame), FRAMES[frame]
    poses = estimator.estimate(image, depth, K, masks, names)
    assert [pose.name for pose in poses] == names
    for pose, mask in zip(poses, masks, strict=True):
        seen = corners(-pose.size / 2, pose.size / 2) @ pose.cam_from_obj[:3, :3].T + pose.translation
        xy = seen @ K.T
        hull = cv2.convexHull(np.float32(xy[:, :2] / xy[:, 2:]))
        inside = cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), np.int32(np.round(hull)), 1) > 0
        assert (mask & inside).sum() > 0.99 * mask.sum()
        if pose.name not in ("laptop",):  # which is open: its box is nearly empty
            assert mask.sum() > 0.4 * inside.sum()
    drawn = estimator.draw(image, poses, K)
    changed = (drawn != read_rgb(image)).any(axis=2)
    assert 0.005 < changed.mean() < 0.1


def test_files_arrays_and_tensors_say_the_same(tiny):
    image, depth, _ = paths(REAL)
    masks, names = objects(REAL)
    K = FRAMES[REAL]
    metres = read_depth(depth) / 1000
    given = [
        (image, depth, "auto"),
        (read_rgb(image), read_depth(depth), "mm"),
        (torch.from_numpy(read_rgb(image)), torch.from_numpy(metres), "auto"),
        (read_rgb(image), np.where(metres == 0, np.nan, 100 * metres), 100),
    ]
    found = [tiny.estimate(rgb, z, K, masks, names, depth_unit=unit) for rgb, z, unit in given]
    for poses in found[1:]:
        for pose, first in zip(poses, found[0], strict=True):
            np.testing.assert_allclose(pose.cam_from_obj, first.cam_from_obj, atol=1e-4)
            np.testing.assert_allclose(pose.size, first.size, atol=1e-4)
            assert pose.points == first.points


def test_what_a_pose_says(tiny):
    image, depth, _ = paths(REAL)
    masks, _ = objects(REAL)
    (pose,) = tiny.estimate(image, depth, FRAMES[REAL], masks[0], "bottle")
    assert pose.points == 6862 and pose.found and pose.support < 0 and 0 < pose.inlier_ratio <= 1
    rotation = pose.cam_from_obj[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)
    assert np.linalg.det(rotation) > 0 and (pose.size > 0).all()
    told = json.loads(json.dumps(pose.to_dict(), allow_nan=False))
    assert told["category"] == "bottle" and told["found"] and told["size"] == pose.size.tolist()
    ys, xs = np.nonzero(masks[0])
    assert told["box"] == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    pose = replace(
        pose, cam_from_obj=np.diag([1.0, 1, 1, 1]), size=np.array([0.1, 0.25, 0.0814]), inlier_ratio=0.5
    )
    assert str(pose) == "bottle at 0.000 0.000 0.000 m, 100 x 250 x 81 mm: 50 % of 6862 points fit"


def test_too_few_points_are_told_and_not_drawn(tiny, caplog):
    image, depth, _ = paths(REAL)
    few = np.zeros((480, 640), bool)
    few[300:304, 100:108] = True
    (pose,) = tiny.estimate(image, depth, FRAMES[REAL], few, "can")
    assert not pose.found and "can: not found, as " in caplog.text
    told = json.loads(json.dumps(pose.to_dict(), allow_nan=False))
    assert told["cam_from_obj"] is None and told["size"] is None and not told["found"]
    assert (tiny.draw(image, pose, FRAMES[REAL]) == read_rgb(image)).all()


def test_a_box_is_taken_and_called_doubtful(tiny, caplog):
    image, depth, _ = paths(REAL)
    (pose,) = tiny.estimate(image, depth, FRAMES[REAL], categories="mug", boxes=(440, 230, 520, 320))
    assert pose.found and pose.box.tolist() == [440, 230, 520, 320]
    assert "mug: in a box is more than the object, so its pose is doubtful; give a mask" in caplog.text


def test_one_category_serves_all_masks(tiny):
    image, depth, _ = paths(REAL)
    masks, _ = objects(REAL)
    for categories in ("mug", ["mug"]):
        poses = tiny.estimate(image, depth, FRAMES[REAL], masks, categories)
        assert [pose.name for pose in poses] == ["mug"] * 3
    assert tiny.estimate(image, depth, FRAMES[REAL], [], "mug") == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": None}, "no mask: give one for each object"),
        ({"categories": None}, "no category: give one of bottle, bowl, camera, can, laptop, mug"),
        ({"categories": "cup"}, "category 'cup': unknown; give one of bottle, bowl"),
        ({"categories": ["mug", "can"]}, "2 categories for 1 masks: give one for all, or one for each"),
        ({"depth": np.ones((4, 5))}, r"depth of shape \(4, 5\) for a photo of 480x640"),
        ({"depth": np.zeros((480, 640))}, "depth is empty: none of its values is a distance"),
        ({"depth": "absent.png"}, "absent.png not found"),
        ({"depth_unit": "mile"}, "unit 'mile' is unknown"),
        ({"masks": np.zeros((480, 640), bool)}, r"masks\[0\] of shape"),
        ({"K": (6, 6, 3, 2)}, "K"),
    ],
)
def test_what_cannot_be_gets_one_line(tiny, changes, message):
    image, depth, _ = paths(REAL)
    given = {"depth": depth, "K": FRAMES[REAL], "masks": np.ones((480, 640), bool), "categories": "mug"}
    with pytest.raises(InputError, match=message):
        tiny.estimate(image, **(given | changes))


def test_methods_of_meshes_and_absent_weights_are_refused(tmp_path):
    with pytest.raises(InputError, match="dualposenet: finds objects of categories; use CategoryEstimator"):
        PoseEstimator(config="config/dualposenet_small.yaml", device="cpu")
    with pytest.raises(InputError, match="rendermatch: finds objects by their meshes; use PoseEstimator"):
        CategoryEstimator(config="config/default.yaml", device="cpu")
    with pytest.raises(InputError, match=r"absent\.pt: no such checkpoint"):
        CategoryEstimator(tmp_path / "absent.pt", device="cpu")


def test_without_weights_the_small_network_is_taken(monkeypatch, weights):
    monkeypatch.setattr(category_estimator, "SMALL_WEIGHTS", str(weights))
    estimator = CategoryEstimator(device="cpu")
    assert estimator.config.checkpoint == str(weights) and estimator.config.method == "dualposenet"


def test_the_example(weights, capsys):
    pose = estimate_category.main(weights=weights, device="cpu")
    assert pose.name == "mug" and pose.points > 1000
    assert capsys.readouterr().out.splitlines()[-1] == str(pose)
