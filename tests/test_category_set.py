"""The set in NOCS's layout that the project makes: it is read, and its labels are the drawn poses."""

from pathlib import Path

import numpy as np
import pytest

from picopose.datasets.bop.detections import Detections
from picopose.datasets.nocs.detections import Truths, read_result, read_truths
from picopose.datasets.nocs.extents import read_extents
from picopose.datasets.nocs.frames import NocsFrame, read_frame
from picopose.datasets.nocs.instances import Instance, instances_of, object_points
from picopose.datasets.nocs.labels import canonical_rotation, quaternion
from picopose.datasets.nocs.layout import CLASSES, FrameFiles, find_frame, list_frames
from picopose.rendering.mesh import read_triangles
from picopose.utils.errors import InputError
from tests.masks import whole
from tests.shared import ROOT
from tools.category_set import making
from tools.category_set.detector import detected
from tools.category_set.frames import DETECTIONS, FrameMaker
from tools.category_set.objects import COUNTS, make_object

SEED, COUNT = 5, {"train": 1, "val": 2}
OPENCV = np.array([-1.0, -1.0, 1.0])  # of the network's axes


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("categories")
    maker = FrameMaker(root, [], SEED)
    for split, count in COUNT.items():
        for index in range(count):
            maker.write(split, index)
    return root


def val(root: Path) -> list[tuple[FrameFiles, NocsFrame, Truths]]:
    listed = list_frames(root, "camera_val").frames
    return [(files, read_frame(files), read_truths(files.truth)) for files in listed]


def test_frames_are_read_with_all_that_they_list(made):
    for split, count in COUNT.items():
        listed = list_frames(made, f"camera_{split}")
        assert (len(listed.frames), listed.incomplete) == (count, 0)
        for files in listed.frames:
            frame = read_frame(files)
            assert frame.rgb.shape == (480, 640, 3) and frame.rgb.std() > 10
            numbers = {known.instance for known in frame.objects}
            assert 1 <= len(numbers) <= 6 and set(np.unique(frame.mask)) == numbers | {255}
            assert 0.6 < (frame.depth > 0).mean() < 0.98  # of the table too


def test_the_mini_set_is_of_all_categories_with_a_detection_of_each_object():
    mini = ROOT / "data/nocs_mini"
    listed, seen = Detections(mini / making.LISTED), []
    for files, frame, truths in val(mini):
        found = listed.of_image(0, int(files.number))
        assert sorted(each.obj_id for each in found) == sorted(truths.class_ids)
        assert set(truths.class_ids) <= {known.class_id for known in frame.objects}
        seen += truths.class_ids.tolist()
    assert len(seen) == 26 and set(seen) == set(range(1, len(CLASSES) + 1))


def closest(
    instances: list[Instance], centroids: list[np.ndarray], centre: np.ndarray
) -> tuple[Instance, float]:
    """The instance whose centre is nearest to one in the network's frame, and how far off it is, in m."""
    shifts = [
        np.linalg.norm(made.label.translation + mean - centre)
        for made, mean in zip(instances, centroids, strict=True)
    ]
    return instances[int(np.argmin(shifts))], min(shifts)


def test_labels_are_the_true_poses_and_sizes(made):
    compared = 0
    for files, frame, truths in val(made):
        clouds = [object_points(frame, known, files.split.K) for known in frame.objects]
        centroids = [cloud.xyz.mean(axis=0) for cloud in clouds if len(cloud) >= 64]
        instances = list(instances_of(files, np.random.RandomState(0)))
        for class_id, RT, scales in zip(truths.class_ids, truths.RTs, truths.scales, strict=True):
            instance, shift = closest(instances, centroids, OPENCV * RT[:3, 3])
            scale = np.cbrt(np.linalg.det(RT[:3, :3]))
            M = canonical_rotation((OPENCV[:, None] * RT[:3, :3] / scale).T, class_id)
            cosine = abs(quaternion(M) @ instance.label.rotation)
            assert instance.class_id == class_id and shift < 2e-3
            assert np.degrees(2 * np.arccos(min(cosine, 1))) < 1.5
            assert instance.label.size == pytest.approx(scale * scales, rel=0.01)
            compared += 1
    assert compared >= 5


def test_truths_are_the_boxes_of_the_models(made):
    for files, frame, truths in val(made):
        extents = [tuple(read_extents(files, known).round(6)) for known in frame.objects]
        assert np.linalg.norm(truths.scales, axis=1) == pytest.approx(1)
        assert {tuple(scales.round(6)) for scales in truths.scales} <= set(extents)
        known = frame.objects[0]
        model = made / files.split.models / known.synset / known.model / "model.obj"
        places, _ = read_triangles(model)
        assert 2 * places.max(axis=0) == pytest.approx(extents[0], abs=2e-4)
        assert -2 * places.min(axis=0) == pytest.approx(extents[0], abs=2e-4)


def test_detections_are_the_visible_masks_a_little_wrong(made):
    overlaps = []
    for files, frame, truths in val(made):
        result = read_result(made / DETECTIONS / files.truth.name)
        assert find_frame(made, result.image_path) == files
        assert result.class_ids.tolist() == truths.class_ids.tolist()
        for index, (top, left, bottom, right) in enumerate(truths.boxes.astype(int)):
            mask = result.masks[..., index]
            numbers = [known.instance for known in frame.objects if known.class_id == truths.class_ids[index]]
            both = [(mask & (frame.mask == n)).sum() / (mask | (frame.mask == n)).sum() for n in numbers]
            overlaps.append(max(both))
            seen = frame.mask == numbers[int(np.argmax(both))]
            assert seen[top:bottom, left:right].sum() == seen.sum()
            y, x = np.nonzero(mask)
            assert result.boxes[index].tolist() == [y.min(), x.min(), y.max() + 1, x.max() + 1]
    assert min(overlaps) > 0.5 and max(overlaps) < 1


def test_masks_are_disturbed_as_often_as_is_said():
    visible = np.zeros((120, 160), bool)
    visible[30:90, 40:110] = True
    near = np.zeros_like(visible)
    near[22:98, 32:118] = True
    found = [detected(np.random.default_rng(number), visible) for number in range(300)]
    masks = np.array([mask for mask, _ in found])
    inner = visible.copy()
    inner[:38] = inner[82:] = inner[:, :48] = inner[:, 102:] = False
    overlaps = (masks & visible).sum(axis=(1, 2)) / (masks | visible).sum(axis=(1, 2))
    assert 0.87 < np.median(overlaps) < 0.97 and overlaps.min() > 0.6
    assert 0.03 < (masks & ~near).any(axis=(1, 2)).mean() < 0.45  # strays, and wide blots
    assert 0.05 < (inner & ~masks).any(axis=(1, 2)).mean() < 0.35  # bites
    assert np.corrcoef(overlaps, [score for _, score in found])[0, 1] > 0.3


def test_val_has_other_shapes_than_train():
    for class_id in range(1, len(CLASSES) + 1):
        sizes = {
            split: np.array([make_object(SEED, split, class_id, number).size for number in range(4)])
            for split in COUNTS
        }
        apart = np.abs(sizes["train"][:, None] - sizes["val"]).max(axis=-1)
        assert apart.min() > 1e-4
        assert np.concatenate(list(sizes.values())).max(axis=1).min() > 0.04


def test_objects_face_as_those_of_nocs():
    for number in range(4):
        bottle, _, camera, can, laptop, mug = (make_object(SEED, "train", n, number) for n in range(1, 7))
        for upright in (bottle, can):
            assert upright.size[0] == pytest.approx(upright.size[2], rel=1e-3)
        assert mug.handle.vertices[:, 0].mean() > mug.body.vertices[:, 0].mean() + 0.02
        assert mug.handle.vertices[:, 0].max() == pytest.approx(mug.size[0] / 2, rel=1e-4)
        lid = laptop.body.vertices[laptop.body.vertices[:, 1] > 0.4 * laptop.size[1]]
        assert lid[:, 2].max() < 0  # behind the keys
        tip = camera.body.vertices[camera.body.vertices[:, 2] > 0.499 * camera.size[2]]
        assert np.abs(tip[:, 1]).max() < 0.5 * camera.size[1] and camera.size[0] > 0.08


def test_a_seed_decides_every_byte_and_another_is_refused(made, tmp_path):
    list(making.make(tmp_path, COUNT, [], SEED, processes=1))
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    own = [path for path in files if path.name not in (making.MADE_WITH, making.LISTED)]
    assert len(own) > 18 and all((made / path).read_bytes() == (tmp_path / path).read_bytes() for path in own)
    listed = Detections(tmp_path / making.LISTED)
    for files, frame, truths in val(tmp_path):
        result, found = (
            read_result(tmp_path / DETECTIONS / files.truth.name),
            listed.of_image(0, int(files.number)),
        )
        order = np.argsort(-result.scores, kind="stable")
        assert [each.obj_id for each in found] == truths.class_ids[order].tolist()
        masks = whole(listed.masks(found, size=frame.mask.shape), *frame.mask.shape).numpy()
        assert (masks == np.moveaxis(result.masks, -1, 0)[order]).all()
    with pytest.raises(InputError, match="another seed"):
        next(making.make(tmp_path, COUNT, [], SEED + 1, processes=1))
