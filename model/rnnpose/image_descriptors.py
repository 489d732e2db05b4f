"""Descriptors of an image's pixels, to be compared with those of the object's vertices: a small U-Net."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picopose.model.rnnpose.norm import InstanceNorm


class ImageDescriptors(nn.Module):
    """Image -> a descriptor of unit length for every pixel.

    The encoder has SuperPoint's layout (DeTone et al., 2018), without its head of saliency, which nothing
    in RNNPose reads.

    Args:
        descriptor: channels of the result.
        width: channels of the first layers; the deeper ones have two and four times as many.
    """

    def __init__(self, descriptor: int = 32, width: int = 64):
        super().__init__()
        wide = 2 * width
        self.encoder = nn.ModuleList(
            [_encode(3, width), _encode(width, width), _encode(width, wide), _encode(wide, wide)]
        )
        self.decoder = nn.ModuleList(
            [_decode(wide, wide), _decode(wide + wide, wide), _decode(wide + width, wide)]
        )
        self.head = nn.Sequential(
            nn.Conv2d(wide, 2 * wide, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * wide, descriptor, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1], H and W multiples of 8 -> (B, descriptor, H, W)."""
        half, quarter, x = self._encoded(images)
        x = self.decoder[0](_doubled(x))
        x = self.decoder[1](_doubled(torch.cat([x, quarter], dim=1)))
        x = self.decoder[2](_doubled(torch.cat([x, half], dim=1)))
        return F.normalize(self.head(x), dim=1)

    def _encoded(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features at a half, a quarter and an eighth of the images' size."""
        x = self.encoder[0](images)
        maps = []
        for layers in self.encoder[1:]:
            x = layers(F.max_pool2d(x, 2))
            maps.append(x)
        return tuple(maps)


def _encode(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def _decode(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), InstanceNorm(), nn.ReLU(inplace=True))


def _doubled(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
