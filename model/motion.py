"""RAFT's motion encoder (Teed and Deng, 2020)."""

import torch
from torch import Tensor, nn


class MotionEncoder(nn.Module):
    """Correlations (B, n, s, s) and flow (B, 2, s, s) -> motion features (B, width / 2, s, s)."""

    def __init__(self, correlations: int, width: int):
        super().__init__()
        self.correlation = nn.Sequential(
            nn.Conv2d(correlations, width, 1),
            nn.ReLU(),
            nn.Conv2d(width, width * 3 // 4, 3, padding=1),
            nn.ReLU(),
        )
        self.flow = nn.Sequential(
            nn.Conv2d(2, width // 2, 7, padding=3),
            nn.ReLU(),
            nn.Conv2d(width // 2, width // 4, 3, padding=1),
            nn.ReLU(),
        )
        self.join = nn.Sequential(nn.Conv2d(width, width // 2 - 2, 3, padding=1), nn.ReLU())

    def forward(self, correlation: Tensor, flow: Tensor) -> Tensor:
        joined = self.join(torch.cat([self.correlation(correlation), self.flow(flow)], dim=1))
        return torch.cat([joined, flow], dim=1)
