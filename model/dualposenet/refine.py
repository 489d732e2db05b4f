"""Refinement of an estimate until the two decoders agree on the pose (Lin et al., ICCV 2021, section 3.4).

No truth is needed: the explicit decoder's pose brings the observed points to canonical coordinates, and so
does the implicit decoder.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from picopose.model.dualposenet.adam import TensorFlowAdam
from picopose.model.dualposenet.losses import disagreement
from picopose.model.dualposenet.network import DualPoseNet, Estimate
from picopose.model.dualposenet.quirks import MENDED, Quirks


@dataclass(frozen=True)
class Descent:
    """How to refine.

    Attributes:
        rate: of Adam.
        iterations: estimates at most, the first of which is the network's own; at least 1.
        enough: loss at which to stop.
    """

    rate: float
    iterations: int
    enough: float

    def __post_init__(self):
        if not self.rate > 0 or self.iterations < 1 or not self.enough >= 0:
            raise ValueError("rate must be positive, iterations at least 1, and enough not negative")


class Observation(NamedTuple):
    """What the network sees of one object: maps (1, n, n, 1) and (1, n, n, 3), points (1, N, 3)."""

    distances: Tensor
    colours: Tensor
    points: Tensor


class Tried(NamedTuple):
    """An estimate (of one object), and how far the two decoders disagree on it."""

    estimate: Estimate
    loss: float


class Refinement:
    """Descends for one object after the other, from the network's own estimate.

    Moments of Adam are new for each object, unless the original's habit of keeping them is kept.
    """

    def __init__(self, network: DualPoseNet, descent: Descent, quirks: Quirks = MENDED):
        self.network, self.descent, self.quirks = network, descent, quirks
        self._optimizer: TensorFlowAdam | None = None

    def __call__(self, seen: Observation) -> list[Tried]:
        """All estimates in turn, the first being the network's; `best` picks one."""
        raise NotImplementedError

    def _descend(self, variables: list[Tensor], feature: Callable[[], Tensor], points: Tensor) -> list[Tried]:
        """Changes the variables; the feature (1, F) depends on them."""
        if self._optimizer is None or not self.quirks.carried_moments:
            self._optimizer = TensorFlowAdam(variables, lr=self.descent.rate)
        tried: list[Tried] = []
        while len(tried) < self.descent.iterations and (not tried or best(tried).loss > self.descent.enough):
            found = feature()
            estimate = self.network.explicit(found)
            loss = disagreement(estimate, self.network.implicit(found, points), points)
            tried.append(Tried(Estimate(*(values.detach() for values in estimate)), loss.item()))
            self._optimizer.zero_grad()
            loss.backward(inputs=variables)
            self._optimizer.step()
        return tried


class FeatureRefinement(Refinement):
    """Changes the feature, with both decoders as they are: fast, as the encoder runs once."""

    def __init__(self, network: DualPoseNet, descent: Descent, quirks: Quirks = MENDED):
        super().__init__(network, descent, quirks)
        self._feature = nn.Parameter(torch.empty(0))

    def __call__(self, seen: Observation) -> list[Tried]:
        with torch.no_grad():
            feature = self.network.encoder(seen.distances, seen.colours)
        return self.from_feature(feature, seen.points)

    @torch.enable_grad()
    def from_feature(self, feature: Tensor, points: Tensor) -> list[Tried]:
        """The estimates from a feature (1, F) on, with points (1, N, 3)."""
        self._feature.data = feature.clone()
        return self._descend([self._feature], lambda: self._feature, points)


class EncoderRefinement(Refinement):
    """Changes the encoder's weights, with both decoders as they are; the weights are put back afterwards."""

    @torch.enable_grad()
    def __call__(self, seen: Observation) -> list[Tried]:
        encoder = self.network.encoder
        weights = list(encoder.parameters())
        before = [weight.detach().clone() for weight in weights]
        try:
            return self._descend(weights, lambda: encoder(seen.distances, seen.colours), seen.points)
        finally:
            for weight, value in zip(weights, before, strict=True):
                weight.data.copy_(value)
                weight.grad = None


def best(tried: list[Tried]) -> Tried:
    """The one with the least disagreement, the first of equal ones."""
    return min(tried, key=lambda each: each.loss)
