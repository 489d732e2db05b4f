"""Ranking views, keeping them, and the pose that a view turned and resized stands for."""

import copy
from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation

from picopose.model.prepared_files import PreparedFiles
from picopose.model.rendermatch import views
from picopose.model.rendermatch.imagenet import ImageNetFeatures, load_imagenet
from picopose.model.rendermatch.views import (
    GREY,
    SIZE,
    PreparedViews,
    ViewBank,
    circles,
    covered_cells,
    poses_of_views,
    rank,
    turned_maps,
)
from picopose.model.stage import Thing, Things
from picopose.utils.geometry import rotation_angle, transform
from picopose.utils.records import Crop, Drawing

CELLS = SIZE // 16  # along a side
BALL = torch.from_numpy(
    np.random.default_rng(0).normal(size=(40, 3)) * [0.05, 0.03, 0.04] + [0.01, 0.0, -0.02]
)


def unit(*size: int, dim: int, generator: torch.Generator) -> torch.Tensor:
    """Random unit vectors along a dimension."""
    return F.normalize(torch.randn(size, generator=generator), dim=dim)


def test_rank_is_the_mean_best_similarity_both_ways():
    generator = torch.Generator().manual_seed(0)
    cells = torch.tensor([3, 1, 5, 2])
    prepared = PreparedViews(
        unit(int(cells.sum()), 6, dim=1, generator=generator).half(), cells, torch.zeros(0), torch.zeros(0)
    )
    maps = unit(2, 3, 6, 4, 4, dim=2, generator=generator)
    covered = torch.rand(2, 3, 4, 4, generator=generator) < 0.4
    found = rank(maps, covered, prepared, k=5)
    for b in range(2):
        expected = {}
        ends = np.cumsum(cells.numpy())
        for v, rows in enumerate(np.split(prepared.descriptors.double().numpy(), ends[:-1])):
            for t in range(3):
                crop = maps[b, t].double().numpy()[:, covered[b, t].numpy()].T
                of_view = [max(float(row @ cell) for cell in crop) for row in rows]
                of_crop = [max(float(row @ cell) for row in rows) for cell in crop]
                expected[v, t] = np.mean(of_view) + np.mean(of_crop)
        order = sorted(expected, key=lambda pair: -expected[pair])[:5]
        assert list(zip(found.view[b].tolist(), found.turn[b].tolist(), strict=True)) == order
        assert found.score[b].tolist() == pytest.approx([expected[pair] for pair in order], abs=1e-5)


def test_no_more_pairs_are_ranked_than_there_are():
    generator = torch.Generator().manual_seed(1)
    rows = unit(4, 6, dim=1, generator=generator).half()
    prepared = PreparedViews(rows, torch.tensor([1, 3]), torch.zeros(0), torch.zeros(0))
    found = rank(
        unit(1, 2, 6, 4, 4, dim=2, generator=generator), torch.ones(1, 2, 4, 4).bool(), prepared, k=9
    )
    pairs = zip(found.view[0].tolist(), found.turn[0].tolist(), strict=True)
    assert sorted(pairs) == [(0, 0), (0, 1), (1, 0), (1, 1)]


# --- what views and crops are compared by


class Source:
    """Random drawings that fill the left of the image; counts the objects that are drawn."""

    def __init__(self):
        self.prepared: list[int] = []
        self.name, self.progress = "first", None

    def digest(self, obj_id: int) -> str:
        return f"{self.name} {obj_id}"

    def hull(self, obj_id: int) -> torch.Tensor:
        return BALL

    def template_poses(self, obj_id: int, n_views: int) -> torch.Tensor:
        self.prepared.append(obj_id)
        rotations = Rotation.random(n_views, random_state=obj_id).as_matrix()
        poses = torch.eye(4, dtype=torch.float64).repeat(n_views, 1, 1)
        poses[:, :3, :3], poses[:, 2, 3] = torch.from_numpy(rotations), 0.5
        return poses

    def draw(self, obj_ids: list[int], cam_from_obj: torch.Tensor, K: torch.Tensor, size: int) -> Drawing:
        cover = torch.zeros(len(obj_ids), size, size)
        cover[..., : size // 2] = 1
        rgb = torch.stack([picture(pose, size) for pose in cam_from_obj]) * cover[:, None]
        return Drawing(rgb, cover > 0, K, cover, cam_from_obj, cover)


def picture(pose: torch.Tensor, size: int) -> torch.Tensor:
    """Patches of colours (3, size, size) that a pose determines."""
    generator = torch.Generator().manual_seed(int(1e6 * pose[0, 0].abs()))
    return F.interpolate(torch.rand(1, 3, 16, 16, generator=generator), size=size)[0]


@pytest.fixture(scope="module")
def network() -> ImageNetFeatures:
    return load_imagenet()


def bank(tmp_path, network, source, *, n_views: int = 5, memory: float = 1e9) -> ViewBank:
    things = Things({1: Thing(1, "mug", None)} | {i: Thing(i, f"{i}", None) for i in (2, 3)}, source)
    return ViewBank(PreparedFiles(tmp_path), network, things, n_views=n_views, memory=memory)


@torch.inference_mode()
def test_views_are_the_features_of_the_cells_that_show_the_object_on_grey(network, tmp_path):
    source, n_views = Source(), 18  # more than are drawn at once
    found = bank(tmp_path, network, source, n_views=n_views).get(3)
    half = CELLS // 2
    assert found.cells.tolist() == [half * CELLS] * n_views
    poses = source.template_poses(3, n_views)
    torch.testing.assert_close(found.cam_from_obj, poses)
    torch.testing.assert_close(found.circle, circles(transform(poses, BALL)))
    for v in (0, 17):
        shown = torch.full((3, 2 * SIZE, 2 * SIZE), GREY)
        shown[..., :SIZE] = picture(poses[v], 2 * SIZE)[..., :SIZE]
        small = shown.view(3, SIZE, 2, SIZE, 2).mean((2, 4))
        expected = network(small[None])[1][0, :, :, :half].flatten(1).T
        ours = found.descriptors[half * CELLS * v :][: half * CELLS].float()
        assert (ours * expected).sum(1).min() > 0.999


@torch.inference_mode()
def test_a_crop_is_compared_by_its_region_alone(network):
    generator = torch.Generator().manual_seed(0)
    rgb = F.interpolate(torch.rand(1, 3, 16, 16, generator=generator), size=2 * SIZE)
    mask = torch.zeros(1, 2 * SIZE, 2 * SIZE, dtype=torch.bool)
    mask[:, 40:200, 64:160] = True
    maps, cells = turned_maps(network, Crop(rgb, mask, torch.eye(3)[None]), 4)
    assert maps.shape == (1, 4, 112, CELLS, CELLS)
    elsewhere = turned_maps(network, Crop(torch.where(mask[:, None], rgb, 0.9), mask, torch.eye(3)[None]), 4)
    torch.testing.assert_close(maps, elsewhere[0])
    # A cell is 32 px wide: the mask covers three columns, 4/5 of the first row and a quarter of the last.
    expected = torch.zeros(CELLS, CELLS, dtype=torch.bool)
    expected[1:6, 2:5] = True
    for turn in range(4):
        by_hand = torch.rot90(torch.where(mask[:, None], rgb, GREY), -turn, dims=(2, 3))
        by_hand = network(F.avg_pool2d(by_hand, 2))[1]
        assert (maps[:, turn] * by_hand).sum(1).min() > 0.999
        assert torch.equal(cells[0, turn], torch.rot90(expected, -turn))


def test_what_is_thin_has_the_cells_that_it_covers_most():
    cover = torch.zeros(2, 1, 32, 32)
    cover[0, 0, 3] = 1  # a line: an eighth of the first row's cells
    cover[0, 0, 9, :5] = 1  # and less of another
    cover[1, 0, :8, :10] = 1  # a whole cell, and a quarter of the next
    found = covered_cells(cover, 4)
    assert found[0].tolist() == [[True] * 4, *[[False] * 4] * 3]
    assert found[1].nonzero().tolist() == [[0, 0]]


# --- keeping them


def test_views_are_made_once_and_found_again(network, tmp_path):
    source = Source()
    progress = []
    first = bank(tmp_path, network, source)
    source.progress = lambda done, of: progress.append((done, of))
    made = first.get(1)
    assert first.get(1) is made
    assert progress == [(5, 5)]
    again = bank(tmp_path, network, source).get(1)
    assert source.prepared == [1]
    for name, values in vars(made).items():
        assert torch.equal(values, getattr(again, name)) and values.dtype == getattr(again, name).dtype
    assert made.descriptors.dtype == torch.float16


def test_what_they_were_made_with_tells_them_apart(network, tmp_path, monkeypatch):
    source = Source()
    made = [bank(tmp_path, network, source).get(obj_id) for obj_id in (1, 2)]
    assert not torch.equal(*(m.cam_from_obj for m in made))
    bank(tmp_path, network, source, n_views=6).get(1)
    assert source.prepared == [1, 2, 1]
    other = copy.deepcopy(network)
    with torch.no_grad():
        next(other.parameters())[0, 0, 0, 0] += 1e-3
    bank(tmp_path, other, source).get(1)
    assert source.prepared == [1, 2, 1, 1]
    source.name = "second"
    bank(tmp_path, network, source).get(1)
    assert len(source.prepared) == 5
    monkeypatch.setattr(views, "VERSION", views.VERSION + 1)
    bank(tmp_path, network, source).get(1)
    assert len(source.prepared) == len(list(tmp_path.iterdir())) == 6
    bank(tmp_path, network, source).get(1)
    assert len(source.prepared) == 6


def test_it_is_told_which_object_is_prepared(network, tmp_path, caplog):
    caplog.set_level("INFO")
    views = bank(tmp_path, network, Source())
    for obj_id in (1, 2, 1):
        views.get(obj_id)
    told = [message.partition(":")[0] for message in caplog.messages]
    assert told == ["preparing the views of mug, once", "preparing the views of object 2, once"]


def other_bytes(old: bytes, new: bytes):
    def damage(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new, 1)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-100],
        lambda content: b"",
        lambda content: b"no such format" * 99,
        lambda content: content[:-2] + b"\xff\x7f",  # NaN
        other_bytes(b'"dtype":"F16"', b'"dtype":"I16"'),
    ],
)
def test_damaged_files_are_made_again(network, tmp_path, caplog, damage):
    source = Source()
    made = bank(tmp_path, network, source).get(1)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    again = bank(tmp_path, network, source).get(1)
    assert source.prepared == [1, 1] and torch.equal(made.descriptors, again.descriptors)
    assert f"{path} is damaged" in caplog.text
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]


def test_little_memory_changes_nothing_but_the_time(network, tmp_path):
    source = Source()
    poor = bank(tmp_path, network, source, memory=0)
    first = poor.get(1)
    poor.get(2)
    again = poor.get(1)
    assert again is not first and torch.equal(again.descriptors, first.descriptors)
    assert source.prepared == [1, 2]


# --- from views to poses


def test_circles_are_the_smallest_in_the_image():
    rng = np.random.default_rng(2)
    for scale in (1.0, 1e-3):  # of an object a thousand times as far away
        xyz = rng.normal(size=(6, 3)) * [0.05, 0.05, 0.02] * scale + [0.1, -0.2, 0.6]
        seen = xyz[:, :2] / xyz[:, 2:]
        best = np.inf
        for count in (2, 3):
            for a, *rest in combinations(seen, count):
                others = np.array(rest) - a
                middle = a + np.linalg.pinv(2 * others) @ (others**2).sum(axis=1)
                reach = np.linalg.norm(seen - middle, axis=1).max()
                if reach < best and reach <= np.linalg.norm(a - middle) * (1 + 1e-9):
                    best, centre = reach, middle
        x, y, diameter = circles(torch.from_numpy(xyz)[None])[0].tolist()
        assert diameter == pytest.approx(2 * best, rel=3e-4)  # OpenCV adds a little for safety
        assert np.hypot(x - centre[0], y - centre[1]) < 3e-4 * best


def view_pose(seed: int, distance: float) -> torch.Tensor:
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.from_numpy(Rotation.random(random_state=seed).as_matrix())
    pose[2, 3] = distance
    return pose


def seen(pose: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    xyz = transform(pose, points)
    return xyz[:, :2] / xyz[:, 2:]


def recovered(
    pose: torch.Tensor, circle: torch.Tensor, angle: float, centre: torch.Tensor, diameter: torch.Tensor
) -> torch.Tensor:
    turn = torch.tensor([angle], dtype=torch.float64)
    return poses_of_views(pose[None], circle[None], turn, centre[None], diameter[None])[0]


@pytest.mark.parametrize(
    ("size", "centre", "error"),
    [
        (1e-3, (0.0, 0.0), 1e-3),  # far away and straight ahead there is no perspective
        (1.0, (0.0, 0.0), 0.1),  # it comes nearer or goes away, which changes the perspective
        (1e-3, (0.3, -0.2), 0.07),  # the ray is slanted: a shift stretches what it shows, by 1 / cos
        (1.0, (0.3, -0.2), 0.12),
    ],
)
def test_the_view_turned_zoomed_and_shifted_is_what_the_pose_shows(size, centre, error):
    points, centre = size * BALL, torch.tensor(centre, dtype=torch.float64)
    for seed, (degrees, zoom) in enumerate([(0, 1.0), (35, 0.6), (-100, 1.8), (180, 1.2)]):
        pose = view_pose(seed, 0.6)
        circle = circles(transform(pose, points)[None])[0]
        angle = np.deg2rad(degrees)
        # The crop, turned by the angle from x to y, looks like the view: so it is the view turned back.
        back = torch.from_numpy(Rotation.from_euler("z", -angle).as_matrix()[:2, :2])
        wished = centre + zoom * (seen(pose, points) - circle[:2]) @ back.T
        found = recovered(pose, circle, angle, centre, zoom * circle[2])
        apart = (seen(found, points) - wished).norm(dim=1).max() / (zoom * circle[2])
        assert apart < error
        torch.testing.assert_close(found[:3, :3] @ found[:3, :3].T, torch.eye(3, dtype=torch.float64))
        assert torch.linalg.det(found[:3, :3]) > 0


def test_an_object_swung_about_the_camera_is_found_where_it_is():
    """Swinging and turning the scene about the camera changes nothing of the look: that has to come out."""
    for seed, (degrees, swing) in enumerate([(0, (0, 25)), (70, (-20, 10)), (-150, (15, 15))]):
        pose, angle = view_pose(seed, 0.6), np.deg2rad(degrees)
        circle = circles(transform(pose, BALL)[None])[0]
        motion = torch.eye(4, dtype=torch.float64)
        turn = Rotation.from_euler("xy", swing, degrees=True) * Rotation.from_euler("z", -angle)
        motion[:3, :3] = torch.from_numpy(turn.as_matrix())
        truth = motion @ pose
        region = circles(transform(truth, BALL)[None])[0]
        found = recovered(pose, circle, angle, region[:2], region[2])
        assert torch.rad2deg(rotation_angle(found[:3, :3] @ truth[:3, :3].T)) < 4
        assert (found[:3, 3] - truth[:3, 3]).norm() < 0.1 * 0.6
