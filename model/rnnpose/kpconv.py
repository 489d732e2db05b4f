"""Kernel point convolutions (KPConv; Thomas et al., ICCV 2019): features of every vertex of a mesh."""

import math
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picopose.model.rnnpose.point_pyramid import LEVELS, PointPyramid
from picopose.utils.records import Record

# Where the kernel points lie in the unit ball before they are turned: one in the middle, the others pushing
# each other apart. Solved for once by the authors of KPConv.
DISPOSITION = (
    (0.0, 0.0, 0.0),
    (-0.49820612, 0.41826797, 0.11736718),
    (-0.24123565, -0.34214048, -0.51154810),
    (-0.28288080, -0.58614266, 0.11553228),
    (0.29054036, -0.10093209, -0.58509100),
    (0.42820039, 0.39929883, -0.30681813),
    (-0.63586493, -0.08196441, -0.16090403),
    (-0.43181082, -0.14729417, 0.47830957),
    (-0.04466600, 0.27973214, 0.59723308),
    (0.22552417, -0.34462544, 0.50794659),
    (0.63889212, -0.16914906, -0.01190108),
    (-0.22552415, 0.34462545, -0.50794659),
    (0.49054666, 0.26880703, 0.35219206),
    (0.25233084, -0.59706653, -0.12951142),
    (0.03415394, 0.65858341, 0.04513958),
)
JITTER = 0.01  # standard deviation of each coordinate of the kernel points, relative to the radius
EXTENT = 0.8  # distance at which a kernel point's influence ends, relative to the radius
SLOPE = 0.1  # of the leaky ReLUs
FAR = 1e6  # where a neighbour lies that does not exist
EXACT = "donot_use_mm_for_euclid_dist"  # by differences, which keep more digits than matrix products


@dataclass(frozen=True)
class Neighborhoods(Record):
    """The points that lie about each of M queries."""

    index: Tensor  # (M, n) long, of the points; their number N for none
    offset: Tensor  # (M, n, 3) from the query to the point

    @classmethod
    def of(cls, points: Tensor, queries: Tensor, index: Tensor) -> Self:
        """Those of points (N, 3) about queries (M, 3), as a `PointPyramid` lists them."""
        return cls(index, F.pad(points, (0, 0, 0, 1), value=FAR)[index] - queries[:, None])

    def gather(self, features: Tensor) -> Tensor:
        """Features (N, C) of the points -> (M, n, C), 0 for none."""
        # Not by an index in brackets, whose gradient adds up in the order in which threads come.
        return F.embedding(self.index, F.pad(features, (0, 0, 0, 1)))


class PointNetwork(nn.Module):
    """A U-Net over the levels of a pyramid; all that it is told is where the points lie.

    What it finds for a mesh depends on no image, so it can be kept for as long as the weights stay the same.

    Args:
        channels: of the result.
        width: channels of the first convolution, relative to which all are sized; even.
        normalised: whether the results are scaled to unit length.
        radius: of the pyramid's neighbourhoods at level 0, see `build_pyramid`.
    """

    def __init__(self, channels: int, *, width: int = 64, normalised: bool, radius: float = 0.0625):
        super().__init__()
        self.normalised = normalised
        self.blocks, self.pooling = nn.ModuleList(), nn.ModuleList()
        for level in range(LEVELS):
            reach, inputs, outputs = radius * 2**level, width * 2**level, 2 * width * 2**level
            if level:
                blocks = PointBlock(inputs, outputs, reach), PointBlock(outputs, outputs, reach)
            else:
                blocks = PointLayer(1, inputs, reach), PointBlock(inputs, outputs, reach)
            self.blocks.append(nn.ModuleList(blocks))
            if level < LEVELS - 1:
                self.pooling.append(PointBlock(outputs, outputs, reach, pooled=True))
        self.bottleneck = nn.Linear(outputs, 2 * width)
        self.project = nn.Linear(2 * width, 2 * width)
        # From level 3 to 2, to 1 and to 0, each beside that level's own features.
        sizes = [
            (2 * width + 8 * width, width),
            (width + 4 * width, width // 2),
            (width // 2 + 2 * width, channels),
        ]
        self.decoder = nn.ModuleList(nn.Linear(*size, bias=False) for size in sizes)

    def forward(self, pyramid: PointPyramid) -> Tensor:
        """(V, channels), of every vertex."""
        points = pyramid.points
        x = torch.ones_like(points[0][:, :1])
        finer = []
        for level, blocks in enumerate(self.blocks):
            if level:
                around = Neighborhoods.of(points[level - 1], points[level], pyramid.pools[level - 1])
                x = self.pooling[level - 1](x, around)
            around = Neighborhoods.of(points[level], points[level], pyramid.neighbors[level])
            for block in blocks:
                x = block(x, around)
            finer.append(x)
        x = self.project(self.bottleneck(finer.pop()))
        for layer, nearest in zip(self.decoder, reversed(pyramid.upsamples), strict=True):
            x = layer(torch.cat([F.embedding(nearest, x), finer.pop()], dim=1))
            x = _activated(_norm(x)) if finer else x
        return F.normalize(x, dim=1) if self.normalised else x


class KernelPointConv(nn.Module):
    """Sums features over a neighbourhood, each weighed by where it lies relative to the kernel's points."""

    kernel_points: Tensor

    def __init__(self, inputs: int, outputs: int, radius: float):
        super().__init__()
        self.extent = EXTENT * radius
        self.weight = nn.Parameter(torch.empty(len(DISPOSITION), inputs, outputs))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.register_buffer("kernel_points", _kernel_points(radius))

    def forward(self, features: Tensor, around: Neighborhoods) -> Tensor:
        """Features (N, inputs) of the points -> (M, outputs) of the queries."""
        kernel = self.kernel_points.expand(len(around.index), -1, -1)
        distance = torch.cdist(around.offset, kernel, compute_mode=EXACT)  # (M, n, kernel points)
        influence = (1 - distance / self.extent).clamp(min=0)
        # Over the neighbourhood first: a kernel point's matrix is then applied once, not to every neighbour.
        gathered = influence.mT @ around.gather(features)
        summed = gathered.flatten(1) @ self.weight.flatten(0, 1)
        # Neighbours count whose features have a positive sum; released weights rely on that.
        count = around.gather((features.sum(dim=1, keepdim=True) > 0).to(features)).sum(dim=1)
        return summed / count.clamp(min=1)


class PointLayer(nn.Module):
    """A kernel point convolution with norm and activation."""

    def __init__(self, inputs: int, outputs: int, radius: float):
        super().__init__()
        self.conv = KernelPointConv(inputs, outputs, radius)

    def forward(self, features: Tensor, around: Neighborhoods) -> Tensor:
        """(N, inputs) -> (M, outputs)."""
        return _activated(_norm(self.conv(features, around)))


class PointBlock(nn.Module):
    """A kernel point convolution of a quarter of the channels, beside a shortcut.

    pooled: whether it leads to the queries of another level; the shortcut is then the largest value of each
    channel in a neighbourhood.
    """

    def __init__(self, inputs: int, outputs: int, radius: float, *, pooled: bool = False):
        super().__init__()
        self.pooled = pooled
        self.reduce = nn.Linear(inputs, outputs // 4, bias=False)
        self.layer = PointLayer(outputs // 4, outputs // 4, radius)
        self.expand = nn.Linear(outputs // 4, outputs, bias=False)
        self.shortcut = None if inputs == outputs else nn.Linear(inputs, outputs, bias=False)

    def forward(self, features: Tensor, around: Neighborhoods) -> Tensor:
        """(N, inputs) -> (M, outputs)."""
        x = _norm(self.expand(self.layer(_activated(_norm(self.reduce(features))), around)))
        passed = around.gather(features).amax(dim=1) if self.pooled else features
        return _activated(x + (passed if self.shortcut is None else _norm(self.shortcut(passed))))


def _kernel_points(radius: float) -> Tensor:
    """(points, 3): the disposition, turned about z by a random angle and moved a little."""
    angle = 2 * math.pi * torch.rand(())
    x, y, z = torch.tensor(DISPOSITION).unbind(dim=1)
    turned = [angle.cos() * x - angle.sin() * y, angle.sin() * x + angle.cos() * y, z]
    return radius * (torch.stack(turned, dim=1) + JITTER * torch.randn(len(z), 3))


def _norm(features: Tensor) -> Tensor:
    """Instance norm of the points' features (N, C), N > 1."""
    return F.batch_norm(features, None, None, training=True, eps=1e-5)


def _activated(features: Tensor) -> Tensor:
    return F.leaky_relu_(features, SLOPE)
