"""RNNPose's networks at other sizes than the original's, and their parts against plain definitions."""

import pytest
import torch
from torch import Tensor, nn

from picopose.model.rnnpose.encoder import ImageEncoder
from picopose.model.rnnpose.image_descriptors import ImageDescriptors
from picopose.model.rnnpose.kpconv import DISPOSITION, KernelPointConv, Neighborhoods, PointNetwork
from picopose.model.rnnpose.norm import InstanceNorm
from picopose.model.rnnpose.point_pyramid import PointPyramid, build_pyramid
from picopose.model.rnnpose.update import UpdateBlock, upsample_flow


@pytest.fixture(scope="module")
def vertices() -> Tensor:
    """(400, 3) m: points on an ellipsoid."""
    directions = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    return directions / directions.norm(dim=1, keepdim=True) * torch.tensor([0.03, 0.04, 0.05]) + 0.1


@pytest.fixture(scope="module")
def pyramid(vertices) -> PointPyramid:
    return build_pyramid(vertices)


def assert_every_weight_has_a_gradient(network: nn.Module, *results: Tensor):
    # Not their plain sums, which a norm makes constant.
    sum((result * torch.randn_like(result)).sum() for result in results).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_small_encoder():
    network = ImageEncoder(16, widths=(4, 6, 8))
    result = network(torch.rand(2, 3, 32, 48))
    assert result.shape == (2, 16, 4, 6)
    assert_every_weight_has_a_gradient(network, result)


def test_small_image_descriptors():
    network = ImageDescriptors(8, width=4)
    result = network(torch.rand(2, 3, 32, 48))
    assert result.shape == (2, 8, 32, 48)
    assert result.norm(dim=1).sub(1).abs().max() < 1e-5
    assert_every_weight_has_a_gradient(network, result)


def test_small_point_network(pyramid):
    network = PointNetwork(5, width=8, normalised=True)
    result = network(pyramid)
    assert result.shape == (400, 5)
    assert result.norm(dim=1).sub(1).abs().max() < 1e-5
    assert_every_weight_has_a_gradient(network, result)


def test_small_update():
    network = UpdateBlock(hidden=12, context=10, levels=2, radius=3, width=16)
    hidden, delta, mask = network(
        torch.randn(2, 12, 5, 6), torch.randn(2, 10, 5, 6), torch.randn(2, 98, 5, 6), torch.randn(2, 2, 5, 6)
    )
    assert (hidden.shape, delta.shape, mask.shape) == ((2, 12, 5, 6), (2, 2, 5, 6), (2, 576, 5, 6))
    assert_every_weight_has_a_gradient(network, hidden, delta, mask)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_instance_norm_is_torchs_and_keeps_the_order(order):
    maps = torch.randn(3, 8, 6, 7).to(memory_format=order)
    result = InstanceNorm()(maps)
    assert (result - nn.InstanceNorm2d(8)(maps)).abs().max() < 1e-5
    assert result.is_contiguous(memory_format=order)


def test_even_flow_stays_even_inside():
    flow = torch.tensor([1.5, -2.0]).view(1, 2, 1, 1).expand(1, 2, 4, 5)
    result = upsample_flow(flow, torch.randn(1, 576, 4, 5))
    assert result.shape == (1, 2, 32, 40)
    inside = result[:, :, 8:-8, 8:-8]
    assert (inside - torch.tensor([12.0, -16.0]).view(1, 2, 1, 1)).abs().max() < 1e-5


def test_every_pixel_takes_the_cell_that_its_mask_tells():
    flow, mask = torch.randn(1, 2, 4, 5), torch.full((1, 9, 8, 8, 4, 5), -100.0)
    mask[:, 5] = 100.0  # the cell to the right
    mask[:, 5, 3, 6], mask[:, 7, 3, 6] = -100.0, 100.0  # one pixel of each: the cell below
    result = upsample_flow(flow, mask.flatten(1, 3)).unflatten(3, (5, 8)).unflatten(2, (4, 8))
    right, below = torch.zeros_like(flow), torch.zeros_like(flow)
    right[..., :-1], below[:, :, :-1] = 8 * flow[..., 1:], 8 * flow[:, :, 1:]
    assert torch.allclose(result[:, :, :, 0, :, 0], right)
    assert torch.allclose(result[:, :, :, 3, :, 6], below)


def test_pyramid_against_all_distances(vertices, pyramid):
    points = [p.double() for p in pyramid.points]
    assert (vertices - vertices.mean(0) - points[0] * longest_side(vertices)).abs().max() < 1e-7
    for level in range(4):
        counts = assert_nearest(pyramid.neighbors[level], points[level], points[level], 0.0625 * 2**level)
        longest = pyramid.neighbors[level].shape[1]
        assert (counts <= longest).double().mean() >= 0.8 > (counts < longest).double().mean()
    for level in range(3):
        finer, coarser = points[level], points[level + 1]
        assert len(coarser) < len(finer)
        assert_nearest(pyramid.pools[level], finer, coarser, 0.0625 * 2**level)
        assert torch.equal(pyramid.upsamples[level], torch.cdist(finer, coarser).argmin(dim=1))


def longest_side(vertices: Tensor) -> float:
    return max((vertices[:, axis].max() - vertices[:, axis].min()).item() for axis in range(3))


def assert_nearest(lists: Tensor, points: Tensor, queries: Tensor, radius: float) -> Tensor:
    """Every list has the nearest points within the radius, in order; gives their whole numbers."""
    distances = (queries[:, None] - points).norm(dim=2)
    ordered = distances.sort(dim=1).values[:, : lists.shape[1]]
    absent = torch.full((len(queries), 1), torch.inf, dtype=distances.dtype)
    listed = torch.cat([distances, absent], dim=1).gather(1, lists)
    # By distance: a mean of two points lies at the same distance from both.
    assert torch.allclose(listed, ordered.masked_fill(ordered >= radius, torch.inf), atol=1e-7)
    assert all(len(set(row) - {len(points)}) == sum(j < len(points) for j in row) for row in lists.tolist())
    return (distances < radius).sum(dim=1)


def test_coarser_points_are_the_means_of_cells():
    corners = torch.tensor([[0.0, 0, 0], [1, 1, 1]])
    pair = torch.tensor([[0.512, 0.513, 0.514], [0.532, 0.533, 0.53]])  # of one cell, about a mean of zero
    vertices = torch.cat([corners, pair, 1 - pair])
    coarser = build_pyramid(vertices - 0.5).points[1]
    expected = torch.cat([corners, pair.mean(0, keepdim=True), 1 - pair.mean(0, keepdim=True)]) - 0.5
    assert len(coarser) == 4
    assert torch.cdist(expected, coarser).amin(dim=1).max() < 1e-6


def test_kernel_point_convolution_by_its_definition():
    torch.manual_seed(0)
    conv = KernelPointConv(3, 2, radius=0.5)
    points, queries, features = torch.rand(6, 3), torch.rand(4, 3), torch.randn(6, 3)
    index = torch.tensor([[0, 1, 2], [3, 4, 6], [5, 6, 6], [6, 6, 6]])
    expected = torch.zeros(4, 2)
    for query, (position, neighbors) in enumerate(zip(queries, index.tolist(), strict=True)):
        present = [j for j in neighbors if j < 6]
        for j in present:
            for kernel_point, matrix in zip(conv.kernel_points, conv.weight, strict=True):
                distance = (points[j] - position - kernel_point).norm()
                expected[query] += max(0, 1 - distance / (0.8 * 0.5)) * (features[j] @ matrix)
        expected[query] /= max(1, sum(features[j].sum() > 0 for j in present))
    result = conv(features, Neighborhoods.of(points, queries, index))
    assert (result - expected).abs().max() < 1e-5


def test_kernel_points_are_the_disposition_turned_about_z():
    torch.manual_seed(0)
    points = torch.stack([KernelPointConv(1, 1, radius=2.0).kernel_points for _ in range(200)]) / 2
    disposition = torch.tensor(DISPOSITION)
    jitter = points[:, :, 2] - disposition[:, 2]
    assert abs(jitter.std() - 0.01) < 0.001
    assert abs(points[:, 1:, :2].norm(dim=2) - disposition[1:, :2].norm(dim=1)).max() < 0.06
    angles = torch.atan2(points[:, 1, 1], points[:, 1, 0])
    assert torch.histc(angles, 4, -torch.pi, torch.pi).min() > 20
    # All points of a kernel turn by one angle.
    assert (torch.cdist(points, points) - torch.cdist(disposition, disposition)).abs().max() < 0.08
