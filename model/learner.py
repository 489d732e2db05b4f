"""What a method that learns offers to run_train.py, which trains any `Learner` in the same loop."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from picopose.datasets.training.loader import Source
from picopose.utils.records import Record


class Learner(Protocol):
    """A network, the samples that it learns from, and how its answers to them are judged.

    Batches are samples of its own source, stacked, on the network's device. The module of its method makes
    it: `make_learner(config, *, resumes)`, where `resumes` says that a checkpoint's weights will replace
    those that training begins with. Where the method estimates poses it may also offer `stage(config)`, its
    network as a `Stage`, by which training measures it on BOP data sets. A method whose optimizer is not
    AdamW offers `optimizer(options)`, one of Adam's kind.
    """

    network: nn.Module  # what is trained, and what checkpoints hold
    best_by: str  # the measure that is lowest in the checkpoint kept as the best

    def source(self, *, held_out: bool) -> Source:
        """Samples to train on, or to validate on."""

    def losses(self, batch: Record, step: int) -> dict[str, Tensor]:
        """Weighted scalars by name, whose sum is minimised; what is random in them depends on `step` alone.

        Each is this process's share of the whole batch's: the mean over all processes is taken.
        """

    def measures(self, batch: Record) -> dict[str, Tensor]:
        """Values (N,) by name, averaged over all held-out samples; N may differ between names and batches."""

    def pictures(self, batch: Record) -> list[Tensor]:
        """Images (3, H, W) in [0, 1] of what the network answers."""
