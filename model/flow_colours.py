"""Flow as a picture, for TensorBoard."""

import cv2
import numpy as np
import torch
from torch import Tensor


def flow_colours(flow: Tensor, longest: float) -> Tensor:
    """Flow (2, H, W) px as an image (3, H, W) in [0, 1]: hue is the direction, saturation the length.

    longest: px, shown in full colour.
    """
    x, y = flow.float().cpu().numpy()
    hue = (np.degrees(np.arctan2(y, x)) % 360).astype(np.float32)
    saturation = np.clip(np.hypot(x, y) / longest, 0, 1).astype(np.float32)
    hsv = np.stack([hue, saturation, np.ones_like(hue)], axis=-1)
    return torch.from_numpy(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)).permute(2, 0, 1)
