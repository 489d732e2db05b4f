"""RNNPose's training samples: noise, patches, and pairs of pixels and vertices."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from torch import Tensor

from picopose.model.rnnpose.point_pyramid import normalisation
from picopose.model.rnnpose.quirks import MENDED, RELEASED, Quirks
from picopose.model.rnnpose.samples import PAIRS, REACH, PoseNoise, Sample, Samples, upright
from picopose.model.rnnpose.surface import Surface
from picopose.rendering.mesh import Mesh, load_mesh
from picopose.rendering.subdivision import subdivided
from picopose.utils.geometry import project, rigid, rotation_angle, transform, unproject
from picopose.utils.records import Observation
from tests.rendered import renderer
from tests.shared import ROOT

WIDTH, HEIGHT, SIZE = 160, 120, 96
K = np.array([[160.0, 0, 81.3], [0, 158.0, 57.1], [0, 0, 1]])
NOISE = PoseNoise(15.0, (0.01, 0.01, 0.05))


class Photographed:
    """Photos of one mesh, each from another side."""

    def __init__(self, mesh: Mesh):
        self.mesh = mesh

    def photo(self, index: int) -> Observation:
        pose = np.eye(4)
        pose[:3, :3] = Rotation.random(random_state=index).as_matrix()
        pose[:3, 3] = np.random.default_rng(index).uniform((-0.1, -0.1, 0.4), (0.1, 0.1, 0.6))
        image = renderer().render([(self.mesh, pose)], K, WIDTH, HEIGHT)
        return Observation(
            rgb=torch.from_numpy(image.rgb.transpose(2, 0, 1).copy()),
            depth=torch.from_numpy(image.depth),
            K=torch.from_numpy(K).float(),
            cam_from_obj=torch.from_numpy(pose).float(),
        )

    def name(self, index: int) -> str:
        return f"photo {index}"


@pytest.fixture(scope="module")
def photos() -> Photographed:
    return Photographed(subdivided(load_mesh(ROOT / "data/mini/models/obj_000001.ply"), 0.01))


@pytest.fixture(scope="module")
def surface(photos) -> Surface:
    return Surface.of(photos.mesh)


def made(photos, surface: Surface, seed: int = 0, *, augmented: bool = True, quirks=MENDED) -> Samples:
    return Samples(photos, surface, NOISE, size=SIZE, seed=seed, quirks=quirks, augmented=augmented)


def same(one: Sample, other: Sample) -> bool:
    return all(torch.equal(*both) for both in zip(tensors(one), tensors(other), strict=True))


def tensors(sample: Sample) -> list[Tensor]:
    fields = sample.patch, sample.K, sample.cam_from_obj, sample.initial
    pairs = sample.pairs
    return [*fields, pairs.pixel, pairs.vertex, pairs.point, pairs.vertex_point, pairs.used]


def test_a_sample_is_a_function_of_seed_and_index(photos, surface):
    first, again = made(photos, surface), made(photos, surface)
    forward = [first.sample(index) for index in range(4)]
    backward = [again.sample(index) for index in reversed(range(4))][::-1]
    assert all(map(same, forward, backward))
    assert not same(forward[0], forward[1])
    other = made(photos, surface, seed=1).sample(0)
    assert torch.equal(other.cam_from_obj, forward[0].cam_from_obj)  # of the photo
    assert not torch.equal(other.initial, forward[0].initial)


# Noise


class Counted:
    """A generator that counts the turns drawn from it."""

    def __init__(self, seed: int):
        self._rng, self.turns = np.random.default_rng(seed), 0

    def normal(self, mean, deviation, *size):
        self.turns += bool(size)
        return self._rng.normal(mean, deviation, *size)

    def uniform(self, low, high):
        return self._rng.uniform(low, high)


def disturbed(quirks: Quirks, count: int) -> tuple[Tensor, Tensor, int]:
    """Angles (degrees) and shifts (m) of disturbed poses, and the turns that were drawn for them."""
    rng, centre = Counted(0), torch.tensor([0.02, 0.01, -0.03])
    rotations = torch.from_numpy(Rotation.random(count, random_state=1).as_matrix()).float()
    truths = rigid(rotations, torch.tensor([0.1, 0.0, 0.8]).expand(count, 3))
    poses = torch.stack([NOISE.disturb(truth, centre, rng, quirks) for truth in truths])
    pivot = torch.zeros(1, 3) if quirks.origin_zoom else centre[None]
    shifts = (transform(poses, pivot) - transform(truths, pivot))[:, 0]
    return rotation_angle(poses[:, :3, :3] @ rotations.mT).rad2deg(), shifts, rng.turns


def test_noise_has_the_originals_statistics():
    angles, shifts, turns = disturbed(MENDED, 3000)
    assert angles.median() == pytest.approx(21.8, abs=0.5)
    assert angles.mean() == pytest.approx(22.5, abs=0.4)
    assert angles.max() <= 45
    assert 1 - 3000 / turns == pytest.approx(0.038, abs=0.008)
    assert np.allclose(shifts.std(0), NOISE.shift, rtol=0.05)
    assert (shifts.mean(0).abs() < torch.tensor([0.0005, 0.0005, 0.0025])).all()


def test_original_draws_large_turns_anew_but_once():
    angles, shifts, turns = disturbed(RELEASED, 3000)
    assert 0 < (angles > 45).sum() < 3000 * 0.04**2 * 3
    assert turns / 3000 - 1 == pytest.approx(0.038, abs=0.008)
    assert np.allclose(shifts.std(0), NOISE.shift, rtol=0.05)


def test_noise_may_vary_in_strength():
    noise, rng = replace(NOISE, least=0.0), np.random.default_rng(0)
    poses = torch.stack([noise.disturb(torch.eye(4), torch.zeros(3), rng, MENDED) for _ in range(1000)])
    angles = rotation_angle(poses[:, :3, :3]).rad2deg()
    assert (angles < 5).float().mean() > 0.15 and angles.max() > 30


def test_a_given_pose_is_begun_from(photos, surface):
    class Posed(Photographed):
        def photo(self, index: int) -> Observation:
            found = super().photo(index)
            pose = found.cam_from_obj.clone()
            pose[:3, :3] = pose[:3, :3] * 1.001
            pose[0, 3] += 0.01
            return replace(found, initial=pose)

    sample = made(Posed(photos.mesh), surface).sample(0)
    expected = sample.cam_from_obj.clone()
    expected[0, 3] += 0.01
    assert (sample.initial - expected).abs().max() < 1e-6  # made a rotation again


def test_poses_are_made_rigid():
    pose = torch.eye(4)
    pose[:3, :3] = torch.from_numpy(Rotation.from_rotvec((0.3, 1, -0.4)).as_matrix()).float()
    rough = pose.clone()
    rough[:3, :3] += 3e-4 * torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    rotation = upright(rough)[:3, :3].double()
    assert (rotation @ rotation.T - torch.eye(3)).abs().max() < 1e-6
    assert (upright(rough) - pose).abs().max() < 1e-3


# Pairs


@pytest.fixture(scope="module")
def samples(photos, surface) -> list[Sample]:
    plain = made(photos, surface, augmented=False)
    return [plain.sample(index) for index in range(6)]


def on_object(sample: Sample) -> Tensor:
    return sample.pairs.used & (sample.pairs.vertex >= 0)


def test_pairs_are_of_one_spot(samples, surface):
    mean, scale = normalisation(surface.vertices)
    for sample in samples:
        pairs, own = sample.pairs, on_object(sample)
        assert own.sum() > 20
        assert torch.equal(pairs.vertex_point[own], ((surface.vertices - mean) / scale)[pairs.vertex[own]])
        assert ((pairs.point - pairs.vertex_point)[own].norm(dim=1) < REACH).all()


def test_points_of_pairs_lie_where_their_pixels_show_the_surface(samples, surface, photos):
    mean, scale = normalisation(surface.vertices)
    for index, sample in enumerate(samples):
        pairs, own = sample.pairs, on_object(sample)
        xyz = transform(sample.cam_from_obj, pairs.point[own] * scale + mean)
        assert (project(sample.K, xyz) - pairs.pixel[own]).abs().max() < 1e-3
        depth = nearest_depths(photos.photo(index), sample, pairs.pixel[own])
        assert (depth - xyz[:, 2]).abs().max() < 1e-6


def nearest_depths(photo: Observation, sample: Sample, pixel: Tensor) -> Tensor:
    """Depths (N,) of the photo's pixels that are nearest to pixels (N, 2) of a patch; 0 beyond its edge."""
    at = unproject(sample.K, pixel.float(), torch.ones(len(pixel)))
    x, y = project(photo.K, at).round().long().T
    return F.pad(photo.depth, (50, 50, 50, 50))[50 + y, 50 + x]


def test_original_lifts_pixels_by_half_of_one(photos, surface):
    sample = made(photos, surface, augmented=False, quirks=RELEASED).sample(0)
    mean, scale = normalisation(surface.vertices)
    own = on_object(sample)
    xyz = transform(sample.cam_from_obj, sample.pairs.point[own] * scale + mean)
    at = project(sample.K, xyz)
    assert (at - sample.pairs.pixel[own] - 0.5).abs().max() < 1e-3


def test_every_pixel_has_its_nearest_vertices(photos, surface):
    plain = made(photos, surface, augmented=False)
    sample, photo = plain.sample(0), photos.photo(0)
    depth = torch.zeros(SIZE, SIZE)
    depth[30:54, 30:54] = photo.cam_from_obj[2, 3]
    pixel, vertex, point = plain.correspondences(depth, sample.K, sample.cam_from_obj)
    mean, scale = normalisation(surface.vertices)
    away = torch.cdist(point, (surface.vertices - mean) / scale)
    for xy in pixel.unique(dim=0):
        rows = (pixel == xy).all(1)
        near = away[rows][0].sort()
        count = min(5, int((near.values < REACH).sum()))
        assert set(vertex[rows].tolist()) == set(near.indices[:count].tolist())


def test_pairs_of_the_background_lie_on_it(samples, photos):
    shares = []
    for index, sample in enumerate(samples):
        pairs = sample.pairs
        background = pairs.used & (pairs.vertex < 0)
        assert (nearest_depths(photos.photo(index), sample, pairs.pixel[background]) == 0).all()
        assert (pairs.point[background] == 0).all() and (pairs.vertex_point[background] == 0).all()
        shares.append(background.sum().item() / pairs.used.sum().item())
    assert np.mean(shares) == pytest.approx(1 / 11, abs=0.03)


def test_an_object_out_of_sight_has_no_pairs(photos, surface):
    class Hidden(Photographed):
        def photo(self, index: int) -> Observation:
            found = super().photo(index)
            return replace(found, depth=torch.zeros_like(found.depth))

    sample = made(Hidden(photos.mesh), surface).sample(0)
    assert not sample.pairs.used.any() and len(sample.pairs.used) == PAIRS


def test_colours_alone_are_augmented(photos, surface):
    plain, changed = (made(photos, surface, augmented=choice).sample(1) for choice in (False, True))
    assert torch.equal(plain.K, changed.K) and torch.equal(plain.initial, changed.initial)
    off = (plain.patch.float() - changed.patch.float()).abs()
    assert 0 < off.mean() < 20
