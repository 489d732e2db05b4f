"""RAFT's recurrent update (Teed and Deng, 2020): corrects the flow by what it now points at."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picopose.model.motion import MotionEncoder

UPSAMPLING = 8  # pixels of the image per cell of the flow
MASK_SCALE = 0.25  # of the mask, which balances its gradients with the flow's


class UpdateBlock(nn.Module):
    """Motion encoder, convolutional GRU and two heads.

    Args:
        hidden: channels of the GRU's state.
        context: channels of what is known of the template.
        levels, radius: of the windows of correlations, see `correlation.lookup`.
        width: channels inside the motion encoder and the heads; motion has half as many.
    """

    def __init__(
        self, *, hidden: int = 128, context: int = 128, levels: int = 4, radius: int = 4, width: int = 256
    ):
        super().__init__()
        self.motion = MotionEncoder(levels * (2 * radius + 1) ** 2, width)
        self.gru = SeparableGRU(hidden, context + width // 2)
        self.flow_head = _head(hidden, width, nn.Conv2d(width, 2, 3, padding=1))
        self.mask_head = _head(hidden, width, nn.Conv2d(width, 9 * UPSAMPLING**2, 1))

    def forward(
        self, hidden: Tensor, context: Tensor, correlation: Tensor, flow: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One update, on h x w cells.

        Args:
            hidden: (B, hidden, h, w) the state before.
            context: (B, context, h, w).
            correlation: (B, levels * (2 radius + 1)^2, h, w) about where the flow points.
            flow: (B, 2, h, w) in cells.

        Returns:
            The state after, the correction (B, 2, h, w) of the flow in cells, and the mask
            (B, 576, h, w) for `upsample_flow`.
        """
        hidden = self.gru(hidden, torch.cat([context, self.motion(correlation, flow)], dim=1))
        return hidden, self.flow_head(hidden), MASK_SCALE * self.mask_head(hidden)


class SeparableGRU(nn.Module):
    """A convolutional GRU that looks along the rows, then along the columns."""

    def __init__(self, hidden: int, inputs: int, size: int = 5):
        super().__init__()
        self.rows = _Gates(hidden, inputs, (1, size))
        self.columns = _Gates(hidden, inputs, (size, 1))

    def forward(self, hidden: Tensor, inputs: Tensor) -> Tensor:
        """State (B, hidden, h, w) and inputs (B, inputs, h, w) -> the new state."""
        return self.columns(self.rows(hidden, inputs), inputs)


class _Gates(nn.Module):
    def __init__(self, hidden: int, inputs: int, size: tuple[int, int]):
        super().__init__()
        padding = (size[0] // 2, size[1] // 2)
        self.update, self.reset, self.candidate = (
            nn.Conv2d(hidden + inputs, hidden, size, padding=padding) for _ in range(3)
        )

    def forward(self, hidden: Tensor, inputs: Tensor) -> Tensor:
        known = torch.cat([hidden, inputs], dim=1)
        update, reset = self.update(known).sigmoid(), self.reset(known).sigmoid()
        candidate = self.candidate(torch.cat([reset * hidden, inputs], dim=1)).tanh()
        return (1 - update) * hidden + update * candidate


def upsample_flow(flow: Tensor, mask: Tensor) -> Tensor:
    """Flow (B, 2, h, w) in cells -> (B, 2, 8 h, 8 w) in pixels.

    Every pixel takes a convex combination of the 3 x 3 cells about its own, which are 0 outside of the image.

    mask: (B, 576, h, w) logits: of the 9 cells, for each of the 8 x 8 pixels of a cell.
    """
    height, width = flow.shape[-2:]
    weights = mask.unflatten(1, (1, 9, UPSAMPLING, UPSAMPLING)).softmax(dim=2)  # (B, 1, 9, 8, 8, h, w)
    cells = F.unfold(UPSAMPLING * flow, 3, padding=1).unflatten(1, (2, 9)).unflatten(-1, (height, width))
    pixels = (weights * cells[:, :, :, None, None]).sum(dim=2)  # (B, 2, 8, 8, h, w)
    return pixels.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)


def _head(channels: int, width: int, predict: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), predict)
