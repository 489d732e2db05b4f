"""The first stages of EfficientNet-lite0, trained on ImageNet: descriptors that hardly depend on the light.

Tan and Le, "EfficientNet", ICML 2019, in its variant "lite" without squeeze-and-excitation.
"""

import timm
import torch.nn.functional as F
from torch import Tensor, nn

from picopose.model.pretrained import IMAGENET, pretrained

NAME = "tf_efficientnet_lite0"
STAGES = 5  # of seven: down to a sixteenth of the image's size


class ImageNetFeatures(nn.Module):
    """RGB images (B, 3, H, W) in [0, 1] -> unit descriptors at an eighth and a sixteenth of their size.

    They are (B, 40, H/8, W/8) and (B, 112, H/16, W/16).
    """

    def __init__(self):
        super().__init__()
        whole = timm.create_model(NAME)
        self.stem = nn.Sequential(whole.conv_stem, whole.bn1)
        self.stages = whole.blocks[:STAGES]

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(rgb)
        return F.normalize(fine, dim=1), F.normalize(self.stages[3:](fine), dim=1)

    def fine(self, rgb: Tensor) -> Tensor:
        """Only the map at an eighth of the size, (B, 40, H/8, W/8), not normalised."""
        return self.stages[:3](self.stem(2 * rgb - 1))


def load_imagenet() -> ImageNetFeatures:
    return pretrained(ImageNetFeatures(), IMAGENET)
