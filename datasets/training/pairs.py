"""Sources of training pairs, and their mixtures."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from picopose.datasets.training.augment import SHARE, augment
from picopose.datasets.training.colours import colours_of, image_of
from picopose.datasets.training.loader import Source
from picopose.datasets.training.streams import stream
from picopose.utils.records import Pair


class PairSource(Source, Protocol):
    """A `loader.Source` of training pairs.

    In `sample(index).real`, `mask` is what a detector would have given and may be wrong at places, while
    `depth` shows the object's visible surface alone: it is 0 on all that is not the object.
    """

    def sample(self, index: int) -> Pair:
        """The unbatched pair of an index (>= 0), a pure function of it."""


class Mixture:
    """Several sources in one, each with the share of its weight."""

    def __init__(self, sources: Sequence[PairSource], weights: Sequence[float], *, seed: int):
        if len(sources) != len(weights) or not sources or min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(f"{len(sources)} sources with the weights {list(weights)}")
        self._sources, self._seed = list(sources), seed
        self._bounds = np.cumsum(weights) / np.sum(weights)

    def sample(self, index: int) -> Pair:
        return self._source(index).sample(index)

    def name(self, index: int) -> str:
        return self._source(index).name(index)

    def _source(self, index: int) -> PairSource:
        chance = stream("mixture", self._seed, index).random()
        return self._sources[int(np.searchsorted(self._bounds, chance, side="right"))]


class Augmented:
    """A source with the colours of a share of its real views changed; see `datasets.training.augment`."""

    def __init__(self, source: PairSource, *, seed: int, share: float = SHARE):
        self._source, self._seed, self._share = source, seed, share

    def sample(self, index: int) -> Pair:
        pair = self._source.sample(index)
        rng = stream("colours", self._seed, index)
        rgb = colours_of(augment(image_of(pair.real.rgb), rng, share=self._share))
        return replace(pair, real=replace(pair.real, rgb=rgb))

    def name(self, index: int) -> str:
        return self._source.name(index)
