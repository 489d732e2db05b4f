"""The learning rate, a function of the step alone, so that a resumed run needs no state of it."""

import math

import torch

from picopose.utils.config import TrainConfig


def rate_at(step: int, options: TrainConfig) -> float:
    """The learning rate of a step: a linear warm-up from a thousandth, times half a cosine over the run."""
    warmup = 0.001 + 0.999 * min(1.0, step / max(1, options.warmup))
    return options.lr * warmup * 0.5 * (1 + math.cos(math.pi * step / options.steps))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
