"""RAFT's basic encoder (Teed and Deng, 2020): features of an image at an eighth of its size."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from picopose.model.rnnpose.norm import InstanceNorm


class ImageEncoder(nn.Module):
    """Images -> features that are correlated to find the flow; instance norms throughout.

    Args:
        channels: of the result.
        widths: channels at a half, a quarter and an eighth of the image's size.
    """

    def __init__(self, channels: int = 256, widths: Sequence[int] = (64, 96, 128)):
        super().__init__()
        half, quarter, eighth = widths
        self.stem = nn.Conv2d(3, half, 7, stride=2, padding=3)
        self.norm = InstanceNorm()
        self.blocks = nn.Sequential(
            ResidualBlock(half, half),
            ResidualBlock(half, half),
            ResidualBlock(half, quarter, stride=2),
            ResidualBlock(quarter, quarter),
            ResidualBlock(quarter, eighth, stride=2),
            ResidualBlock(eighth, eighth),
        )
        self.project = nn.Conv2d(eighth, channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), normalised, H and W multiples of 8 -> (B, channels, H / 8, W / 8)."""
        return self.project(self.blocks(F.relu_(self.norm(self.stem(images)))))


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which is projected where the stride is 2."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm = InstanceNorm()
        self.shortcut = None if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu_(self.norm(self.conv1(x)))
        y = F.relu_(self.norm(self.conv2(y)))
        return F.relu_(y + (x if self.shortcut is None else self.norm(self.shortcut(x))))
