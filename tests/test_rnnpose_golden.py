"""The converted RNNPose reproduces the original's outputs, each within the bar of the reference's table."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picopose.model.correlation import lookup
from picopose.model.rnnpose import lm, losses
from picopose.model.rnnpose.crops import drawn_camera, patch_window, zoom
from picopose.model.rnnpose.kpconv import Neighborhoods
from picopose.model.rnnpose.learner import paired_descriptors
from picopose.model.rnnpose.network import Comparison, Draw, Iteration, KnownObject, RNNPose
from picopose.model.rnnpose.point_pyramid import PointPyramid, build_pyramid, normalisation
from picopose.model.rnnpose.quirks import MENDED, RELEASED
from picopose.model.rnnpose.samples import Pairs, PoseNoise, Samples
from picopose.model.rnnpose.surface import Drawn, Surface, barycentrics, interpolated, trace
from picopose.model.rnnpose.update import upsample_flow
from picopose.rendering.mesh_views import MeshViews
from picopose.utils.geometry import transform
from tests.rnnpose_golden import (
    Networks,
    Replay,
    arrays,
    golden_mesh,
    original_names,
    released_network,
    released_refiner,
    rule_weights,
    seeded,
    stored_colours,
    stored_triangles,
)
from tests.shared import shared

DESCRIPTORS = 2e-5
POINT_DESCRIPTORS, POINT_CONTEXT, POINT_CONV = 1e-5, 5e-5, 2e-5
ENCODER = 5e-4
HIDDEN, FLOW = 5e-5, 1e-4
POSE, NORMAL, LM_GRADIENT = 1e-6, 1e-6, 1e-4
ZOOM_CAMERA, THETA, ZOOMED = 2e-3, 1e-6, 1e-4
LOOP_FLOW, LOOP_WEIGHT, LOOP_POSE, LOOP_MAPS = 2e-3, 2e-4, 1e-5, 5e-3
OWN_RENDERINGS = 2e-4
LOSS, CIRCLE_LOSS, FLOW_LOSS, POINT_LOSS = 1e-3, 1e-5, 1e-4, 1e-5
MEDIAN_GRADIENT, WORST_GRADIENT = 2e-4, 5e-3


@pytest.fixture(scope="module", params=["as trained", "as used"])
def network(request) -> Networks:
    """The networks, also with the channels of images last in memory, as they are faster."""
    order = torch.channels_last if request.param == "as used" else torch.contiguous_format
    return released_network().to(memory_format=order)


def difference(ours: Tensor, golden: Tensor) -> float:
    assert ours.shape == golden.shape
    return (ours - golden).abs().max().item()


def pictures(*stored: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] of RGB images (H, W, 3) uint8."""
    return torch.stack(stored).permute(0, 3, 1, 2) / 255


@torch.inference_mode()
def outputs(network: nn.Module, modules: dict[str, nn.Module], *inputs) -> tuple[Tensor, dict[str, Tensor]]:
    """A network's result and those of modules within it."""
    inner = {}
    hooks = [
        module.register_forward_hook(lambda _, __, result, name=name: inner.update({name: result.clone()}))
        for name, module in modules.items()
    ]
    result = network(*inputs)
    for hook in hooks:
        hook.remove()
    return result, inner


def test_weights_by_the_rule_have_the_sums_of_the_originals():
    sums = torch.stack([weight.double().abs().sum() for weight in rule_weights().values()])
    golden = arrays("kernel_points")["weight_abs_sums"]
    assert ((sums - golden).abs() <= 1e-6 * golden).all()


# Descriptors of the image


def test_image_descriptors(network):
    golden = arrays("desc2d")
    unet = network.image_descriptors
    modules = {
        "conv1b": unet.encoder[0][2],
        "conv4b": unet.encoder[3][2],
        "decode1": unet.decoder[0],
        "decode2": unet.decoder[1],
        "decode3": unet.decoder[2],
        "convDa": unet.head[0],
        "convDb": unet.head[2],
    }
    result, inner = outputs(unet, modules, pictures(golden["image_u8"]))
    assert difference(result[0], golden["descriptors"]) < DESCRIPTORS
    for name, value in inner.items():
        assert difference(value[0, :8, :4, :4], golden[f"crop_{name}"]) < DESCRIPTORS, name
        assert difference(_statistics(value), golden[f"stat_{name}"]) < DESCRIPTORS, name


def _statistics(value: Tensor) -> Tensor:
    return torch.stack([value.mean(), value.std()])


# The pyramid of points and the networks on it


@pytest.fixture(scope="module")
def golden_pyramid() -> PointPyramid:
    mesh = arrays("mesh")
    return PointPyramid(
        points=tuple(mesh[f"pyr.points{level}"] for level in range(4)),
        neighbors=tuple(mesh[f"pyr.neighbors{level}"].long() for level in range(4)),
        pools=tuple(mesh[f"pyr.pools{level}"].long() for level in range(3)),
        upsamples=tuple(mesh[f"pyr.upsamples{level}"][:, 0].long() for level in range(3)),
    )


def test_pyramid_is_the_originals(golden_pyramid):
    mesh = arrays("mesh")
    mean, scale = normalisation(mesh["verts"])
    assert difference(mean, mesh["pyr.mean"]) < 1e-8
    assert difference(scale, mesh["pyr.scale"]) < 1e-8
    ours = build_pyramid(mesh["verts"])
    assert [len(points) for points in ours.points] == [1196, 993, 289, 69]
    assert [lists.shape[1] for lists in ours.neighbors] == mesh["pyr.limits"].tolist()
    assert [lists.shape[1] for lists in ours.pools] == mesh["pyr.limits"].tolist()[:3]
    order = _order(ours, golden_pyramid)
    for level, row in enumerate(order):
        assert difference(ours.points[level][row], golden_pyramid.points[level]) < 1e-6
        _assert_same_lists(ours.neighbors[level][row], golden_pyramid.neighbors[level], row)
    for level, row in enumerate(order[1:]):
        _assert_same_lists(ours.pools[level][row], golden_pyramid.pools[level], order[level])
        assert torch.equal(ours.upsamples[level][order[level]], row[golden_pyramid.upsamples[level]])


def test_lists_of_neighbors_are_sorted_by_distance():
    pyramid = build_pyramid(arrays("mesh")["verts"])
    for points, lists in zip(pyramid.points, pyramid.neighbors, strict=True):
        far = F.pad(points, (0, 0, 0, 1), value=9.0)[lists]
        assert ((far - points[:, None]).norm(dim=2).diff(dim=1) > -1e-6).all()
        assert torch.equal(lists[:, 0], torch.arange(len(points)))


def _order(ours: PointPyramid, golden: PointPyramid) -> list[Tensor]:
    """For every level our numbers of the golden pyramid's points; their order there is of no meaning."""
    levels = zip(golden.points, ours.points, strict=True)
    return [torch.cdist(theirs.double(), points.double()).argmin(dim=1) for theirs, points in levels]


def _assert_same_lists(ours: Tensor, golden: Tensor, order: Tensor):
    """Equal as sets, of points that are numbered otherwise."""
    ours_of = torch.cat([order, torch.tensor([len(order)])])
    assert torch.equal(ours.sort(dim=1).values, ours_of[golden].sort(dim=1).values)


POINT_NETWORKS = {
    "kp_desc": ("point_descriptors", POINT_DESCRIPTORS),
    "kp_ctx": ("point_context", POINT_CONTEXT),
}


@pytest.mark.parametrize("name", POINT_NETWORKS)
def test_point_networks(network, golden_pyramid, name):
    golden = arrays("kpconv")
    attribute, bar = POINT_NETWORKS[name]
    net = getattr(network, attribute)
    blocks = [net.blocks[0][0], net.blocks[0][1]]
    for level in range(1, 4):
        blocks += [net.pooling[level - 1], *net.blocks[level]]
    modules = {f"encoder_blocks{i}": block for i, block in enumerate(blocks)}
    result, inner = outputs(net, modules, golden_pyramid)
    assert difference(result, golden[f"{name}.out"]) < bar
    for block, value in inner.items():
        assert difference(value[:3], golden[f"{name}.{block}_head"]) < POINT_CONTEXT, block
        assert difference(_statistics(value), golden[f"{name}.{block}_stat"]) < POINT_CONTEXT, block


@torch.inference_mode()
def test_bare_kernel_point_convolutions(network, golden_pyramid):
    golden = arrays("kpconv")
    features, points = seeded("golden.kpconv.features", 1196, 32), golden_pyramid.points
    same = network.point_descriptors.blocks[0][1].layer.conv
    strided = network.point_descriptors.pooling[0].layer.conv
    around = Neighborhoods.of(points[0], points[0], golden_pyramid.neighbors[0])
    assert difference(same(features, around), golden["kp_unit.out_block1"]) < POINT_CONV
    around = Neighborhoods.of(points[0], points[1], golden_pyramid.pools[0])
    assert difference(strided(features, around), golden["kp_unit.out_block2_strided"]) < POINT_CONV


# The flow's encoder and recurrent update


@torch.inference_mode()
def test_encoder(network):
    golden = arrays("encoder")
    images = pictures(golden["image1_u8"], golden["image2_u8"])
    ours = network.encoder(2 * images / 255 - 1)
    assert difference(ours[0], golden["fmap1"]) < ENCODER
    assert difference(ours[1], golden["fmap2"]) < ENCODER


@torch.inference_mode()
def test_update(network):
    golden = arrays("gru")
    maps = [seeded(f"golden.gru.fmap{i}", 1, 256, 16, 24) for i in (1, 2)]
    context = _at_cells(0.5 * seeded("golden.gru.context", 1, 256, 128, 192))
    hidden, context = context[:, :128].tanh(), context[:, 128:].relu()
    index = torch.stack(torch.meshgrid(torch.arange(24.0), torch.arange(16.0), indexing="xy"))
    for i in range(4):
        flow = _at_cells(golden[f"flow_init{i}"][None]) / 8
        correlation = lookup(*maps, index + flow, radius=4, scales=4)
        hidden, delta, mask = network.update(hidden, context, correlation, flow)
        step = 4 if i else 1
        assert difference(flow[0], golden[f"flow_low{i}"]) < FLOW
        assert difference(_column_major(correlation)[0, :, ::step, ::step], golden[f"corr{i}"]) < FLOW
        assert difference(hidden[0], golden[f"hidden{i}"]) < HIDDEN
        assert difference(mask[0, :, ::5, ::5], golden[f"mask{i}"]) < HIDDEN
        assert difference(delta[0], golden[f"delta{i}"]) < FLOW
        assert difference(upsample_flow(flow + delta, mask)[0], golden[f"flow_up{i}"]) < FLOW


def _at_cells(maps: Tensor) -> Tensor:
    """(B, C, 8 h, 8 w) -> (B, C, h, w), by the original's way of sampling."""
    size = [side // 8 for side in maps.shape[-2:]]
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)


def _column_major(correlation: Tensor) -> Tensor:
    """Correlations with the windows in the original's order."""
    return correlation.unflatten(1, (4, 9, 9)).transpose(2, 3).flatten(1, 3)


# The Levenberg-Marquardt step

CAMERA = {"centre": torch.zeros(1, 3), "diameter": 1.0, "quirks": RELEASED}


@dataclass(frozen=True)
class Solving:
    """The example of the step: what it is given but for the pose."""

    points: Tensor  # (1, N, 3)
    target: Tensor  # (1, N, 2)
    weight: Tensor  # (1, N)
    K: Tensor  # (1, 3, 3)

    def step(self, motion: Tensor) -> Tensor:
        return lm.step(motion, self.points, self.target, self.weight, self.K, **CAMERA)


def solving(golden: dict[str, Tensor]) -> Solving:
    points = lifted(golden["depth"], golden["K"])
    return Solving(points, golden["target"].view(1, -1, 2), golden["weight"].view(1, -1), golden["K"][None])


def lifted(depth: Tensor, K: Tensor) -> Tensor:
    """Points (1, H*W, 3) at the pixels of a depth map (H, W)."""
    row, column = torch.meshgrid(*(torch.arange(float(side)) for side in depth.shape), indexing="ij")
    x, y = (column - K[0, 2]) / K[0, 0] * depth, (row - K[1, 2]) / K[1, 1] * depth
    return torch.stack([x, y, depth], dim=-1).view(1, -1, 3)


def relative(ours: Tensor, golden: Tensor) -> float:
    return difference(ours, golden) / golden.abs().max().item()


def test_exponential_and_its_gradient():
    golden = arrays("lm")
    twist = golden["se3.xi"].clone().requires_grad_()
    ours = lm.exponential(twist, at_identity=True)
    assert difference(ours, golden["se3.G"]) < POSE
    (ours * seeded("golden.se3.cotangent", 12, 4, 4)).sum().backward()
    assert difference(twist.grad, golden["se3.grad"]) < POSE


def test_steps():
    golden = arrays("lm")
    given = solving(golden)
    motion = golden["poses"][:1]
    for i in range(6):
        moved = transform(motion, given.points)
        valid = (given.points[..., 2] > 0.1) & (moved[..., 2] > 0.1)
        frame = {"pivot": torch.zeros(1, 3), "unit": 1.0}
        normal, right = lm.normal_equations(moved, given.target, given.weight * valid, given.K, **frame)
        assert relative(lm.damped(normal, camera=True)[0].float(), golden["H"][i]) < NORMAL
        assert difference(right[0].float(), golden["b"][i]) < NORMAL * golden["b"].abs().max()
        assert difference(lm.solve(normal, right, camera=True)[0].float(), golden["xi"][i]) < POSE
        motion = given.step(motion)
        assert difference(motion[0], golden["poses"][i + 1]) < POSE
        if i == 2:
            assert difference(motion[0], golden["pose_num_iters3"]) < POSE


def test_components_of_a_step_are_clamped():
    golden = arrays("lm")
    target, weight, K = golden["clamp_target"].view(1, -1, 2), golden["weight"].view(1, -1), golden["K"][None]
    points = lifted(torch.full_like(golden["depth"], 2.0), golden["K"])
    frame = {"pivot": torch.zeros(1, 3), "unit": 1.0}
    normal, right = lm.normal_equations(points, target, weight, K, **frame)
    raw = torch.linalg.solve(lm.damped(normal, camera=True), right)[0].float()
    assert relative(raw, golden["clamp_xi_raw"]) < POSE
    assert (raw.abs() > 1).sum() == 5
    assert difference(lm.solve(normal, right, camera=True)[0].float(), golden["clamp_xi"]) < POSE
    motion = lm.step(torch.eye(4)[None], points, target, weight, K, **CAMERA)
    assert difference(motion[0], golden["clamp_pose"]) < POSE


def test_gradients_of_a_step():
    golden = arrays("lm")
    given = solving(golden)
    for leaf in (given.target, given.weight):
        leaf.requires_grad_()
    motion = given.step(golden["grad_T0"][None])
    assert difference(motion[0], golden["grad_pose"]) < POSE
    (motion * seeded("golden.lm.cotangent", 1, 1, 4, 4)[0]).sum().backward()
    assert relative(given.target.grad[0], golden["grad_target"].view(-1, 2)) < LM_GRADIENT
    assert relative(given.weight.grad[0], golden["grad_weight"].view(-1)) < LM_GRADIENT


# Crops


@pytest.mark.parametrize("case", range(6))
def test_patch(case):
    golden = arrays("crop")
    x, y, width, height = golden[f"bbox{case}"].tolist()
    window = patch_window(arrays("mesh")["verts"], golden[f"T{case}"], golden["K"], 480, 640)
    side = int(max(width, height) * 2.7)
    left, top = max(0, int(x + width / 2 - side / 2)), max(0, int(y + height / 2 - side / 2))
    assert (window.left, window.top, window.side) == (left, top, side)
    patch = torch.from_numpy(window.cut(golden["image"].numpy(), 320))
    assert torch.equal(patch[::16, ::16], golden[f"patch_sub{case}"])
    assert torch.equal(patch.view(-1, 3).sum(0), golden[f"patch_sum{case}"].long())
    if case == 0:
        assert torch.equal(patch, golden["patch0"])
    camera = window.camera(golden["K"], 320, RELEASED)
    assert difference(camera, golden[f"K_patch{case}"]) < 1e-4


@pytest.mark.parametrize("case", range(6))
def test_zoom(case):
    golden = arrays("crop")
    vertices, pose = arrays("mesh")["verts"], golden[f"T{case}"]
    window = zoom(vertices, pose[None], golden[f"K_patch{case}"][None], 320, 240, RELEASED)
    assert difference(window.K[0], golden[f"K_zoom{case}"]) < ZOOM_CAMERA
    assert difference(window.grid[0, ::24, ::24], golden[f"grid_sub{case}"]) < THETA
    assert difference(_theta(window.grid[0]), golden[f"zoom_affine{case}"]) < THETA
    (x_low, x_high, y_low, y_high), (x, y) = golden[f"zoom_extent{case}"], golden[f"zoom_center{case}"]
    side = 2.8 * max(x - x_low, x_high - x, y - y_low, y_high - y)
    assert 320 * _theta(window.grid[0])[0, 0].item() == pytest.approx(side.item(), rel=1e-6)
    assert difference(160 * (_theta(window.grid[0])[:, 2] + 1), torch.stack([x, y])) < 320 * THETA
    cut = patch_window(vertices, pose, golden["K"], 480, 640).cut(golden["image"].numpy(), 320)
    zoomed = window.look(torch.from_numpy(cut).permute(2, 0, 1)[None] / 255)
    assert difference(zoomed[0, :, ::12, ::12], golden[f"zoom_image_sub{case}"]) < ZOOMED


def _theta(grid: Tensor) -> Tensor:
    """The affine map (2, 3) by which a grid (S, S, 2) was made."""
    reach = 1 - 1 / len(grid)  # of the outermost pixels' centres
    across, down = grid[0, -1] - grid[0, 0], grid[-1, 0] - grid[0, 0]
    columns = across / (2 * reach), down / (2 * reach), (grid[0, 0] + grid[-1, -1]) / 2
    return torch.stack(columns, dim=-1)


# The surface


@dataclass(frozen=True)
class Seen:
    """A stored rendering."""

    faces: Tensor  # (1, S, S)
    shares: Tensor  # (P, 3)
    cam_from_obj: Tensor  # (1, 4, 4)
    K: Tensor  # (1, 3, 3), with which it is drawn
    traced: Drawn  # by ourselves, in its triangles


@pytest.fixture(scope="module")
def surface() -> Surface:
    return Surface.of(golden_mesh())


@pytest.fixture(scope="module", params=range(3))
def seen(request, surface) -> tuple[dict[str, Tensor], int, Seen]:
    """The golden loop, the number of one of its cycles, and its rendering."""
    loop, cycle = arrays("loop"), request.param
    faces, shares = stored_triangles(loop, cycle)
    pose = loop[f"cycle{cycle}_T"][None]
    K = drawn_camera(loop[f"cycle{cycle}_K_zoom"][None], 240, RELEASED)
    return loop, cycle, Seen(faces, shares, pose, K, trace(surface, faces, pose, K, RELEASED))


def test_surface_keeps_the_meshs_vertices_and_faces(surface):
    mesh = arrays("mesh")
    assert torch.equal(surface.vertices, mesh["verts"])
    assert torch.equal(surface.faces, mesh["faces"].long())


def test_barycentric_coordinates(surface, seen):
    _, _, seen = seen
    ours = barycentrics(surface, seen.faces, seen.cam_from_obj, seen.K)
    off = (ours - seen.shares).abs().amax(dim=1)
    assert off.median() < 5e-5
    assert (off < 1e-3).float().mean() > 0.999  # slivers apart
    assert off.max() < 5e-3


def test_depth_of_the_nearest_vertex_is_exact_with_its_offset(surface, seen):
    loop, cycle, seen = seen
    stored = interpolated(surface, seen.faces, seen.shares, seen.cam_from_obj, RELEASED)
    golden = loop[f"cycle{cycle}_depth_used_sub"]
    for drawn in (stored, seen.traced):
        assert torch.equal(drawn.depth[0, ::4, ::4], golden)
    background = golden[seen.faces[0, ::4, ::4] < 0]
    assert torch.equal(background, torch.full_like(background, 1e-5))


def test_shading(surface, seen):
    loop, cycle, seen = seen
    colours = arrays("mesh")["colors"].float() / 255
    ours = seen.traced.shaded(seen.traced.spread(colours), surface)
    golden = stored_colours(loop, cycle)
    off = (ours - golden).abs()
    assert off.max() < 1.01 * 0.5 / 255  # rounded
    assert torch.equal(ours > 0, golden > 0)


def test_own_renderer(surface, seen):
    loop, cycle, seen = seen
    views = MeshViews({1: golden_mesh()})
    _, faces = views.draw_faces([1], seen.cam_from_obj, seen.K, 240)
    both = (faces >= 0) & (seen.faces >= 0)
    assert ((faces >= 0) != (seen.faces >= 0)).sum() <= 5
    assert (faces != seen.faces)[both].sum() < 0.001 * both.sum()
    depth = trace(surface, faces, seen.cam_from_obj, seen.K, MENDED).depth
    same = both & (faces == seen.faces)
    assert (depth[0] - loop[f"cycle{cycle}_zbuf"])[same[0]].abs().max() < 5e-5


# The whole loop, on the stored renderings


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


def whole(pose: Tensor) -> Tensor:
    """The matrix (4, 4) of a pose (3, 4)."""
    return torch.cat([pose, torch.tensor([[0.0, 0, 0, 1]])])


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
    correlation = _column_major(update["correlation"])[0, ::27, ::5, ::5]
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
