"""DualPoseNet: an encoder of spherical maps, and two decoders that say the pose in two ways.

The explicit decoder says it in numbers, the implicit one by the canonical coordinates of the observed points.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picopose.model.dualposenet.sphere import SphericalConvolution, SphericalPooling, SphericalTransform

SLOPE = 0.2  # of LeakyReLU
COARSEST, WIDEST = 16, 4096  # limits of the sizes: three halvings leave maps with a spectrum
_TINY = 1e-10  # added to lengths before division


@dataclass(frozen=True)
class Sizes:
    """Sizes of the network.

    Attributes:
        side: number of cells of the input maps by azimuth, and by polar angle; a multiple of 16.
        channels: of the streams' maps at the four sizes, each half the one before.
        feature: length of the feature.
        explicit: widths of the hidden layers of each head of the explicit decoder.
        implicit: widths of the hidden layers of the implicit decoder.
        unit: metres that the layers count as 1. Objects are some 0.1 m large, so with a unit of 0.1 all
            numbers are about 1, which a small network learns from sooner.
    """

    side: int = 64
    channels: tuple[int, ...] = (16, 32, 64, 128)
    feature: int = 1024
    explicit: tuple[int, ...] = (1024, 512)
    implicit: tuple[int, ...] = (1024, 512, 256)
    unit: float = 1.0

    def __post_init__(self):
        if self.side % COARSEST or not COARSEST <= self.side <= WIDEST:
            raise ValueError(f"side is {self.side}; it must be a multiple of {COARSEST}, {WIDEST} at most")
        if len(self.channels) != 4:
            raise ValueError(f"channels has {len(self.channels)} entries; give four")
        for width in (*self.channels, self.feature, *self.explicit, *self.implicit):
            if not 1 <= width <= WIDEST:
                raise ValueError(f"a width is {width}; it must lie in 1 to {WIDEST}")
        if not 1e-6 <= self.unit <= 1e6:
            raise ValueError(f"unit is {self.unit}; it must lie in 1e-6 to 1e6")


class Estimate(NamedTuple):
    """Pose and size of objects in the camera frame of the network, see `canonical`.

    Attributes:
        rotation: (B, 4) unit quaternions (w, x, y, z) of the rotations from the camera to the objects.
        translation: (B, 3) centres in metres, relative to the centroids of the observed points.
        size: (B, 3) extents of the objects' boxes in metres; as estimated they may be negative.
    """

    rotation: Tensor
    translation: Tensor
    size: Tensor

    def canonical(self, points: Tensor) -> Tensor:
        """Coordinates (B, N, 3) of points (B, N, 3) in boxes with diagonal 1 around the origin."""
        diagonal = self.size.norm(dim=1)[:, None, None] + _TINY
        return (points - self.translation[:, None]) / diagonal @ matrices(self.rotation).transpose(1, 2)


def matrices(quaternions: Tensor) -> Tensor:
    """Rotation matrices (B, 3, 3) of unit quaternions (B, 4) in the order (w, x, y, z)."""
    w, x, y, z = quaternions.unbind(1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


class DualPoseNet(nn.Module):
    """Pose and size from spherical maps of distances and colours."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.side = sizes.side
        self.encoder = Encoder(sizes)
        self.explicit = ExplicitDecoder(sizes)
        self.implicit = ImplicitDecoder(sizes)

    def forward(self, distances: Tensor, colours: Tensor, points: Tensor) -> tuple[Estimate, Tensor]:
        """The pose in both ways.

        Args:
            distances: (B, n, n, 1) and colours: (B, n, n, 3), see `maps.SphericalMaps`.
            points: (B, N, 3) observed points in metres, centred.

        Returns:
            the estimate, and canonical coordinates (B, N, 3) of the points.
        """
        feature = self.encoder(distances, colours)
        return self.explicit(feature), self.implicit(feature, points)


class Encoder(nn.Module):
    """A stream of convolutions over distances, one over colours, and one that sees both at three sizes."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.unit = sizes.unit
        sides = [sizes.side >> level for level in range(4)]
        transforms = [SphericalTransform(side) for side in sides]
        channels = sizes.channels[1:]
        self.distance_stream = _stream(1, sizes.channels, transforms)
        self.colour_stream = _stream(3, sizes.channels, transforms)
        self.pools = nn.ModuleList(SphericalPooling(side) for side in sides[:3])
        self.fusions = nn.ModuleList(
            SphericalConvolution(transform, 2 * width, width)
            for transform, width in zip(transforms[1:], channels, strict=True)
        )
        self.flatten = nn.ModuleList(
            nn.Linear(side * side * width, sizes.feature)
            for side, width in zip(sides[1:], channels, strict=True)
        )
        self.head = _perceptron([sizes.feature] * 3)
        self.apply(_initialise)

    def forward(self, distances: Tensor, colours: Tensor) -> Tensor:
        """Features (B, F) of maps (B, n, n, 1) and (B, n, n, 3)."""
        distances, colours = (maps.permute(1, 2, 0, 3) for maps in (distances / self.unit, colours))
        fused, features = None, []
        stages = zip(
            self.distance_stream, self.colour_stream, self.pools, self.fusions, self.flatten, strict=True
        )
        for distance_layers, colour_layers, pool, fusion, flatten in stages:
            distances = pool(distance_layers(_joined(distances, fused)))
            colours = pool(colour_layers(_joined(colours, fused)))
            fused = fusion(torch.cat([distances, colours], dim=-1))
            flat = fused.permute(2, 0, 1, 3).flatten(1)
            features.append(F.leaky_relu(flatten(flat), SLOPE))
        return F.leaky_relu(self.head(torch.stack(features).amax(0)), SLOPE)


def _stream(inputs: int, channels: tuple[int, ...], transforms: list[SphericalTransform]) -> nn.ModuleList:
    """The convolutions before each pooling; from the second on they see the fused maps as well."""
    first, second, third, fourth = channels
    widths = [[inputs, first, first, second], [2 * second, third], [2 * third, fourth]]
    return nn.ModuleList(
        nn.Sequential(*(SphericalConvolution(transform, *pair) for pair in pairwise(some)))
        for transform, some in zip(transforms[:3], widths, strict=True)
    )


def _joined(maps: Tensor, fused: Tensor | None) -> Tensor:
    return maps if fused is None else torch.cat([maps, fused], dim=-1)


class ExplicitDecoder(nn.Module):
    """Pose and size in numbers, from a feature."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.unit = sizes.unit
        self.rotation = _perceptron([sizes.feature, *sizes.explicit, 4])
        self.translation = _perceptron([sizes.feature, *sizes.explicit, 3])
        self.size = _perceptron([sizes.feature, *sizes.explicit, 3])
        self.apply(_initialise)

    def forward(self, feature: Tensor) -> Estimate:
        quaternion = self.rotation(feature)
        rotation = quaternion / (quaternion.norm(dim=1, keepdim=True) + _TINY)
        return Estimate(rotation, self.unit * self.translation(feature), self.unit * self.size(feature))


class ImplicitDecoder(nn.Module):
    """Canonical coordinates of observed points, each from the point and the feature."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.unit = sizes.unit
        self.layers = _perceptron([3 + sizes.feature, *sizes.implicit, 3])
        self.apply(_initialise)

    def forward(self, feature: Tensor, points: Tensor) -> Tensor:
        """(B, N, 3) of features (B, F) and points (B, N, 3)."""
        first, *others = self.layers
        # The same for all points but for three columns, so the feature's part is computed once.
        shared = F.linear(feature, first.weight[:, 3:], first.bias)
        hidden = F.linear(points / self.unit, first.weight[:, :3]) + shared[:, None]
        for layer in others:
            hidden = layer(hidden)
        return hidden


def _perceptron(widths: list[int]) -> nn.Sequential:
    """Linear layers with LeakyReLU between them."""
    layers: list[nn.Module] = []
    for pair in pairwise(widths):
        layers += [nn.Linear(*pair), nn.LeakyReLU(SLOPE, inplace=True)]
    return nn.Sequential(*layers[:-1])


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
