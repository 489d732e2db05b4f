"""RNNPose's whole refinement reproduces the original's, and so do its losses and gradients in training."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from picopose.model.rnnpose import losses
from picopose.model.rnnpose.crops import drawn_camera
from picopose.model.rnnpose.learner import paired_descriptors
from picopose.model.rnnpose.network import Comparison, Draw, Iteration, KnownObject, RNNPose
from picopose.model.rnnpose.point_pyramid import build_pyramid, normalisation
from picopose.model.rnnpose.quirks import RELEASED
from picopose.model.rnnpose.samples import Pairs, PoseNoise, Samples
from picopose.model.rnnpose.surface import Drawn, Surface
from picopose.rendering.mesh_views import MeshViews
from tests.rnnpose_golden import (
    CIRCLE_LOSS,
    DESCRIPTORS,
    FLOW_LOSS,
    HIDDEN,
    LM_GRADIENT,
    LOOP_FLOW,
    LOOP_MAPS,
    LOOP_POSE,
    LOOP_WEIGHT,
    LOSS,
    MEDIAN_GRADIENT,
    OWN_RENDERINGS,
    POINT_CONTEXT,
    POINT_DESCRIPTORS,
    POINT_LOSS,
    WORST_GRADIENT,
    ZOOM_CAMERA,
    ZOOMED,
    Replay,
    arrays,
    column_major,
    difference,
    golden_mesh,
    original_names,
    relative,
    released_refiner,
    whole,
)
from tests.shared import shared

# The whole loop, on the stored renderings


@pytest.fixture(scope="module")
def surface() -> Surface:
    return Surface.of(golden_mesh())


@dataclass(frozen=True)
class Refinement:
    """One, with the graph of its gradients."""

    network: Replay
    known: KnownObject
    descriptors: Tensor  # (1, D, P, P), of the patch
    steps: list[Iteration]
    images: list[Tensor]  # (2, 3, S, S) that the encoder read in each cycle, rendering and photo
    updates: list[dict[str, Tensor]]  # what the update read and found in each iteration


def refine(network: Replay, known: KnownObject, draw: Draw | None = None) -> Refinement:
    images, updates = [], []
    update = ("hidden", "context", "correlation", "flow"), ("new_hidden", "delta", "mask")

    def keep(_, given, found):
        updates.append(dict(zip(update[0], given, strict=True)) | dict(zip(update[1], found, strict=True)))

    hooks = [
        network.encoder.register_forward_hook(lambda _, given, __: images.append(given[0])),
        network.update.register_forward_hook(keep),
    ]
    loop = network.loop
    patch, K = loop["patch_u8"][None] / 255, loop["K_patch"][None]
    descriptors = network.describe(patch)
    steps = list(network(patch, descriptors, K, whole(loop["T_init"])[None], known, draw))
    for hook in hooks:
        hook.remove()
    return Refinement(network, known, descriptors, steps, images, updates)


def known_object(network: Replay, surface: Surface) -> KnownObject:
    return network.known(surface, build_pyramid(surface.vertices), 0.1)


@pytest.fixture(scope="module")
def refinement(surface) -> Refinement:
    network = released_refiner()
    return refine(network, known_object(network, surface))


@pytest.mark.parametrize("cycle", range(3))
def test_loop_of_renderings(refinement, cycle):
    loop, network, step = refinement.network.loop, refinement.network, refinement.steps[4 * cycle]
    seen = step.seen
    assert difference(network.poses[cycle][0], loop[f"cycle{cycle}_T"]) < LOOP_POSE
    assert difference(seen.K[0], loop[f"cycle{cycle}_K_zoom"]) < ZOOM_CAMERA
    assert difference(network.cameras[cycle], drawn_camera(seen.K, 240, RELEASED)) == 0
    depth = seen.points[..., 2].view(240, 240)
    assert difference(depth[::4, ::4], loop[f"cycle{cycle}_depth_used_sub"]) < 1e-6
    observed = (refinement.images[cycle][1] + 1) / 2 * 255
    assert difference(observed[:, ::6, ::6], loop[f"cycle{cycle}_obs_sub"]) < ZOOMED
    for i, features in enumerate((seen.drawn_map, seen.photo_map), start=1):
        assert difference(features[0, ::16], loop[f"cycle{cycle}_fmap{i}_sub"]) < LOOP_MAPS
    context = network.maps[5 * cycle][0]
    assert difference(context[::16, ::8, ::8], loop[f"cycle{cycle}_ctx_sub"]) < POINT_CONTEXT
    drawn = seen.drawn_descriptors[0, ::4, ::8, ::8]
    assert difference(drawn, loop[f"cycle{cycle}_desc3d_sub"]) < POINT_DESCRIPTORS


@pytest.mark.parametrize("i", range(12))
def test_loop_of_iterations(refinement, i):
    loop, step, update = refinement.network.loop, refinement.steps[i], refinement.updates[i]
    start = refinement.network.maps[i + i // 4 + 1][0]
    assert difference(start[:, ::8, ::8], loop[f"iter{i}_flow_init_sub"]) < LOOP_FLOW
    assert difference(update["flow"][0], loop[f"iter{i}_flow_low"]) < LOOP_FLOW
    correlation = column_major(update["correlation"])[0, ::27, ::5, ::5]
    assert difference(correlation, loop[f"iter{i}_corr_sub"]) < LOOP_MAPS
    assert difference(update["delta"][0], loop[f"iter{i}_delta"]) < LOOP_FLOW
    if i % 4 == 3:
        assert difference(update["new_hidden"][0, ::8], loop[f"iter{i}_hidden_sub"]) < HIDDEN
    assert difference(step.flow[0, :, ::4, ::4], loop[f"iter{i}_flow_sub"]) < LOOP_FLOW
    assert difference(step.weight[0, ::4, ::4], loop[f"iter{i}_weight_sub"]) < LOOP_WEIGHT
    assert difference(step.motion[0], loop[f"iter{i}_dT"]) < LOOP_POSE
    if i == 0:
        assert difference(step.flow[0], loop["iter0_flow"]) < LOOP_FLOW
        assert difference(step.weight[0], loop["iter0_weight"]) < LOOP_WEIGHT


def test_loops_descriptors_and_last_pose(refinement):
    loop = refinement.network.loop
    assert difference(refinement.descriptors[0, :, ::16, ::16], loop["desc2d_sub"]) < DESCRIPTORS
    assert difference(refinement.steps[-1].cam_from_obj[0], loop["T_final"]) < LOOP_POSE


# With renderings of our own, as those of the original are not stored for other poses; few pixels differ.


class Drawing(Replay):
    """Draws anew what is not known to be the same."""

    def render(self, cam_from_obj: Tensor, K: Tensor, known: KnownObject, draw: Draw) -> tuple[Tensor, Drawn]:
        if not self.poses:
            return super().render(cam_from_obj, K, known, draw)
        self.poses.append(cam_from_obj)
        return RNNPose.render(self, cam_from_obj, K, known, draw)


class Trustful(Drawing):
    """Trusts all pixels alike."""

    def trust(self, seen: Comparison, flow: Tensor) -> Tensor:
        return torch.ones_like(super().trust(seen, flow))


@torch.inference_mode()
def own_last_pose(kind: type[Replay], known: KnownObject) -> Tensor:
    """The pose (4, 4) that a released network of a kind ends with."""
    views = MeshViews({1: golden_mesh()})
    draw = partial(views.draw_faces, [1], size=240)
    return refine(released_refiner(kind), known, draw).steps[-1].cam_from_obj[0]


def test_loop_with_own_renderings(refinement):
    ours = own_last_pose(Drawing, refinement.known)
    assert difference(ours, refinement.network.loop["T_final"]) < 3 * LOOP_POSE  # any driver


def test_loop_without_context(refinement):
    known = refinement.known
    ours = own_last_pose(Drawing, replace(known, context=torch.zeros_like(known.context)))
    assert difference(ours, refinement.network.loop["ablate_ctx0"]) < OWN_RENDERINGS


def test_loop_with_all_weights_one(refinement):
    ours = own_last_pose(Trustful, refinement.known)
    assert difference(ours, refinement.network.loop["ablate_w1"]) < OWN_RENDERINGS


# Training


@pytest.fixture(scope="module")
def pairs(surface) -> Pairs:
    """The pairs of the golden run."""
    golden, (mean, scale) = arrays("train"), normalisation(surface.vertices)
    vertex = golden["pairs_vertex"].long()[None]
    return Pairs(
        pixel=golden["pairs_pixel_rc"].long().flip(-1)[None],
        vertex=vertex,
        point=golden["pairs_lifted"][None],
        vertex_point=((surface.vertices - mean) / scale)[vertex.clamp(min=0)],
        used=torch.ones_like(vertex, dtype=torch.bool),
    )


@dataclass(frozen=True)
class Learnt:
    """Losses of the golden run, and gradients by the original's names."""

    point: Tensor  # (12,)
    flow: Tensor  # (12,)
    circle: Tensor
    recall: Tensor
    total: Tensor
    gradients: dict[str, Tensor]


@pytest.fixture(scope="module")
def learnt(refinement, pairs) -> Learnt:
    steps, known = refinement.steps, refinement.known
    truth = whole(refinement.network.loop["T_gt"])[None]
    point = losses.point_losses(steps, truth, known, RELEASED)
    flow = losses.flow_losses(steps, truth, known, RELEASED)
    described = paired_descriptors(refinement.descriptors, known.descriptors, pairs)
    circle, recall = losses.circle_loss(*described, pairs)
    total = point.sum() + 0.5 * flow.sum() + circle
    total.backward()
    names = original_names()
    gradients = {names[name]: weight.grad for name, weight in refinement.network.named_parameters()}
    return Learnt(point.detach(), flow.detach(), circle.detach(), recall, total.detach(), gradients)


@pytest.fixture
def samples(surface) -> Samples:
    noise = PoseNoise(15.0, (0.01, 0.01, 0.05))
    return Samples(None, surface, noise, size=320, seed=0, quirks=RELEASED, augmented=False)


def test_all_pairs_are_found(samples):
    golden, loop = arrays("train"), arrays("loop")
    depth = golden["depth_patch"]
    pixel, vertex, point = samples.correspondences(depth, loop["K_patch"], whole(loop["T_gt"]))
    foreground = (depth > 0).flatten().cumsum(0) - 1
    ours = torch.stack([foreground[pixel[:, 1] * 320 + pixel[:, 0]], vertex], dim=1)
    assert len(ours) == len(golden["correspondences"]) == 841
    assert set(map(tuple, ours.tolist())) == set(map(tuple, golden["correspondences"].tolist()))
    place = {tuple(xy): xyz for xy, xyz in zip(pixel.tolist(), point, strict=True)}
    kept = golden["pairs_vertex"] >= 0
    ours = [place[column, row] for row, column in golden["pairs_pixel_rc"][kept].tolist()]
    assert difference(torch.stack(ours), golden["pairs_lifted"][kept]) < 1e-5


def test_a_tenth_as_many_pairs_of_the_background_are_added(samples, monkeypatch):
    golden, loop = arrays("train"), arrays("loop")
    monkeypatch.setattr("picopose.model.rnnpose.samples.PAIRS", 1000)  # more than there are
    given = golden["depth_patch"], loop["K_patch"], whole(loop["T_gt"])
    pairs = samples.pairs(*given, np.random.default_rng(0))
    assert pairs.used.sum() == golden["n_pairs_before_selection"] == 925
    x, y = pairs.pixel[pairs.used & (pairs.vertex < 0)].unbind(1)
    assert len(x) == 84
    assert (golden["depth_patch"][y, x] == 0).all()


def test_losses(learnt):
    golden = arrays("train")
    assert difference(learnt.point, golden["point_losses"]) < POINT_LOSS
    assert difference(learnt.flow, golden["flow_losses"]) < FLOW_LOSS
    assert difference(learnt.circle, golden["circle_loss"]) < CIRCLE_LOSS
    assert difference(learnt.recall, golden["recall"]) < 1e-6
    assert difference(learnt.total, golden["loss"]) < LOSS


def test_norms_of_gradients(learnt):
    golden = arrays("train")
    with np.load(shared("reference_rnnpose/golden_train.npz")) as content:
        names = content["grad_names"].tolist()
    norms = dict(zip(names, golden["grad_norms"].tolist(), strict=True))
    off = {
        name: abs(learnt.gradients[name].norm().item() - norm) / norm
        for name, norm in norms.items()
        if norm > 1e-3
    }
    assert len(off) == 149
    assert np.median(list(off.values())) < MEDIAN_GRADIENT
    assert max(off.values()) < WORST_GRADIENT, max(off, key=off.get)
    assert set(learnt.gradients) <= {name for name, norm in norms.items() if not np.isnan(norm)}


def test_whole_gradients(learnt):
    golden = {key[6:]: value for key, value in arrays("train").items() if key.startswith("grad::")}
    golden = {name: value for name, value in golden.items() if value.norm() > 1e-4}  # else rounding's
    assert len(golden) == 4
    for name, gradient in golden.items():
        assert relative(learnt.gradients[name], gradient) < WORST_GRADIENT, name


def test_norms_of_modules_gradients(learnt):
    golden = arrays("train")
    prefixes = [key.removeprefix("gradnorm_module::") for key in golden if "gradnorm_module::" in key]
    assert len(prefixes) == 6
    for prefix in prefixes:
        within = [value for name, value in learnt.gradients.items() if name.startswith(prefix)]
        assert relative(norm(within), golden[f"gradnorm_module::{prefix}"]) < WORST_GRADIENT, prefix
    assert relative(norm(list(learnt.gradients.values())), golden["gradnorm_total"]) < MEDIAN_GRADIENT


def norm(gradients: list[Tensor]) -> Tensor:
    return torch.stack([gradient.norm() for gradient in gradients]).norm()


def test_circle_loss_alone():
    golden = {key[7:]: value for key, value in arrays("train").items() if key.startswith("circle.")}
    photo, model = (golden[f"{side}_feats"].clone().requires_grad_() for side in ("src", "tgt"))
    background = golden["src_pts"][:, 0] > 1e6
    pairs = Pairs(
        pixel=torch.zeros(1, 48, 2, dtype=torch.long),
        vertex=torch.where(background, -1, 0)[None],
        point=golden["src_pts"][None],
        vertex_point=golden["tgt_pts"][None],
        used=torch.ones(1, 48, dtype=torch.bool),
    )
    loss, recall = losses.circle_loss(photo[None], model[None], pairs)
    loss.backward()
    assert difference(loss, golden["loss"]) < CIRCLE_LOSS
    assert difference(recall, golden["recall"]) < 1e-6
    assert relative(photo.grad, golden["grad_src"]) < LM_GRADIENT
    assert relative(model.grad, golden["grad_tgt"]) < LM_GRADIENT
