"""Frames in NOCS's layout become the original's training instances; what is damaged is refused."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from picopose.datasets.nocs.detections import Poses, read_result, read_truths, write_result
from picopose.datasets.nocs.extents import read_extents
from picopose.datasets.nocs.frames import (
    ListedObject,
    canonical_coordinates,
    read_depth,
    read_frame,
    read_mask,
    read_meta,
)
from picopose.datasets.nocs.instances import instances_of, object_points
from picopose.datasets.nocs.labels import canonical_rotation, quaternion
from picopose.datasets.nocs.layout import CLASSES, SPLITS, find_frame, list_frames
from picopose.datasets.nocs.points import masked_points
from picopose.datasets.nocs.similarity import fit_robustly, fit_similarity
from picopose.datasets.safe_pickle import read_pickle
from picopose.model.dualposenet.maps import normalised, spherical_maps
from picopose.model.dualposenet.passes import observe
from picopose.model.dualposenet.quirks import RELEASED
from picopose.utils.errors import InputError
from tests.shared import shared

SIMILARITY, STORED = 1e-9, 1e-6
FROM_OPENCV = np.diag([-1.0, -1.0, 1.0])


def sample() -> Path:
    return shared("reference_dualposenet/sample")


def golden(name: str):
    return np.load(shared(f"reference_dualposenet/golden_{name}.npz"))


@pytest.fixture
def copied(tmp_path) -> Path:
    return Path(shutil.copytree(sample(), tmp_path / "nocs"))


def drawn(split: str, seed: int) -> list:
    """The sample's instances of a split with what is seen of them, by draws in the original's order."""
    random = np.random.RandomState(seed)
    frames = list_frames(sample(), split).frames
    return [
        (made, observe(made.points, normalised(made.rgb), 64, random, RELEASED))
        for frame in frames
        for made in instances_of(frame, random)
    ]


@pytest.fixture(scope="module", params=["camera", "real"])
def prepared(request):
    """Our instances of a split beside the original's arrays by name."""
    name, arrays = request.param, golden("prepare")
    ours = drawn(f"{name}_train", int(arrays[f"{name}_seed"]))
    return ours, {key.removeprefix(f"{name}_"): arrays[key] for key in arrays if key.startswith(name)}


def test_similarities_are_the_originals(prepared):
    ours, original = prepared
    fits = [made.fit for made, _ in ours]
    for key, values in (("s", "scale"), ("R", "R"), ("T", "t")):
        found = np.stack([getattr(fit.similarity, values) for fit in fits])
        np.testing.assert_allclose(found, original[f"umeyama_{key}"], rtol=0, atol=SIMILARITY)
    assert [fit.draws for fit in fits] == original["ransac_iterations"].tolist()
    assert [fit.inliers.sum() for fit in fits] == original["inliers"].tolist()
    assert [len(fit.inliers) for fit in fits] == original["n_points"].tolist()


def test_stored_arrays_are_the_originals(prepared):
    ours, original = prepared
    for key, values in (("input_dis", "distances"), ("input_rgb", "colours")):
        assert np.array_equal(np.concatenate([getattr(seen, values) for _, seen in ours]), original[key])
    points = np.concatenate([seen.points for _, seen in ours])
    np.testing.assert_allclose(points, original["observed_pc"], rtol=0, atol=STORED)
    for key, values in (("rotation", "rotation"), ("translation", "translation"), ("scale", "size")):
        found = np.stack([getattr(made.label, values) for made, _ in ours])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, original[key], rtol=0, atol=STORED)


def test_canonical_rotations_are_the_originals(prepared):
    ours, original = prepared
    found = [canonical_rotation(made.fit.similarity.R.T, made.class_id) for made, _ in ours]
    np.testing.assert_allclose(found, original["R_canonical"], rtol=0, atol=SIMILARITY)


def test_masked_points_give_the_same_sample(prepared):
    ours, original = prepared
    for (made, _), chosen, points in zip(
        ours, original["sample_index"], original["observed_pc"], strict=True
    ):
        np.testing.assert_allclose(made.points[chosen], points, rtol=0, atol=STORED)


def test_labels_agree_with_the_true_poses():
    truths = json.loads((sample() / "true_poses.json").read_text())["Real/train/scene_1/0000"]
    ours = [made for made, _ in drawn("real_train", 0)]
    for made, truth in zip(ours, sorted(truths, key=lambda truth: truth["inst_id"]), strict=True):
        R = made.fit.similarity.R
        difference = Rotation.from_matrix(R.T @ FROM_OPENCV @ np.array(truth["R_cv"])).magnitude()
        assert np.degrees(difference) < 0.065
        centre = FROM_OPENCV @ np.array(truth["t"])
        assert np.linalg.norm(made.fit.similarity.t / 1000 - centre) < 0.00018
        np.testing.assert_allclose(made.label.size, truth["scale"] * np.array(truth["extents"]), rtol=4e-4)


def test_points_of_a_frame_are_the_originals():
    arrays = golden("input")
    files = find_frame(sample(), "data/Real/test/scene_1/0000")
    frame = read_frame(files)
    points = object_points(
        frame, next(known for known in frame.objects if known.instance == 2), files.split.K
    )
    assert len(points) == arrays["frame/n"]
    for part, rows in (("first", slice(500)), ("last", slice(-500, None))):
        np.testing.assert_allclose(points.xyz[rows], arrays[f"frame/points_{part}"], rtol=0, atol=1e-12)
    colours = normalised(points.rgb)
    np.testing.assert_allclose(colours[:500], arrays["frame/colour_first"], rtol=0, atol=1e-12)
    centroid = points.xyz.mean(axis=0)
    np.testing.assert_allclose(centroid, arrays["frame/centroid"], rtol=0, atol=1e-12)
    distances, seen = spherical_maps(points.xyz - centroid, colours, 64, RELEASED)
    assert np.array_equal(distances, arrays["frame/dis"]) and np.array_equal(seen, arrays["frame/rgb"])


def test_points_are_left_and_up_of_the_axis():
    depth, mask = np.zeros((3, 3)), np.ones((3, 3), dtype=bool)
    depth[0, 2], depth[1, 1] = 2.0, 1.0
    points = masked_points(
        np.zeros((3, 3, 3), np.uint8), depth, mask, np.array([[2, 0, 1], [0, 2, 1], [0, 0, 1.0]])
    )
    assert points.xyz.tolist() == [[-1, 1, 2], [0, 0, 1]]


def test_depth_of_three_channels_is_the_originals():
    arrays = golden("input")
    depth = read_depth(sample() / "CAMERA/train/00000/0001_depth.png")
    assert np.array_equal(depth[::40, ::8], arrays["depth3/rows"]) and depth.sum() == arrays["depth3/sum"]


def test_depth_of_32001_is_none(tmp_path):
    values = np.array([[32001, 32000, 65535]])
    pixels = np.stack([values % 256, values // 256, 0 * values], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_depth(tmp_path / "a.png").tolist() == [[0, 32000, 65535]]


def test_canonical_coordinates_have_z_turned():
    stored = np.array([[0, 255, 255], [255, 0, 0]], np.uint8)
    assert canonical_coordinates(stored).tolist() == [[-0.5, 0.5, -0.5], [0.5, -0.5, 0.5]]


# Layout


def test_frames_that_lack_a_file_are_left_out_and_folders_may_have_gaps(copied):
    train = copied / "CAMERA/train"
    shutil.copytree(train / "00000", train / "00012")
    shutil.copytree(train / "00000", train / "00002")
    (train / "00002/0000_coord.png").unlink()
    found = list_frames(copied, "camera_train")
    names = [f"{frame.folder}/{frame.number}" for frame in found.frames]
    assert names == ["00000/0000", "00000/0001", "00002/0001", "00012/0000", "00012/0001"]
    assert found.incomplete == 1


def test_scenes_are_in_the_order_of_their_numbers(copied):
    for number in (10, 9):
        shutil.copytree(copied / "Real/train/scene_1", copied / f"Real/train/scene_{number}")
    frames = list_frames(copied, "real_train").frames
    assert [frame.folder for frame in frames] == ["scene_1", "scene_9", "scene_10"]


@pytest.mark.parametrize("split", SPLITS)
def test_a_missing_split_is_reported(tmp_path, split):
    with pytest.raises(InputError, match="not found: download the set"):
        list_frames(tmp_path, split)
    (tmp_path / SPLITS[split].images).mkdir(parents=True)
    with pytest.raises(InputError, match="no frames in"):
        list_frames(tmp_path, split)


def test_a_frame_is_found_by_the_path_of_a_result(copied):
    files = find_frame(copied, "data/Real/test/scene_1/0000")
    assert files.path("color.png").is_file()
    for path in ("data/Real/scene_1/0000", "0000", "Real/test/../0000", "Real/test/scene_1/0000_color.png"):
        with pytest.raises(InputError, match="names no frame"):
            find_frame(copied, path)


# Skipping


def real_frame(root: Path):
    return list_frames(root, "real_train").frames[0]


def classes_of(root: Path) -> list[int]:
    return [made.class_id for made in instances_of(real_frame(root), np.random.RandomState(0))]


def edit(path: Path, change) -> None:
    pixels = np.array(Image.open(path))
    change(pixels)
    Image.fromarray(pixels).save(path)


def test_instances_with_fewer_than_64_depths_are_left_out(copied):
    files = real_frame(copied)
    rows, columns = np.nonzero(
        (read_mask(files.path("mask.png")) == 1) & (read_depth(files.path("depth.png")) > 0)
    )

    def keep(count):
        def change(depth):
            depth[rows[count:], columns[count:]] = 0

        return change

    edit(files.path("depth.png"), keep(64))
    assert classes_of(copied) == [4, 5, 6]
    edit(files.path("depth.png"), keep(63))
    assert classes_of(copied) == [5, 6]


@pytest.mark.parametrize(("window", "kept"), [((440, 600), [5, 6]), ((441, 1), []), ((1, 601), [])])
def test_frames_with_an_object_that_is_too_large_are_left_out(copied, window, kept):
    def in_two_corners(mask):
        mask[mask[..., 0] == 1] = 255
        mask[0, 0, 0] = mask[window[0] - 1, window[1] - 1, 0] = 1

    edit(real_frame(copied).path("mask.png"), in_two_corners)
    assert classes_of(copied) == kept


@pytest.mark.parametrize("coordinates", ["random", "all the same"])
def test_instances_whose_coordinates_fit_no_pose_are_left_out(copied, coordinates):
    files = real_frame(copied)
    mask = read_mask(files.path("mask.png")) == 1

    def change(stored):
        values = np.random.RandomState(1).randint(256, size=(mask.sum(), 3))
        stored[mask] = values if coordinates == "random" else 7

    edit(files.path("coord.png"), change)
    assert classes_of(copied) == [5, 6]


# Similarity and labels


def test_a_similarity_is_recovered_despite_outliers():
    random = np.random.RandomState(3)
    source, R = random.rand(500, 3) - 0.5, Rotation.random(rng=4).as_matrix()
    target = 200 * source @ R.T + [10, -20, 800]
    target[:150] += random.rand(150, 3) * 500 + 50
    found = fit_robustly(source, target, random)
    assert found.inliers.sum() == 350 and not found.inliers[:150].any()
    np.testing.assert_allclose(found.similarity.R, R, atol=1e-12)
    assert found.similarity.scale == pytest.approx(200, abs=1e-9)
    np.testing.assert_allclose(found.similarity(source)[150:], target[150:], atol=1e-9)


def test_a_mirror_image_is_fitted_by_a_rotation():
    source = np.random.RandomState(0).rand(50, 3)
    fit = fit_similarity(source, source * [1, 1, -1])
    assert np.linalg.det(fit.R) == pytest.approx(1)


def test_points_in_one_place_have_no_similarity():
    source, target = np.ones((70, 3)), np.random.RandomState(0).rand(70, 3)
    assert fit_similarity(source, target) is None
    assert fit_robustly(source, target, np.random.RandomState(0)) is None


@pytest.mark.parametrize("class_id", range(1, len(CLASSES) + 1))
def test_round_objects_have_labels_without_a_turn(class_id):
    for M in Rotation.random(20, rng=class_id).as_matrix():
        found = canonical_rotation(M, class_id)
        if CLASSES[class_id - 1] not in ("bottle", "bowl", "can"):
            assert np.array_equal(found, M)
            continue
        assert quaternion(found)[2] == pytest.approx(0, abs=1e-12)
        np.testing.assert_allclose(found[1], M[1])  # the object's y axis
        turn = found @ M.T
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        for angle in (0.3, 2.5):
            turned = Rotation.from_euler("y", angle).as_matrix() @ M
            np.testing.assert_allclose(canonical_rotation(turned, class_id), found, atol=1e-12)


def test_round_objects_that_point_straight_down_are_left_as_they_are():
    M = np.diag([1.0, -1.0, -1.0])
    assert np.array_equal(canonical_rotation(M, 1), M)


def test_quaternions_follow_the_rule_of_signs():
    for rotation in Rotation.random(200, rng=0):
        R = rotation.as_matrix()
        found = quaternion(R)
        x, y, z, w = rotation.as_quat()
        assert abs(found @ [w, x, y, z]) == pytest.approx(1, abs=1e-12)
        largest = found[0] if np.trace(R) > 0 else found[1 + np.argmax(np.abs(found[1:]))]
        assert largest > 0
    for axis in range(3):
        half_turn = -np.eye(3)
        half_turn[axis, axis] = 1
        assert quaternion(half_turn).tolist() == np.eye(4)[axis + 1].tolist()


# Damaged files


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("part", ["color.png", "coord.png", "depth.png", "mask.png"])
def test_a_damaged_image_is_refused(copied, part):
    files = real_frame(copied)
    path = files.path(part)
    shrunk = Image.open(path).resize((320, 240), Image.Resampling.NEAREST)
    cut(path)
    with pytest.raises(InputError, match=path.name):
        read_frame(files)
    shrunk.save(path)
    with pytest.raises(InputError, match="320x240 px"):
        read_frame(files)


def test_an_image_of_other_channels_is_refused(copied):
    files = real_frame(copied)
    Image.fromarray(np.zeros((480, 640), np.uint8)).save(files.path("coord.png"))
    with pytest.raises(InputError, match=r"coord\.png is no image of three 8-bit channels"):
        read_frame(files)


@pytest.mark.parametrize("kind", [(np.uint8,), (np.uint8, 4)])
def test_a_depth_image_of_another_kind_is_refused(tmp_path, kind):
    Image.fromarray(np.ones((4, 4, *kind[1:]), kind[0])).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png is no depth image"):
        read_depth(tmp_path / "a.png")


def test_a_mask_without_background_is_refused(copied):
    path = real_frame(copied).path("mask.png")
    edit(path, lambda mask: mask.fill(3))
    with pytest.raises(InputError, match="none of its pixels is 255"):
        read_mask(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2\n", "not of the form"),
        ("1 2 3 4 5\n", "not of the form"),
        ("one 2 mug\n", "not of the form"),
        ("1 -2 mug\n", "not of the form"),
        ("1 7 mug\n", "class above 6"),
        ("255 1 mug\n", "instance above 254"),
        ("1 2 ../../mug\n", "names no model"),
        ("1 2 .. mug\n", "names no model"),
        ("1 2 a\n1 3 b\n", "lists an instance twice"),
        ("1 2 m\xfcg\n", "no text file"),
    ],
)
def test_a_damaged_list_of_objects_is_refused(tmp_path, text, message):
    (tmp_path / "0000_meta.txt").write_bytes(text.encode("latin1"))
    with pytest.raises(InputError, match=message):
        read_meta(tmp_path / "0000_meta.txt")


SCANNED, DRAWN = ListedObject(1, 4, "can_syn_1"), ListedObject(1, 4, "can_syn_1", "02946921")


@pytest.mark.parametrize("content", [b"", b"1 2", b"1 2 nan", b"1 0 2", b"1 2 x", b"\xff\xfe", None])
@pytest.mark.parametrize(("split", "known"), [("real_train", SCANNED), ("camera_train", DRAWN)])
def test_damaged_extents_are_refused(copied, split, known, content):
    files = list_frames(copied, split).frames[0]
    own = f"{known.synset}/{known.model}/bbox.txt" if known.synset else f"{known.model}.txt"
    path = copied / SPLITS[split].models / own
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match=str(path)):
        read_extents(files, known)


def test_extents_of_scans_in_npz_files(copied):
    files, folder = real_frame(copied), copied / "obj_models/real_val"
    folder.mkdir()
    np.savez(folder / "mug.npz", scale=np.array([0.6, 0.64, 0.48]))
    known = ListedObject(1, 6, "mug.npz")
    assert read_extents(files, known).tolist() == [0.6, 0.64, 0.48]
    cut(folder / "mug.npz")
    with pytest.raises(InputError, match=r"mug\.npz holds no scale"):
        read_extents(files, known)
    np.savez(folder / "mug.npz", scale=np.array([{"a": 1}]))
    with pytest.raises(InputError, match=r"mug\.npz holds no scale"):
        read_extents(files, known)


# Detections and results


def stored_result() -> dict:
    path = sample() / "segmentation_results/REAL275/results_test_scene_1_0000.npz"
    with np.load(path) as arrays:
        content = {key: arrays[key] for key in arrays}
    return content | {"image_path": str(content["image_path"])}


def test_truths_of_a_set_are_read():
    assert real_frame(sample()).truth is None
    truths = read_truths(find_frame(sample(), "data/Real/test/scene_1/0000").truth)
    assert truths.class_ids.tolist() == [1, 3, 6]
    assert (
        truths.boxes.shape == (3, 4) and truths.RTs.shape == (3, 4, 4) and truths.handle_visible.dtype == bool
    )
    np.testing.assert_allclose(np.linalg.norm(truths.scales, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("protocol", [2, 4])
def test_detections_are_read_and_results_written_in_the_originals_form(tmp_path, protocol):
    content = stored_result()
    path = tmp_path / "results_test_scene_1_0000.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    result = read_result(path)
    assert result.poses is None and np.array_equal(result.masks, content["pred_masks"])
    poses = Poses(np.tile(np.eye(4), (5, 1, 1)), np.ones((5, 3)))
    ours = tmp_path / "out" / path.name
    write_result(ours, type(result)(**{**vars(result), "masks": None, "poses": poses}))
    written = pickle.loads(ours.read_bytes())
    assert written.keys() == content.keys() - {"pred_masks", "image_id"} | {"pred_RTs", "pred_scales"}
    for key in written.keys() & content.keys():
        assert np.array_equal(written[key], content[key]), key
    assert b"numpy._core" not in ours.read_bytes()  # which NumPy 1 does not have
    again = read_result(ours)
    assert again.masks is None and np.array_equal(again.poses.RTs, poses.RTs)
    assert np.array_equal(again.scores, result.scores) and read_pickle(ours).keys() == written.keys()


def test_an_image_without_detections_is_read(tmp_path):
    nothing = {key: np.array([]) for key in ("pred_class_ids", "pred_bboxes", "pred_scores", "pred_masks")}
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(stored_result() | nothing))
    result = read_result(path)
    assert len(result.class_ids) == 0 and result.boxes.shape == (0, 4) and result.masks.size == 0


def test_handles_are_visible_where_a_file_does_not_say(tmp_path):
    content = stored_result()
    del content["gt_handle_visibility"]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    assert read_truths(tmp_path / "a.pkl").handle_visible.all()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("image_path", None, "no image_path"),
        ("gt_RTs", np.zeros((3, 3, 4)), "gt_RTs has the shape"),
        ("gt_RTs", np.full((3, 4, 4), np.nan), "gt_RTs has numbers that are not finite"),
        ("gt_class_ids", np.array([1, 2, 7]), "gt_class_ids has others than classes 1 to 6"),
        ("pred_class_ids", np.array([[1, 2]]), "pred_class_ids has the shape"),
        ("pred_scores", np.array(["a"] * 5), "pred_scores holds no numbers"),
        ("pred_bboxes", [[1, 2], [3]], "pred_bboxes holds no numbers"),
        ("pred_masks", np.zeros((480, 640, 4), bool), "pred_masks has the shape"),
        ("gt_scales", ..., "lacks gt_scales"),
    ],
)
def test_damaged_results_are_refused(tmp_path, key, value, message):
    content = stored_result() | {key: value}
    if value is ...:
        del content[key]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=message) as caught:
        read_result(tmp_path / "a.pkl")
    assert "a.pkl" in str(caught.value)


def test_a_result_that_is_no_dictionary_or_is_cut_off_is_refused(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="holds no dictionary"):
        read_truths(path)
    path.write_bytes(pickle.dumps(stored_result())[:1000])
    with pytest.raises(InputError, match="truncated"):
        read_result(path)
