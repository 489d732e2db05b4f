"""XFeat: a small convolutional network for local features that match across light and view.

Potje et al., "XFeat: Accelerated Features for Lightweight Image Matching", CVPR 2024. Only what makes the
dense descriptors is here; the batch norms of the published weights are folded into the convolutions, see
`tools/convert_weights.py`.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from picopose.model.pretrained import XFEAT, pretrained

STRIDE = 8  # px of the image for each descriptor


class XFeat(nn.Module):
    """Grey images (B, 1, H, W), sides divisible by 32 -> unit descriptors (B, 64, H/8, W/8)."""

    def __init__(self):
        super().__init__()
        self.skip = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(1, 24, 1))
        self.block1 = nn.Sequential(_layer(1, 4), _layer(4, 8, 2), _layer(8, 8), _layer(8, 24, 2))
        self.block2 = nn.Sequential(_layer(24, 24), _layer(24, 24))
        self.block3 = nn.Sequential(_layer(24, 64, 2), _layer(64, 64), _layer(64, 64, kernel=1))
        self.block4 = nn.Sequential(_layer(64, 64, 2), _layer(64, 64), _layer(64, 64))
        self.block5 = nn.Sequential(
            _layer(64, 128, 2), _layer(128, 128), _layer(128, 128), _layer(128, 64, kernel=1)
        )
        self.fusion = nn.Sequential(_layer(64, 64), _layer(64, 64), nn.Conv2d(64, 64, 1))

    def forward(self, grey: Tensor) -> Tensor:
        grey = F.instance_norm(grey)
        fine = self.block3(self.block2(self.block1(grey) + self.skip(grey)))
        middle = self.block4(fine)
        coarse = self.block5(middle)
        size = fine.shape[-2:]
        middle, coarse = (F.interpolate(m, size=size, mode="bilinear") for m in (middle, coarse))
        return F.normalize(self.fusion(fine + middle + coarse), dim=1)


def _layer(channels: int, width: int, stride: int = 1, *, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, kernel, stride, kernel // 2), nn.ReLU(inplace=True))


def load_xfeat() -> XFeat:
    return pretrained(XFeat(), XFEAT)
