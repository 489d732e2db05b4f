"""RNNPose's loop and losses at small sizes: with perfect flow, in batches, and what is learnt from."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from picopose.model.rnnpose import losses
from picopose.model.rnnpose.crops import patch_window
from picopose.model.rnnpose.network import Comparison, Iteration, KnownObject, RNNPose, Sizes
from picopose.model.rnnpose.point_pyramid import build_pyramid
from picopose.model.rnnpose.quirks import MENDED, RELEASED, Quirks
from picopose.model.rnnpose.samples import Pairs
from picopose.model.rnnpose.surface import Surface
from picopose.rendering.mesh import Mesh, diameter, load_mesh
from picopose.rendering.mesh_views import MeshViews
from picopose.rendering.subdivision import subdivided
from picopose.utils.geometry import rigid, rotation_angle, transform
from tests.shared import ROOT

SIZES = Sizes(patch=96, zoom=64, width=8, descriptor=8, renderings=2, iterations=2)
K = torch.tensor([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])
BATCH = 3


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return subdivided(load_mesh(ROOT / "data/mini/models/obj_000001.ply"), 0.015)


class Given:
    """Patches of noise about wrong poses."""

    def __init__(self, mesh: Mesh, quirks: Quirks):
        self.surface, self.diameter = Surface.of(mesh), diameter(mesh.vertices)
        rng = np.random.default_rng(0)
        rotation = torch.from_numpy(Rotation.random(BATCH, random_state=1).as_matrix()).float()
        place = rng.uniform((-0.1, -0.1, 0.7), (0.1, 0.1, 1.0), (BATCH, 3))
        self.truth = rigid(rotation, torch.from_numpy(place).float())
        turn = Rotation.from_euler("xyz", rng.normal(0, 12, (BATCH, 3)), degrees=True).as_matrix()
        shift = torch.from_numpy(rng.normal(0, (0.01, 0.01, 0.03), (BATCH, 3))).float()
        self.start = rigid(torch.from_numpy(turn).float() @ rotation, self.truth[:, :3, 3] + shift)
        windows = [patch_window(self.surface.vertices, pose, K, 240, 320) for pose in self.start]
        self.K = torch.stack([window.camera(K, SIZES.patch, quirks) for window in windows])
        generator = torch.Generator().manual_seed(0)
        self.patch = torch.rand(BATCH, 3, SIZES.patch, SIZES.patch, generator=generator)
        self.draw = partial(_drawn, MeshViews({1: mesh}))

    def known(self, network: RNNPose) -> KnownObject:
        return network.known(self.surface, build_pyramid(self.surface.vertices), self.diameter)

    def refined(self, network: RNNPose, rows: slice = slice(None)) -> list[Iteration]:
        patch = self.patch[rows]
        given = patch, network.describe(patch), self.K[rows], self.start[rows]
        return list(network(*given, self.known(network), self.draw))


def _drawn(views: MeshViews, cam_from_obj: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    return views.draw_faces([1] * len(K), cam_from_obj, K, SIZES.zoom)


def made(kind: type[RNNPose] = RNNPose, quirks: Quirks = MENDED) -> RNNPose:
    torch.manual_seed(0)
    return kind(SIZES, quirks)


class Oracle(RNNPose):
    """Finds the true flow."""

    truth: Tensor

    def correct(self, seen: Comparison, hidden: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        nothing = torch.zeros(len(start), 2, SIZES.zoom, SIZES.zoom)
        step = Iteration(seen, torch.eye(4).expand(len(start), 4, 4), nothing, nothing[:, 0])
        return hidden, losses.true_flow(step, self.truth, 0.0)[0]

    def trust(self, seen: Comparison, flow: Tensor) -> Tensor:
        return seen.drawn.seen.to(flow.dtype)


@torch.inference_mode()
def test_with_perfect_flow_the_truth_is_found(mesh):
    given, network = Given(mesh, MENDED), made(Oracle)
    network.truth = given.truth
    steps = given.refined(network)
    assert len(steps) == SIZES.renderings * SIZES.iterations
    pose, turns = steps[-1].cam_from_obj, given.truth[:, :3, :3].mT
    before = rotation_angle(given.start[:, :3, :3] @ turns).rad2deg()
    assert before.min() > 8
    assert rotation_angle(pose[:, :3, :3] @ turns).rad2deg().max() < 0.01
    assert (pose - given.truth)[:, :3, 3].abs().max() < 1e-5
    known = given.known(network)
    off = losses.point_losses(steps, given.truth, known, MENDED)
    assert (off.diff() < 1e-6).all() and off[-1] < 1e-4
    assert losses.flow_losses(steps, given.truth, known, MENDED).max() == 0


@pytest.mark.parametrize("quirks", [MENDED, RELEASED], ids=["mended", "released"])
@torch.inference_mode()
def test_poses_of_a_batch_are_refined_as_each_alone(mesh, quirks):
    given, network = Given(mesh, quirks), made(quirks=quirks)
    together = given.refined(network)
    for i in range(BATCH):
        alone = given.refined(network, slice(i, i + 1))
        for one, many in zip(alone, together, strict=True):
            assert (one.cam_from_obj[0] - many.cam_from_obj[i]).abs().max() < 1e-4
        for one, many in list(zip(alone, together, strict=True))[: SIZES.iterations]:  # of one rendering
            assert (one.flow[0] - many.flow[i]).abs().max() < 1e-3
            assert (one.weight[0] - many.weight[i]).abs().max() < 1e-4
            assert (one.motion[0] - many.motion[i]).abs().max() < 1e-5


@torch.inference_mode()
def test_where_nothing_is_seen_poses_stay(mesh):
    given, network = Given(mesh, MENDED), made()
    given.draw = lambda pose, K: (torch.zeros(BATCH, 3, 64, 64), torch.full((BATCH, 64, 64), -1))
    for step in given.refined(network):
        assert torch.equal(step.cam_from_obj, given.start)
        assert (step.weight == 0).all()


# Losses


@pytest.fixture(scope="module")
def learning(mesh) -> tuple[Given, RNNPose, list[Iteration]]:
    given, network = Given(mesh, MENDED), made()
    return given, network, given.refined(network)


def test_point_losses_are_distances_of_vertices_as_if_it_measured_10_cm(learning):
    given, network, steps = learning
    known, found, vertices = given.known(network), [], given.surface.vertices
    for step in steps:
        off = transform(step.cam_from_obj, vertices) - transform(given.truth, vertices)
        found.append(0.1 * off.abs().sum(2).mean() / given.diameter)
    ours = losses.point_losses(steps, given.truth, known, MENDED)
    assert (ours - torch.stack(found)).abs().max() < 1e-5
    in_metres = losses.point_losses(steps, given.truth, known, Quirks(near_limit=True))
    assert (in_metres - torch.stack(found) * given.diameter / 0.1).abs().max() < 1e-6


def test_original_forgets_the_last_pose_of_all_renderings_but_the_last(learning):
    given, network, steps = learning
    known = given.known(network)
    ours, theirs = (
        losses.point_losses(steps, given.truth, known, quirks)
        for quirks in (MENDED, Quirks(forgotten_poses=True))
    )
    assert (ours != theirs).tolist() == [False, True, False, False]
    vertices = given.surface.vertices
    off = transform(given.start, vertices) - transform(given.truth, vertices)
    assert theirs[1].item() == pytest.approx(0.1 * off.abs().sum(2).mean().item() / given.diameter, rel=1e-4)


def test_every_weight_is_learnt(learning):
    given, network, steps = learning
    known = given.known(network)
    network.zero_grad()
    total = losses.point_losses(steps, given.truth, known, MENDED).sum()
    total = total + losses.flow_losses(steps, given.truth, known, MENDED).sum()
    total.backward(retain_graph=True)
    without = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert not without
    finite = [weight.grad.isfinite().all() for weight in network.parameters()]
    assert all(finite)


def pairs_of(point: Tensor, vertex_point: Tensor, vertex: Tensor, used: Tensor | None = None) -> Pairs:
    used = torch.ones_like(vertex, dtype=torch.bool) if used is None else used
    return Pairs(torch.zeros(*vertex.shape, 2).long(), vertex, point, vertex_point, used)


def unit(*shape: int, seed: int) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(values, dim=-1)


def test_pairs_that_are_not_used_do_not_count():
    point = torch.rand(1, 20, 3, generator=torch.Generator().manual_seed(0))
    photo, model, vertex = unit(1, 20, 8, seed=1), unit(1, 20, 8, seed=2), torch.zeros(1, 20).long()
    whole = losses.circle_loss(photo, model, pairs_of(point, point, vertex))
    used = torch.arange(30)[None] < 20
    padded = [torch.cat([values, values[:, :10]], 1) for values in (photo, model, point)]
    filled = pairs_of(padded[2], padded[2], torch.zeros(1, 30).long(), used)
    again = losses.circle_loss(*padded[:2], filled)
    assert again[0].item() == pytest.approx(whole[0].item(), rel=1e-6) and again[1] == whole[1]
    none = losses.circle_loss(photo, model, pairs_of(point, point, vertex, torch.zeros(1, 20).bool()))
    assert none[0] == 0 and none[1] == 0


def test_descriptors_that_tell_points_apart_cost_least():
    point = torch.rand(1, 40, 3, generator=torch.Generator().manual_seed(0))
    pairs = pairs_of(point, point, torch.zeros(1, 40).long())
    apart = torch.eye(40)[None]
    loss, recall = losses.circle_loss(apart, apart, pairs)
    worse, low = losses.circle_loss(unit(1, 40, 40, seed=1), unit(1, 40, 40, seed=2), pairs)
    assert recall == 1 and low < 0.3 and loss < 0.4 * worse


def test_the_background_is_one_spot_far_from_the_object():
    background = torch.arange(30)[None] < 8
    point = torch.rand(1, 30, 3, generator=torch.Generator().manual_seed(0))
    far = torch.where(background[..., None], 1e3, point)
    near = torch.where(background[..., None], 0.0, point)  # as samples have it: without a place
    photo, model = unit(1, 30, 8, seed=1), unit(1, 30, 8, seed=2)
    expected = losses.circle_loss(photo, model, pairs_of(far, far, torch.zeros(1, 30).long()))
    ours = losses.circle_loss(photo, model, pairs_of(near, near, -background.long()))
    assert ours[0].item() == pytest.approx(expected[0].item(), rel=1e-6) and ours[1] == expected[1]
