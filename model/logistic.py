"""Logistic regression: the probability that something is right, from numbers that are evidence for it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor


class Evidence(Protocol):
    """Evidence for B cases, of F numbers each."""

    def table(self) -> Tensor:
        """(B, F)"""


@dataclass(frozen=True)
class Logistic:
    """Probability from evidence."""

    weights: Tensor  # (F,)
    bias: float

    @classmethod
    def of(cls, entry: Mapping[str, float], names: Sequence[str]) -> Self:
        """The regression in a file's entry: a weight for each of the evidence's names, and a `bias`.

        Raises a `TypeError` or `ValueError` for any other entry.
        """
        if set(entry) != {*names, "bias"}:
            raise ValueError(f"it has {sorted(entry)}")
        weights = torch.tensor([float(entry[name]) for name in names], dtype=torch.float64)
        bias = float(entry["bias"])
        if not (weights.isfinite().all() and math.isfinite(bias)):
            raise ValueError("it has numbers that are not finite")
        return cls(weights, bias)

    def __call__(self, evidence: Evidence) -> Tensor:
        """(B,)"""
        table = evidence.table().double()
        return torch.sigmoid(table @ self.weights.to(table.device) + self.bias).float()
