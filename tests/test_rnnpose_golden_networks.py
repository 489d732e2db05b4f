"""RNNPose's networks reproduce the original's outputs on the same weights."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picopose.model.correlation import lookup
from picopose.model.rnnpose.kpconv import Neighborhoods
from picopose.model.rnnpose.point_pyramid import PointPyramid, build_pyramid, normalisation
from picopose.model.rnnpose.update import upsample_flow
from tests.rnnpose_golden import (
    DESCRIPTORS,
    ENCODER,
    FLOW,
    HIDDEN,
    POINT_CONTEXT,
    POINT_CONV,
    POINT_DESCRIPTORS,
    Networks,
    arrays,
    column_major,
    difference,
    released_network,
    rule_weights,
    seeded,
)


@pytest.fixture(scope="module", params=["as trained", "as used"])
def network(request) -> Networks:
    """The networks, also with the channels of images last in memory, as they are faster."""
    order = torch.channels_last if request.param == "as used" else torch.contiguous_format
    return released_network().to(memory_format=order)


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
        assert difference(column_major(correlation)[0, :, ::step, ::step], golden[f"corr{i}"]) < FLOW
        assert difference(hidden[0], golden[f"hidden{i}"]) < HIDDEN
        assert difference(mask[0, :, ::5, ::5], golden[f"mask{i}"]) < HIDDEN
        assert difference(delta[0], golden[f"delta{i}"]) < FLOW
        assert difference(upsample_flow(flow + delta, mask)[0], golden[f"flow_up{i}"]) < FLOW


def _at_cells(maps: Tensor) -> Tensor:
    """(B, C, 8 h, 8 w) -> (B, C, h, w), by the original's way of sampling."""
    size = [side // 8 for side in maps.shape[-2:]]
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)
