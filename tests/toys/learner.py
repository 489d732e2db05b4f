"""A method from outside: a line through points, for what run_train.py needs to know of a `Learner`."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from picopose.utils.config import Config
from picopose.utils.records import Record

SLOPE, OFFSET = 3.0, -1.0


@dataclass(frozen=True)
class Point(Record):
    """A sample: no pair of views, no view at all."""

    x: Tensor  # (..., 1)
    y: Tensor  # (..., 1)


class Points:
    """Points of the line."""

    def __init__(self, seed: int):
        self._seed = seed

    def sample(self, index: int) -> Point:
        x = torch.rand(1, generator=torch.Generator().manual_seed(1000 * self._seed + index))
        return Point(x, SLOPE * x + OFFSET)

    def name(self, index: int) -> str:
        return f"point {index}"


class LineLearner:
    best_by = "error"

    def __init__(self):
        self.network = nn.Linear(1, 1)

    def source(self, *, held_out: bool) -> Points:
        return Points(seed=1 if held_out else 0)

    def losses(self, batch: Point, step: int) -> dict[str, Tensor]:
        noise = 0.1 * torch.rand(batch.x.shape, generator=torch.Generator().manual_seed(step))
        off = self.network(batch.x) - batch.y
        return {"square": off.square().mean(), "noisy": (off + noise).square().mean()}

    def measures(self, batch: Point) -> dict[str, Tensor]:
        return {"error": (self.network(batch.x) - batch.y).abs().flatten()}

    def pictures(self, batch: Point) -> list[Tensor]:
        return []


def make_learner(config: Config, *, resumes: bool = False) -> LineLearner:
    return LineLearner()
