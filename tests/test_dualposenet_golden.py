"""The converted DualPoseNet reproduces the original, each number within the bar of the reference's table."""

import numpy as np
import pytest
import torch
from torch import Tensor

from picopose.model.dualposenet.maps import spherical_maps
from picopose.model.dualposenet.quirks import MENDED, RELEASED
from picopose.model.dualposenet.sphere import (
    SphericalConvolution,
    SphericalPooling,
    SphericalTransform,
    quadrature_weights,
)
from tests.dualposenet_golden import arrays, below, relative

COEFFICIENTS, CONVOLUTION, POOLING = 1e-5, 1e-5, 1e-6

# Input


@pytest.mark.parametrize(("name", "side"), [("edge", 64), ("random", 64), ("random32", 32)])
def test_spherical_maps(name, side):
    golden = below(f"{name}/", arrays("input"))
    maps = spherical_maps(golden["points"], golden["colour"], side, RELEASED)
    np.testing.assert_array_equal(maps.distances, golden["dis"])
    np.testing.assert_array_equal(maps.colours, golden["rgb"])


def test_mended_maps_differ_at_the_poles_alone():
    golden = below("random/", arrays("input"))
    maps = spherical_maps(golden["points"], golden["colour"], 64, MENDED)
    changed = (maps.distances != golden["dis"]).any(axis=(0, 2)).nonzero()[0]
    assert set(changed) <= {0, 63}


def test_mended_maps_tell_the_directions_apart():
    points = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    distances = spherical_maps(points, np.zeros((2, 3)), 8, MENDED).distances[..., 0]
    assert np.argwhere(distances).tolist() == [[0, 7], [4, 4]]


# The sphere


@pytest.fixture(params=[8, 16, 32, 64])
def sphere(request) -> tuple[SphericalTransform, dict[str, np.ndarray]]:
    """The transform of one size, and its golden values."""
    return SphericalTransform(request.param), below(f"n{request.param}/", arrays("sht"))


def memory_order(maps: np.ndarray) -> Tensor:
    """Maps (n, n, B, C) of the original's (B, n, n, C)."""
    return torch.from_numpy(maps).permute(1, 2, 0, 3).contiguous()


def test_quadrature_weights_sum_to_the_sphere(sphere):
    transform, golden = sphere
    weights = quadrature_weights(transform.side)
    assert relative(weights, golden["quadrature"]) < COEFFICIENTS
    assert 2 * np.sqrt(2) * np.pi * weights.sum() == pytest.approx(4 * np.pi)


def test_transform(sphere):
    transform, golden = sphere
    spectrum = transform(memory_order(golden["x"]))
    real, imaginary = spectrum[:, :, 0].chunk(2)  # by order and degree
    assert relative(real.transpose(0, 1), golden["coeff_re"]) < COEFFICIENTS
    assert relative(imaginary.transpose(0, 1), golden["coeff_im"]) < COEFFICIENTS
    assert relative(transform.inverse(spectrum), memory_order(golden["inverse"]).numpy()) < COEFFICIENTS


def test_transform_of_a_band_limited_map(sphere):
    transform, golden = sphere
    spectrum = np.concatenate([golden["band_coeff_re"].T, golden["band_coeff_im"].T])
    spectrum = torch.from_numpy(spectrum)[:, :, None, None]
    maps = transform.inverse(spectrum)
    assert relative(maps, memory_order(golden["band_map"]).numpy()) < COEFFICIENTS
    assert relative(transform(maps), spectrum.numpy()) < COEFFICIENTS


@torch.no_grad()
def test_convolution(sphere):
    transform, golden = sphere
    convolution = SphericalConvolution(transform, 2, 3)
    convolution.weight.copy_(torch.from_numpy(golden["W"]).transpose(0, 1))
    convolution.bias.copy_(torch.from_numpy(golden["b"]).flatten())
    convolution.slope.copy_(torch.from_numpy(golden["prelu"]))
    maps = memory_order(golden["x"])
    assert relative(convolution.convolve(maps), memory_order(golden["conv"]).numpy()) < CONVOLUTION
    assert relative(convolution(maps), memory_order(golden["act"]).numpy()) < CONVOLUTION


def test_pooling(sphere):
    transform, golden = sphere
    pooled = SphericalPooling(transform.side)(memory_order(golden["x"]))
    assert relative(pooled, memory_order(golden["pool"]).numpy()) < POOLING
