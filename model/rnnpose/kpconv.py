"""Kernel point convolutions (KPConv; Thomas et al., ICCV 2019): features of every vertex of a mesh."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picopose.model.rnnpose.point_pyramid import PointPyramid

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
JITTER = 0.01  # standard deviation of each coordinate, relative to the radius
EXTENT = 0.8  # distance at which a kernel point's influence ends, relative to the radius
SLOPE = 0.1  # of the leaky ReLUs
LEVELS = 4
FAR = 1e6  # where a point lies that does not exist
EXACT = "donot_use_mm_for_euclid_dist"  # not by |a|^2 + |b|^2 - 2 ab, which loses digits


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
        widths = [2 * width * 2**level for level in range(LEVELS)]
        reach = [radius * 2**level for level in range(LEVELS)]
        self.blocks = nn.ModuleList([nn.ModuleList([PointLayer(1, width, radius)])])
        self.blocks.extend(
            nn.ModuleList([PointBlock(narrow, wide, r)])
            for narrow, wide, r in zip(widths, widths[1:], reach[1:], strict=False)
        )
        for blocks, inputs, outputs, r in zip(self.blocks, [width, *widths[1:]], widths, reach, strict=True):
            blocks.append(PointBlock(inputs, outputs, r))
        self.pooling = nn.ModuleList(PointBlock(w, w, r) for w, r in zip(widths[:-1], reach, strict=False))
        self.bottleneck = nn.Linear(widths[-1], 2 * width)
        self.project = nn.Linear(2 * width, 2 * width)
        outputs = [width, width // 2, channels]
        inputs = [2 * width + widths[2], width + widths[1], width // 2 + widths[0]]
        self.decoder = nn.ModuleList(
            nn.Linear(*sizes, bias=False) for sizes in zip(inputs, outputs, strict=True)
        )

    def forward(self, pyramid: PointPyramid) -> Tensor:
        """(V, channels), of every vertex."""
        points = pyramid.points
        x = torch.ones_like(points[0][:, :1])
        finer = []
        for level, blocks in enumerate(self.blocks):
            for block in blocks:
                x = block(x, points[level], points[level], pyramid.neighbors[level])
            if level < LEVELS - 1:
                finer.append(x)
                x = self.pooling[level](x, points[level], points[level + 1], pyramid.pools[level])
        x = self.project(self.bottleneck(x))
        for level in reversed(range(LEVELS - 1)):
            joined = torch.cat([x[pyramid.upsamples[level]], finer[level]], dim=1)
            x = self.decoder[LEVELS - 2 - level](joined)
            x = _activated(_norm(x)) if level else x
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

    def forward(self, features: Tensor, points: Tensor, queries: Tensor, neighbors: Tensor) -> Tensor:
        """Features (N, inputs) of points (N, 3) -> (M, outputs) of the queries (M, 3).

        neighbors: (M, n) the points about each query; N for none.
        """
        # Of the neighbours those alone count whose features have a positive sum: a habit of the original's
        # that released weights rely on.
        present = F.pad(features.sum(dim=1) > 0, (0, 1))[neighbors].sum(dim=1)
        towards = F.pad(points, (0, 0, 0, 1), value=FAR)[neighbors] - queries[:, None]  # (M, n, 3)
        distance = torch.cdist(towards, self.kernel_points.expand(len(queries), -1, -1), compute_mode=EXACT)
        influence = (1 - distance / self.extent).clamp(min=0)  # (M, n, kernel points)
        gathered = F.pad(features, (0, 0, 0, 1))[neighbors]
        summed = (influence.mT @ gathered).flatten(1) @ self.weight.flatten(0, 1)
        return summed / present.clamp(min=1)[:, None]


class PointLayer(nn.Module):
    """A kernel point convolution with norm and activation."""

    def __init__(self, inputs: int, outputs: int, radius: float):
        super().__init__()
        self.conv = KernelPointConv(inputs, outputs, radius)

    def forward(self, features: Tensor, points: Tensor, queries: Tensor, neighbors: Tensor) -> Tensor:
        """See `KernelPointConv`."""
        return _activated(_norm(self.conv(features, points, queries, neighbors)))


class PointBlock(nn.Module):
    """A bottleneck about a kernel point convolution, beside a shortcut.

    Between levels the shortcut is the largest value of each channel in a neighbourhood.
    """

    def __init__(self, inputs: int, outputs: int, radius: float):
        super().__init__()
        inner = outputs // 4
        self.reduce = nn.Linear(inputs, inner, bias=False)
        self.layer = PointLayer(inner, inner, radius)
        self.expand = nn.Linear(inner, outputs, bias=False)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Linear(inputs, outputs, bias=False)

    def forward(self, features: Tensor, points: Tensor, queries: Tensor, neighbors: Tensor) -> Tensor:
        """See `KernelPointConv`; queries that are the points themselves are told by being the same tensor."""
        x = _activated(_norm(self.reduce(features)))
        x = _norm(self.expand(self.layer(x, points, queries, neighbors)))
        if queries is not points:
            features = F.pad(features, (0, 0, 0, 1))[neighbors].amax(dim=1)
        elif not isinstance(self.shortcut, nn.Identity):
            features = _norm(self.shortcut(features))
        return _activated(x + features)


def _kernel_points(radius: float) -> Tensor:
    """(points, 3): the disposition, turned about z by a random angle and moved a little."""
    angle = 2 * math.pi * torch.rand(())
    sin, cos, zero, one = angle.sin(), angle.cos(), torch.zeros(()), torch.ones(())
    turn = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one]).view(3, 3)
    points = torch.tensor(DISPOSITION) @ turn.mT
    return radius * (points + JITTER * torch.randn(points.shape))


def _norm(features: Tensor) -> Tensor:
    """Instance norm over the points (N, C) of the cloud."""
    variance, mean = torch.var_mean(features, dim=0, correction=0)
    return (features - mean) * (variance + 1e-5).rsqrt()


def _activated(features: Tensor) -> Tensor:
    return F.leaky_relu(features, SLOPE)
