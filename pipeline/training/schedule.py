"""Learning rate and momentum as functions of the step alone, so that a resumed run needs no state of them."""

import math

import torch

from picopose.utils.config import TrainConfig

FIRST, LAST = 1e-1, 1e-5  # of one cycle, as shares of the highest rate
STAIR, LOWEST = 40_000, 1e-6  # of the staircase: steps of one rate, and the lowest rate


def set_rate(optimizer: torch.optim.Optimizer, step: int, options: TrainConfig) -> None:
    """Gives an optimizer of Adam's kind the learning rate and the first beta of a step."""
    for group in optimizer.param_groups:
        group["lr"] = rate_at(step, options)
        group["betas"] = (beta_at(step, options), group["betas"][1])


def rate_at(step: int, options: TrainConfig) -> float:
    """The learning rate of a step, from 0 on.

    cosine: a linear warm-up from a thousandth, times half a cosine over the run. one_cycle: along a cosine
    from a tenth up to the highest rate and along another down to almost nothing (Smith and Topin, 2018).
    staircase: halved every 40,000 steps, down to 1e-6 (Lin et al., DualPoseNet, 2021).
    """
    if options.schedule == "staircase":
        return max(options.lr * 0.5 ** (step // STAIR), LOWEST)
    if options.schedule == "one_cycle":
        return options.lr * _cycle(step, options, FIRST, 1.0, LAST)
    warmup = 0.001 + 0.999 * min(1.0, step / max(1, options.warmup))
    return options.lr * warmup * 0.5 * (1 + math.cos(math.pi * step / options.steps))


def beta_at(step: int, options: TrainConfig) -> float:
    """Adam's first beta at a step: where `low_beta` is set it falls while the rate rises, and rises again."""
    high, low = options.betas[0], options.low_beta
    return high if low is None else _cycle(step, options, high, low, high)


def _cycle(step: int, options: TrainConfig, first: float, middle: float, last: float) -> float:
    """Along half a cosine from `first`, at step 0, to `middle`, and then to `last`, at the last step."""
    turn, end = options.warmup - 1, options.steps - 1  # as in `torch.optim.lr_scheduler.OneCycleLR`
    if step < turn:
        return _between(first, middle, step / turn)
    return _between(middle, last, (step - turn) / (end - turn))


def _between(first: float, last: float, share: float) -> float:
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * share))
