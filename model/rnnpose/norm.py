"""Instance norm that leaves the order of memory as it is."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InstanceNorm(nn.Module):
    """Instance norm without learned scales, computed as the batch norm of every image alone.

    PyTorch's own copies maps whose channels are last to the other order, after which every convolution
    copies them back.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), every channel with mean 0 and variance 1."""
        normed = [F.batch_norm(image, None, None, training=True, eps=1e-5) for image in maps.split(1)]
        return normed[0] if len(normed) == 1 else torch.cat(normed)
