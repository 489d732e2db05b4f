"""The estimator as a library: a mesh and a photo in, poses out; through torch.hub and the example too."""

import gc
import json
import re
import subprocess
import sys
import weakref
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scipy.spatial.transform import Rotation
from trimesh.visual.material import PBRMaterial

from examples import estimate
from picopose.datasets.bop.objects import read_symmetry
from picopose.model.stage import Stage
from picopose.pipeline import estimator as estimating
from picopose.pipeline.estimator import ObjectPose, PoseEstimator
from picopose.rendering.mesh import from_trimesh, load_mesh, read_mesh
from picopose.rendering.render_templates import render_view
from picopose.rendering.scene import scene_file
from picopose.rendering.viewpoints import object_poses
from picopose.utils.errors import InputError
from picopose.utils.records import Estimates, Frame, Mask
from picopose.utils.symmetry import parse_symmetry
from tests import mesh_variants, shipped
from tests.rendered import renderer
from tests.shared import ROOT
from tests.toys import detector

TINY = ["model.size=64", "test.views=42", "test.hypotheses=1"]
K = [[300, 0, 80], [0, 300, 60], [0, 0, 1]]
PHOTO = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
BOX = (30, 20, 90, 80)


@pytest.fixture(scope="module")
def meshes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("meshes")
    trimesh.creation.box((50, 80, 100)).export(folder / "box.ply")
    trimesh.creation.cone(30, 90).export(folder / "cone.stl")
    return folder


@pytest.fixture(scope="module")
def estimator(meshes) -> PoseEstimator:
    """Of random weights: what matters here is not where the objects are."""
    config = ROOT / "config" / "lite.yaml"
    made = PoseEstimator(None, config=config, device="cpu", log_dir=meshes / "log", overrides=TINY)
    return made.add_object(meshes / "box.ply").add_object(meshes / "cone.stl", symmetry="z")


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


@pytest.fixture(scope="module")
def cereal(tmp_path_factory):
    """A function that finds the cereal box, whose file's origin lies far off, in a photo that was drawn."""
    mesh = mesh_variants.write(tmp_path_factory.mktemp("cereal"), mesh_variants.TEXTURED[2])
    image, mask = mesh_variants.photo(True)

    def find(estimator: PoseEstimator) -> ObjectPose:
        return estimator.add_object(mesh, name="cereal").estimate(image, mesh_variants.K, masks=[mask])[0]

    return find


def filled(xy: np.ndarray, size: int) -> np.ndarray:
    """(size, size) bool: what the convex hull of points (N, 2) px covers."""
    canvas, corners = np.zeros((size, size), np.uint8), cv2.convexHull(np.float32(xy))
    return cv2.fillConvexPoly(canvas, np.int32(np.round(16 * corners)), 1, shift=4) > 0


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return (first & second).sum() / (first | second).sum()


def test_render_and_match_compares_with_the_object_drawn_at_its_pose(cereal):
    """The box is convex: it covers what lies between its vertices as the photo's camera sees them."""
    estimator = shipped.estimator()
    pose = cereal(estimator)
    picture, points = estimator.compared(pose, mesh_variants.K)
    size = len(picture)
    assert picture.shape == (size, size, 3) and points.shape == (len(pose.matches), 2) and len(points) > 20
    # The picture shows the photo's part about the box, a tenth of its side wider on each side.
    middle, side = (pose.box[:2] + pose.box[2:]) / 2, 1.2 * (pose.box[2:] - pose.box[:2]).max()

    def in_picture(photo_xy: np.ndarray) -> np.ndarray:
        return (photo_xy + 0.5 - middle + side / 2) * size / side - 0.5

    assert np.allclose(points, in_picture(pose.matches[:, 2:]), atol=1e-3)
    xyz = trimesh.transform_points(estimator.objects["cereal"].mesh.vertices, pose.cam_from_obj)
    xy = xyz @ mesh_variants.K.T
    silhouette, drawn = filled(in_picture(xy[:, :2] / xy[:, 2:]), size), picture.max(axis=2) > 40
    assert iou(silhouette, drawn) > 0.97
    assert all(silhouette[y, x] for x, y in np.round(points).astype(int))
    # The pose is right, so that the photo shows each point where the drawing does.
    assert np.median(np.linalg.norm(pose.matches[:, :2] - pose.matches[:, 2:], axis=1)) < 2


def test_a_network_compares_with_the_template(cereal):
    """Which is the view of that number, cropped to the square about it."""
    estimator = shipped.estimator(shipped.PICOPOSE_WEIGHTS)
    pose = cereal(estimator)
    picture, points = estimator.compared(pose, mesh_variants.K)
    size = estimator.config.model.size
    assert picture.shape == (size, size, 3)
    assert np.array_equal(points, pose.matches[:, 2:]) and len(points) > 20
    prepared = estimator.objects["cereal"]
    mesh = replace(prepared.mesh, vertices=prepared.mesh.vertices - np.float32(prepared.centre))
    view = render_view(renderer(), mesh, object_poses(mesh.vertices, 42)[pose.template])
    left, top, width, height = cv2.boundingRect(view.mask.astype(np.uint8))
    side = max(width, height)
    left, top = left - (side - width) // 2, top - (side - height) // 2
    assert min(left, top) >= 0
    crop = cv2.resize(view.rgb[top : top + side, left : left + side], (size, size))
    assert np.abs(picture.astype(float) - crop).mean() < 4
    assert all(picture[y, x].any() for x, y in np.round(points).astype(int))


def find_box(estimator, photo=PHOTO, camera=K, **places) -> np.ndarray:
    """cam_from_obj of the box, by default where BOX is."""
    places = places or {"boxes": [BOX]}
    (pose,) = estimator.estimate(photo, camera, objects="box", **places)
    return pose.cam_from_obj


def saved(path, picture: Image.Image):
    picture.save(path)
    return path


def test_photos_of_every_kind(estimator, tmp_path):
    file = saved(tmp_path / "photo.png", Image.fromarray(PHOTO))
    expected = find_box(estimator, file)
    alpha = np.dstack([PHOTO, PHOTO[..., 0]])
    tensor = torch.from_numpy(PHOTO)
    photos = [PHOTO, str(file), Image.open(file), Image.fromarray(alpha), alpha, PHOTO / 255]
    photos += [PHOTO / np.float32(255), np.asfortranarray(PHOTO), PHOTO[::-1].copy()[::-1], tensor]
    photos += [
        tensor.permute(2, 0, 1),
        (tensor / 255).permute(2, 0, 1).requires_grad_(),
        (tensor / 255).half(),
    ]
    for index, photo in enumerate(photos):
        assert np.array_equal(find_box(estimator, photo), expected), index


def test_grey_photos_of_every_kind(estimator, tmp_path):
    grey = PHOTO[..., 0]
    expected = find_box(estimator, saved(tmp_path / "grey.png", Image.fromarray(grey)))
    assert not np.array_equal(expected, find_box(estimator))
    tensor = torch.from_numpy(grey.copy())
    photos = [grey, grey[..., None], grey[..., None].repeat(3, 2), Image.fromarray(grey), grey / 255]
    photos += [Image.fromarray(grey.astype(np.uint16) * 257), tensor, tensor[None], tensor[..., None] / 255]
    for index, photo in enumerate(photos):
        assert np.array_equal(find_box(estimator, photo), expected), index


def test_palettes_are_read_as_their_files_are(estimator, tmp_path):
    picture = Image.fromarray(PHOTO).convert("P", palette=Image.Palette.ADAPTIVE)
    file = saved(tmp_path / "palette.png", picture)
    expected = find_box(estimator, np.array(picture.convert("RGB")))
    assert np.array_equal(find_box(estimator, picture), expected)
    assert np.array_equal(find_box(estimator, file), expected)


def test_what_is_given_is_left_as_it_was(estimator):
    photo, mask = PHOTO.copy(), as_mask(BOX)
    photo.flags.writeable = mask.flags.writeable = False
    assert np.array_equal(find_box(estimator, photo, masks=mask), find_box(estimator))


def as_mask(box) -> np.ndarray:
    left, top, right, bottom = box
    mask = np.zeros((120, 160), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def test_places_of_every_kind(estimator, tmp_path):
    expected = find_box(estimator)
    boxes = [BOX, list(BOX), np.array(BOX), np.float32([BOX]), torch.tensor(BOX), [torch.tensor(BOX)]]
    for index, given in enumerate(boxes):
        assert np.array_equal(find_box(estimator, boxes=given), expected), index
    mask = as_mask(BOX)
    picture = Image.fromarray(255 * mask)
    file = saved(tmp_path / "mask.png", picture)
    cut_out = Image.fromarray(np.dstack([PHOTO, 255 * mask]))  # its alpha is the mask, as in files
    masks = [mask, [mask], mask[None], mask > 0, mask / 255, 0.5 * mask, picture, [picture], cut_out]
    masks += [
        picture.convert("1"),
        file,
        str(file),
        torch.from_numpy(mask) > 0,
        [torch.from_numpy(mask).half()],
    ]
    for index, given in enumerate(masks):
        assert np.array_equal(find_box(estimator, masks=given), expected), index


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


@pytest.mark.parametrize(
    "camera",
    [
        *(np.array(K) + 1e-13 * (np.arange(9) == 3).reshape(3, 3), torch.tensor(K), 2 * np.array(K)),
        *(np.ravel(K), (300, 300, 80, 60), np.float32([300, 300, 80, 60]), torch.tensor([300, 300, 80, 60])),
    ],
    ids=["rounding", "tensor", "times two", "flat", "four", "array of four", "tensor of four"],
)
def test_cameras_of_every_kind(estimator, camera):
    poses = [estimator.estimate(PHOTO, one, boxes=[BOX], objects=["box"])[0] for one in (K, camera)]
    assert np.array_equal(poses[0].cam_from_obj, poses[1].cam_from_obj)


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        (np.eye(4), r"K of shape \(4, 4\): give \(3, 3\)"),
        ("camera.json", "K of type str holds no numbers"),
        ([[300, 0, 80], [0, 300]], "K of type list holds no numbers"),
        ((300, -300, 80, 60), "K has focal lengths 300, -300 px, which must be positive"),
        ((300, 300, 80, np.nan), "K must be 9 finite numbers"),
        ([[600, 0, 160], [0, 600, 120], [0, 0, 1]], "looks like that of 320x240 px"),
    ],
)
def test_cameras_that_cannot_be_used(estimator, camera, message):
    with pytest.raises(InputError, match=message):
        estimator.estimate(PHOTO, camera, boxes=[BOX], objects=["box"])


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        (PHOTO.astype(np.uint16), r"image of uint16 and shape \(120, 160, 3\): give \(H, W, 3\) uint8"),
        (PHOTO > 9, "image of bool .*: give .* uint8, RGB, or floats"),
        (PHOTO[None], r"shape \(1, 120, 160, 3\)"),
        (PHOTO[..., :2], r"shape \(120, 160, 2\)"),
        (PHOTO[:0], r"shape \(0, 160, 3\)"),
        (PHOTO.transpose(2, 0, 1), r"shape \(3, 120, 160\): give \(H, W, 3\)"),
        (PHOTO / np.float32(127), r"image of floats from 0 to 2: give them in \[0, 1\], or give uint8"),
        (PHOTO / 255 - 0.5, "image of floats from -0.5 to 0.496"),
        (np.where(PHOTO > 9, np.nan, 0), "image of floats from nan to nan"),
        (torch.from_numpy(PHOTO).long(), "image of int64"),
        (torch.zeros(3, 120, 4), "its first or its last axis may be the channels; give a NumPy array"),
        (PHOTO.tolist(), "image of type list: give a file"),
        (Image.fromarray(PHOTO[..., 0] / np.float32(255)), "image has pixels of mode F"),
    ],
)
def test_photos_that_cannot_be_used(estimator, photo, message):
    with pytest.raises(InputError, match=message):
        estimator.estimate(photo, K, boxes=[BOX], objects=["box"])


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


def test_the_hub_loads_it_from_a_folder(meshes, tmp_path):
    """In a process that knows nothing of the repository but its path."""
    options = {"device": "cpu", "log_dir": str(meshes / "log"), "overrides": ["test.views=42"]}
    script = f"""
import torch
estimator = torch.hub.load({str(ROOT)!r}, "picopose", source="local", **{options})
print(estimator.config.method, *estimator.add_object({str(meshes / "box.ply")!r}).objects)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["rendermatch", "box"]


def test_the_example_finds_the_cereal_box(capsys):
    pose = estimate.main(device="cpu", log_dir=shipped.log_dir().name)
    *matrix, said = capsys.readouterr().out.splitlines()
    assert len(matrix) == 4 and re.fullmatch(r"obj_000002 at .* m: good, \d+ % sure", said)
    assert pose.confidence > 0.6
    truth = json.loads((ROOT / "data/mini/test/000001/scene_gt.json").read_text())["0"][2]
    assert truth["obj_id"] == 2
    turn = Rotation.from_matrix(np.reshape(truth["cam_R_m2c"], (3, 3)).T @ pose.cam_from_obj[:3, :3])
    assert np.degrees(turn.magnitude()) < 2
    assert np.linalg.norm(1000 * pose.cam_from_obj[:3, 3] - truth["cam_t_m2c"]) < 10  # mm, at 677


def as_pose(name: str, cam_from_obj: np.ndarray) -> ObjectPose:
    return ObjectPose(name, cam_from_obj, 1.0, 1.0, 0, np.zeros((0, 4)), np.zeros(4))


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


@pytest.mark.parametrize(("text", "count"), [("z4", 4), ("z2,x2", 4), ("x3", 3)])
def test_turns_are_about_the_middle(text, count):
    middle = np.array([0.1, 0.2, 0.3])
    symmetry = parse_symmetry(text, middle)
    assert len(symmetry.discrete) == count
    for motion in symmetry.discrete:
        assert np.allclose(motion @ np.append(middle, 1), np.append(middle, 1))
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_euler("xyz", (0.2, 0.1, -0.3)).as_matrix()
        assert np.allclose(symmetry.canonical(pose @ motion), symmetry.canonical(pose), atol=1e-9)


def test_models_info_beside_the_mesh_tells_the_symmetry():
    folder = ROOT / "data" / "mini" / "models"
    infos = ROOT / "data" / "mini" / "models_eval"
    assert read_symmetry(infos / "obj_000004.ply").axes  # the bowl
    assert read_symmetry(folder / "absent.ply") is None


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"boxes": [BOX], "objects": ["mug"]}, "mug"),
        ({"boxes": [BOX], "objects": ["box", "box"]}, "2 objects for 1 places"),
        ({"boxes": [BOX], "masks": [np.ones((120, 160))]}, "pass one of them"),
        ({"masks": [np.ones((12, 16))]}, "12, 16"),
        ({"masks": np.zeros((120, 160))}, "0 px set"),
        ({"masks": PHOTO[..., 0] / 255}, r"masks\[0\] has more than two values: apply a threshold"),
        ({"masks": Image.new("L", (16, 12), 1)}, r"masks\[0\]: 16x12 px for a photo of 160x120 px"),
        ({"boxes": "30 20 90 80"}, "boxes: not numbers; give"),
        ({"boxes": 30}, "boxes: not numbers; give"),
        ({"boxes": (30, 20, 90)}, "boxes: not numbers; give"),
        ({"boxes": [BOX], "objects": "mug"}, "no object named mug: there are box, cone"),
        ({"boxes": [(0, 0, 0, 0)]}, "nothing of 160x120 px"),
    ],
)
def test_wrong_arguments(estimator, arguments, named):
    with pytest.raises(InputError, match=named):
        estimator.estimate(PHOTO, K, **arguments)


def test_wrong_photo_camera_and_order(estimator, meshes):
    with pytest.raises(InputError, match="uint8"):
        estimator.estimate(PHOTO.astype(float), K, boxes=[BOX])
    with pytest.raises(InputError, match="K"):
        estimator.estimate(PHOTO, np.eye(3), boxes=[BOX])
    with pytest.raises(InputError, match="symmetry w"):
        estimator.add_object(meshes / "box.ply", symmetry="w")
    config = ROOT / "config" / "lite.yaml"
    empty = PoseEstimator(None, config=config, device="cpu", overrides=TINY)
    with pytest.raises(InputError, match="add_object"):
        empty.estimate(PHOTO, K)


def test_the_scene_holds_objects_where_they_are(meshes):
    mesh = load_mesh(meshes / "box.ply")
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", (0.4, 0.1, -0.3)).as_matrix()
    pose[:3, 3] = 0.05, -0.02, 0.6
    content = scene_file([("box", mesh, pose)], PHOTO, np.array(K))
    scene = trimesh.load_scene(trimesh.util.wrap_as_stream(content), file_type="glb")
    assert {"camera", "photo", "box 0 0", "box 0 axes"} <= set(scene.graph.nodes_geometry)
    transform, name = scene.graph["box 0 0"]
    corners = trimesh.transform_points(scene.geometry[name].vertices, transform) * [1, -1, -1]
    expected = trimesh.transform_points(mesh.vertices, pose)
    assert np.allclose(corners.min(axis=0), expected.min(axis=0), atol=1e-5)
    assert np.allclose(corners.max(axis=0), expected.max(axis=0), atol=1e-5)
    # The photo's corners are seen where the camera has the photo's corners, behind the object.
    transform, name = scene.graph["photo"]
    seen = trimesh.transform_points(scene.geometry[name].vertices, transform) * [1, -1, -1]
    assert seen[:, 2].min() > expected[:, 2].max()
    pixels = (seen / seen[:, 2:]) @ np.array(K).T
    assert np.allclose(sorted(pixels[:, 0]), [-0.5, -0.5, 159.5, 159.5], atol=1e-3)


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


def test_a_pose_is_drawn_where_the_object_is_seen(estimator):
    """The outline of the box is that of its projected corners' hull."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", (0.4, 0.1, -0.3)).as_matrix()
    pose[:3, 3] = 0.01, -0.02, 0.5
    black, camera = np.zeros((480, 640, 3), np.uint8), (1200, 1200, 320, 240)
    photo, given = torch.from_numpy(black).permute(2, 0, 1), replace(as_pose("box", pose), confidence=0.1)
    drawn = estimator.draw(photo, [given], camera)
    assert drawn.shape == black.shape and drawn.dtype == np.uint8 and not black.any()
    xyz = trimesh.transform_points(estimator.objects["box"].mesh.vertices, pose)
    silhouette = filled(1200 * xyz[:, :2] / xyz[:, 2:] + [320, 240], 640)[:480]
    rim = silhouette & ~cv2.erode(silhouette.astype(np.uint8), np.ones((3, 3))).astype(bool)
    assert (np.abs(drawn[rim] - np.float64([235, 50, 50])).max(axis=1) < 60).mean() > 0.8  # red: wrong
    assert np.array_equal(estimator.draw(black, [], K), black)
    with pytest.raises(InputError, match="no object named mug: there are box, cone"):
        estimator.draw(PHOTO, [as_pose("mug", np.eye(4))], K)


@pytest.mark.parametrize("variant", mesh_variants.TEXTURED, ids=lambda variant: variant.file)
def test_meshes_of_trimesh_are_those_of_their_files(variant, tmp_path):
    """A mesh of a PLY or OBJ file, a scene of a glTF file: shape, normals, texture and all."""
    path = mesh_variants.write(tmp_path, variant)
    same_mesh(from_trimesh(trimesh.load(path, process=False)), read_mesh(path))


def same_mesh(found, expected) -> None:
    assert np.array_equal(found.vertices, expected.vertices) and np.array_equal(found.faces, expected.faces)
    for name in ("normals", "colors", "uv", "texture"):
        values = getattr(found, name), getattr(expected, name)
        assert (values[0] is None) == (values[1] is None) and (values[0] is None or np.array_equal(*values))


def test_colours_of_trimesh_are_kept(tmp_path):
    path = ROOT / "data" / "mini" / "models" / "obj_000004.ply"  # with colours of vertices
    same_mesh(from_trimesh(trimesh.load(path, process=False)), read_mesh(path))
    cube = trimesh.creation.box((1, 1, 1))
    cube.visual.face_colors = np.arange(36).reshape(12, 3)
    painted = from_trimesh(cube)
    for corners, colour in zip(cube.triangles, cube.visual.face_colors[:, :3], strict=True):
        (face,) = [
            face
            for face in painted.faces
            if sorted(painted.vertices[face].tolist()) == sorted(corners.tolist())
        ]
        assert (painted.colors[face] == colour).all()
    red = trimesh.creation.box((1, 1, 1))
    red.visual = trimesh.visual.TextureVisuals(material=PBRMaterial(baseColorFactor=[255, 0, 0, 255]))
    assert (from_trimesh(red).colors == [255, 0, 0]).all()
    assert from_trimesh(trimesh.creation.box((1, 1, 1))).colors is None


def test_scenes_of_trimesh_are_put_together_as_their_files_are(tmp_path):
    """Two instances of one mesh, one of them mirrored, beside another."""
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box((0.1, 0.2, 0.3)), geom_name="box", node_name="first")
    mirrored = trimesh.transformations.compose_matrix(
        scale=(-1, 1, 1), angles=(0.1, 0.2, 0.3), translate=(1, 0, 0)
    )
    scene.graph.update("second", geometry="box", matrix=mirrored)
    scene.add_geometry(trimesh.creation.cone(0.1, 0.2), node_name="cone")
    scene.add_geometry(trimesh.load_path([[(0, 0, 0), (9, 9, 9)]]), node_name="line")
    path = tmp_path / "scene.glb"
    scene.export(path)
    found, expected = from_trimesh(scene), read_mesh(path)

    def triangles(mesh) -> np.ndarray:
        flat = mesh.vertices[mesh.faces].reshape(-1, 9)
        return flat[np.lexsort(flat.round(4).T)]

    assert len(found.faces) == 24 + len(trimesh.creation.cone(0.1, 0.2).faces)
    assert np.allclose(triangles(found), triangles(expected), atol=1e-6)


def test_objects_of_meshes_at_hand(meshes, tmp_path):
    """The pose is that of the same mesh's file, which is in millimetres, to what is rounded in metres."""
    estimator = shipped.estimator()
    image, mask = mesh_variants.photo(True)
    path = mesh_variants.write(tmp_path, mesh_variants.TEXTURED[0])
    loaded = trimesh.load(path, process=False)
    estimator.add_object(path, name="file").add_object(loaded, name="trimesh", unit="mm")
    loaded.apply_scale(0.001)
    estimator.add_object(loaded, name="metres").add_object(loaded.scene(), name="scene")
    estimator.add_object(load_mesh(path), name="mesh")
    poses = {
        name: estimator.estimate(image, mesh_variants.K, masks=mask, objects=name)[0].cam_from_obj
        for name in estimator.objects
    }
    assert np.array_equal(poses["trimesh"], poses["file"]) and np.array_equal(poses["mesh"], poses["file"])
    assert np.array_equal(poses["scene"], poses["metres"])
    assert np.allclose(poses["metres"], poses["file"], atol=1e-3)


@pytest.mark.parametrize(
    ("mesh", "options", "message"),
    [
        (trimesh.creation.box((50, 80, 100)), {}, "mesh is 137 m across .* it looks like millimetres"),
        (trimesh.creation.box((0.2, 0.3, 0.6)), {"unit": "mm"}, "mesh is 0.0007 m across"),
        (trimesh.Scene(), {}, "mesh has no faces"),
        (
            trimesh.PointCloud(np.eye(3)),
            {},
            "mesh of type PointCloud: give a file, a Mesh or a trimesh.Trimesh",
        ),
        (None, {}, "mesh of type NoneType"),
    ],
)
def test_meshes_at_hand_that_cannot_be_used(estimator, mesh, options, message):
    with pytest.raises(InputError, match=message):
        estimator.add_object(mesh, **options)
    assert list(estimator.objects) == ["box", "cone"]


@pytest.mark.parametrize(
    ("stages", "problem"),
    [
        ("rendermatch,best", "none of them judges the poses; add confidence"),
        ("best,confidence", "confidence goes on from poses; name a method before it"),
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


def test_what_cannot_be_meant_is_one_line(meshes, tmp_path):
    estimator = PoseEstimator(device="cpu", log_dir=tmp_path, overrides=["test.views=42"])
    for options, problem in (
        ({"unit": 0}, "unit 0: give metres per unit"),
        ({"unit": -1.0}, "unit -1.0: give metres per unit"),
        ({"symmetry": 5}, "symmetry of type int: give text such as z4"),
    ):
        with pytest.raises(InputError, match=problem):
            estimator.add_object(meshes / "box.ply", **options)
    estimator.add_object(meshes / "box.ply")
    far = Mask(torch.tensor([1500, 1500, 1600, 1600]), None)
    with pytest.raises(InputError, match=r"masks\[0\] is empty or lies outside"):
        estimator.estimate(PHOTO, K, masks=far)


def test_one_pose_needs_no_list(meshes, tmp_path):
    estimator = PoseEstimator(device="cpu", log_dir=tmp_path, overrides=["test.views=42"])
    (pose,) = estimator.add_object(meshes / "box.ply").estimate(PHOTO, K, boxes=BOX)
    assert np.array_equal(estimator.draw(PHOTO, pose, K), estimator.draw(PHOTO, [pose], K))
    (again,) = estimator.estimate(PHOTO, K, boxes=BOX, last=pose)
    assert np.array_equal(again.cam_from_obj, pose.cam_from_obj)
