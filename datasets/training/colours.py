"""Colours as networks take them, and as OpenCV does."""

import numpy as np
import torch
from torch import Tensor


def colours_of(image: np.ndarray) -> Tensor:
    """An image (H, W, 3) uint8 as colours (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))) / 255


def image_of(colours: Tensor) -> np.ndarray:
    """Colours (3, H, W) in [0, 1] as an image (H, W, 3) uint8."""
    return (colours * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
