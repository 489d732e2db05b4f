"""The dense head: three feature maps of the backbone fused into maps at 1, 2 and 4 times its resolution.

A dense prediction transformer head (Ranftl et al., "Vision Transformers for Dense Prediction", 2021), shaped
as in Depth Anything; that head's finest fusion, with the shallowest map, and its output are not needed here.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class DPT(nn.Module):
    """Three maps, shallow to deep -> fused maps (B, features, s, s) for s = n, 2n, 4n.

    Args:
        in_channels, sides: of the maps (B, C_i, s_i, s_i); the last one's side is n.
        channels: that the maps are projected to; features: of the fused maps.
    """

    def __init__(
        self, in_channels: Sequence[int], sides: Sequence[int], *, channels: Sequence[int], features: int
    ):
        super().__init__()
        targets = 2 * sides[-1], sides[-1], (sides[-1] + 1) // 2
        self.project = nn.ModuleList(nn.Conv2d(i, c, 1) for i, c in zip(in_channels, channels, strict=True))
        self.resize = nn.ModuleList(_resize(*args) for args in zip(channels, sides, targets, strict=True))
        self.reduce = nn.ModuleList(nn.Conv2d(c, features, 3, padding=1, bias=False) for c in channels)
        self.fuse = nn.ModuleList([Fusion(features, skip=False), Fusion(features), Fusion(features)])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        pyramid = [
            reduce(resize(project(m)))
            for m, project, resize, reduce in zip(maps, self.project, self.resize, self.reduce, strict=True)
        ]  # sides 2n, n, n/2
        side = pyramid[1].shape[-1]
        fused, path = [], pyramid[2]
        for level, (fuse, skip) in enumerate(zip(self.fuse, (None, pyramid[1], pyramid[0]), strict=True)):
            path = fuse(path, skip, side * 2**level)
            fused.append(path)
        return fused


def _resize(channels: int, side: int, target: int) -> nn.Module:
    """Brings maps of one side to that of another: by learnt upsampling, or halving, or not at all."""
    if target > side:
        return nn.ConvTranspose2d(channels, channels, target // side, stride=target // side)
    return nn.Identity() if target == side else nn.Conv2d(channels, channels, 3, stride=2, padding=1)


class Fusion(nn.Module):
    """Adds a skip map to the path from below, refines the sum and brings it to the next size."""

    def __init__(self, features: int, *, skip: bool = True):
        super().__init__()
        self.skip = ResidualUnit(features) if skip else None
        self.refine = ResidualUnit(features)
        self.out = nn.Conv2d(features, features, 1)

    def forward(self, path: Tensor, skip: Tensor | None, side: int) -> Tensor:
        if self.skip is not None:
            path = path + self.skip(skip)
        path = F.interpolate(self.refine(path), size=(side, side), mode="bilinear", align_corners=True)
        return self.out(path)


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions with batch norm, each after a ReLU, added to the input."""

    def __init__(self, features: int):
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(features)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.norm1(self.conv1(x.relu()))
        return x + self.norm2(self.conv2(residual.relu()))
