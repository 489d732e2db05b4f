"""The estimator takes photos, cameras, places and meshes of every kind, and refuses what it cannot use."""

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from picopose.pipeline.estimator import PoseEstimator
from picopose.utils.errors import InputError
from picopose.utils.records import Mask
from tests.box_and_cone import BOX, PHOTO, TINY, K
from tests.shared import ROOT


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
