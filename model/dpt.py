"""The dense head: four feature maps of the backbone fused into maps at 1, 2 and 4 times its resolution.

A dense prediction transformer head (Ranftl et al., "Vision Transformers for Dense Prediction", 2021), shaped
as in Depth Anything; the finest fusion and the output convolutions of that head are not needed here.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class DPT(nn.Module):
    """Four maps (B, C_i, n, n), shallow to deep -> fused maps (B, features, s, s) for s = n, 2n, 4n."""

    def __init__(self, in_channels: Sequence[int], *, channels: Sequence[int], features: int):
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(i, c, 1) for i, c in zip(in_channels, channels, strict=True))
        self.resize = nn.ModuleList(
            [
                nn.ConvTranspose2d(channels[0], channels[0], 4, stride=4),
                nn.ConvTranspose2d(channels[1], channels[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(channels[3], channels[3], 3, stride=2, padding=1),
            ]
        )
        self.reduce = nn.ModuleList(nn.Conv2d(c, features, 3, padding=1, bias=False) for c in channels)
        self.fuse = nn.ModuleList([Fusion(features, skip=False), Fusion(features), Fusion(features)])

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        pyramid = [
            reduce(resize(project(m)))
            for m, project, resize, reduce in zip(maps, self.project, self.resize, self.reduce, strict=True)
        ]  # sides 4n, 2n, n, n/2
        fused, path = [], pyramid[3]
        for fuse, skip, size in zip(
            self.fuse, (None, pyramid[2], pyramid[1]), (m.shape[-2:] for m in pyramid[2::-1]), strict=True
        ):
            path = fuse(path, skip, size)
            fused.append(path)
        return fused


class Fusion(nn.Module):
    """Adds a skip map to the path from below, refines the sum and brings it to the next size."""

    def __init__(self, features: int, *, skip: bool = True):
        super().__init__()
        self.skip = ResidualUnit(features) if skip else None
        self.refine = ResidualUnit(features)
        self.out = nn.Conv2d(features, features, 1)

    def forward(self, path: Tensor, skip: Tensor | None, size: Sequence[int]) -> Tensor:
        if self.skip is not None:
            path = path + self.skip(skip)
        path = F.interpolate(self.refine(path), size=tuple(size), mode="bilinear", align_corners=True)
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
