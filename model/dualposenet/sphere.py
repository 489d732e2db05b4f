"""Maps on the sphere: harmonic transform, convolution and pooling (Esteves et al., ECCV 2018).

A map has n azimuths 2 pi i / n and n polar angles pi j / n (the north pole in, the south pole out) and is
band-limited to L = n / 2 degrees. Maps lie in memory as (azimuth, polar angle, batch, channel), so that every
step is a product of matrices as the data lie; their spectra as (2 L, L, batch, channel): the real parts of
orders 0 to L - 1, then the imaginary parts, by degree.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import sph_harm_y
from torch import Tensor, nn

ANCHORS = 8  # degrees at which a filter is given, at most


def quadrature_weights(side: int) -> np.ndarray:
    """Weights (n,) of the rows of polar angles; their sum over the grid is 4 pi after a factor
    2 sqrt(2) pi / n (Driscoll and Healy, 1994)."""
    polar = np.pi * np.arange(side) / side
    odd = 2 * np.arange(side // 2) + 1
    return 2 * math.sqrt(2) / side * np.sin(polar) * (np.sin(np.outer(polar, odd)) / odd).sum(1)


class SphericalTransform(nn.Module):
    """Harmonic transform of maps of one size: Fourier's over azimuths, then Legendre's over polar angles.

    Harmonics are orthonormal, with the phase of Condon and Shortley. Maps are real, so orders below 0 follow
    from those above. All constants are computed in float64.
    """

    def __init__(self, side: int):
        super().__init__()
        self.side, self.degrees = side, side // 2
        orders = np.arange(self.degrees)
        angles = 2 * np.pi / side * np.outer(orders, np.arange(side))
        fourier = np.concatenate([np.cos(angles), -np.sin(angles)])  # (2 L, n)
        twice = np.where(orders > 0, 2, 1)  # an order and its negative
        polar = np.pi * np.arange(side) / side
        legendre = sph_harm_y(orders[:, None], orders[:, None, None], polar, 0).real  # (order, degree, polar)
        legendre = np.concatenate([legendre, legendre])
        weights = 2 * math.sqrt(2) * np.pi / side * quadrature_weights(side)
        self._keep("fourier", fourier)
        self._keep("legendre", weights * legendre)
        self._keep("inverse_fourier", np.concatenate([twice, twice]) * fourier.T)
        self._keep("inverse_legendre", legendre.transpose(0, 2, 1))

    def _keep(self, name: str, values: np.ndarray) -> None:
        values = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
        self.register_buffer(name, values, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """The spectrum (2 L, L, B, C) of maps (n, n, B, C); zero where the order exceeds the degree."""
        rows = (self.fourier @ maps.flatten(1)).view(2 * self.degrees, self.side, -1)
        return (self.legendre @ rows).unflatten(2, maps.shape[2:])

    def inverse(self, spectrum: Tensor) -> Tensor:
        """The maps (n, n, B, C) of a spectrum (2 L, L, B, C)."""
        rows = self.inverse_legendre @ spectrum.flatten(2)
        return (self.inverse_fourier @ rows.flatten(1)).view(self.side, self.side, *spectrum.shape[2:])


class SphericalConvolution(nn.Module):
    """Convolution with filters that are symmetric about the pole, a bias, and PReLU.

    A filter is given at a few anchors, evenly spread over the degrees, and linear between them.

    Args:
        transform: of the maps' size; may be shared.
    """

    def __init__(self, transform: SphericalTransform, inputs: int, outputs: int):
        super().__init__()
        self.transform = transform
        degrees = transform.degrees
        anchors = min(ANCHORS, degrees)
        self.weight = nn.Parameter(torch.empty(anchors, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.slope = nn.Parameter(torch.full((outputs,), 0.1))
        deviation = 1 / (math.pi * math.sqrt(degrees * inputs))
        nn.init.trunc_normal_(self.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        spread = _interpolation(anchors, degrees) * _convolution_factors(degrees)[:, None]
        self.register_buffer("spread", torch.from_numpy(spread.astype(np.float32)), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (n, n, B, inputs) to maps (n, n, B, outputs)."""
        return self.activate(self.convolve(maps))

    def convolve(self, maps: Tensor) -> Tensor:
        """What PReLU is given."""
        return self.transform.inverse(self.filter(self.transform(maps))) + self.bias

    def filter(self, spectrum: Tensor) -> Tensor:
        """A spectrum (2 L, L, B, inputs) times the filters, degree by degree: (2 L, L, B, outputs)."""
        filters = (self.spread @ self.weight.flatten(1)).unflatten(1, self.weight.shape[1:])
        by_degree = spectrum.transpose(0, 1)  # (L, 2 L, B, inputs)
        filtered = (by_degree.flatten(1, 2) @ filters).unflatten(1, by_degree.shape[1:3])
        return filtered.transpose(0, 1)

    def activate(self, maps: Tensor) -> Tensor:
        return F.prelu(maps.flatten(0, 2), self.slope).view_as(maps)


def _interpolation(anchors: int, degrees: int) -> np.ndarray:
    """(degrees, anchors) shares of anchors in degrees, both spread evenly from end to end."""
    grid = np.linspace(0, 1, anchors)
    places = np.linspace(0, 1, degrees)
    return np.stack([np.interp(places, grid, one) for one in np.eye(anchors)], axis=1)


def _convolution_factors(degrees: int) -> np.ndarray:
    """The theorem of convolution on the sphere, by degree."""
    return 2 * np.pi * np.sqrt(4 * np.pi / (2 * np.arange(degrees) + 1))


class SphericalPooling(nn.Module):
    """Means of 2 x 2 cells by their areas, which shrink towards the poles.

    Rows count as half a cell below their polar angle, before as after.
    """

    def __init__(self, side: int):
        super().__init__()
        fine, coarse = _areas(side), _areas(side // 2)
        shares = (fine.reshape(-1, 2) / (4 * coarse[:, None])).astype(np.float32)
        self.register_buffer("shares", torch.from_numpy(shares)[..., None, None], persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (n, n, B, C) to maps (n / 2, n / 2, B, C)."""
        pairs = maps.unflatten(1, (-1, 2)).unflatten(0, (-1, 2)).sum(1)
        return (pairs * self.shares).sum(2)


def _areas(side: int) -> np.ndarray:
    return np.sin(np.pi / side * (np.arange(side) + 0.5))
