"""Training samples: what the network sees of an instance, and its pose and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from picopose.datasets.nocs.instances import Instance
from picopose.datasets.nocs.layout import CLASSES
from picopose.datasets.nocs.prepared import PreparedInstances
from picopose.datasets.training.streams import stream
from picopose.model.dualposenet.augmentation import augment, centred
from picopose.model.dualposenet.maps import normalised
from picopose.model.dualposenet.network import Estimate
from picopose.model.dualposenet.options import Training
from picopose.model.dualposenet.passes import observe
from picopose.model.dualposenet.quirks import Quirks
from picopose.utils.records import Record


@dataclass(frozen=True)
class Sample(Record):
    """One instance."""

    distances: Tensor  # (..., n, n, 1) m, see `maps.SphericalMaps`
    colours: Tensor  # (..., n, n, 3)
    points: Tensor  # (..., N, 3) m, centred
    class_id: Tensor  # (...) long
    rotation: Tensor  # (..., 4), this and the following as in `network.Estimate`
    translation: Tensor  # (..., 3)
    size: Tensor  # (..., 3)

    @property
    def truth(self) -> Estimate:
        return Estimate(self.rotation, self.translation, self.size)


class Pool:
    """The instances of several folders as one sequence."""

    def __init__(self, parts: Sequence[PreparedInstances]):
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Instance:
        part = int(np.searchsorted(self._ends, index, side="right"))
        return self._parts[part][index - (int(self._ends[part - 1]) if part else 0)]


class Samples:
    """All instances in another order each epoch, with maps and points drawn anew, or always the same ones.

    Args:
        side: of the maps.
        augmented: whether instances are changed as the options say.
    """

    def __init__(
        self,
        instances: Sequence[Instance],
        options: Training,
        *,
        side: int,
        seed: int,
        quirks: Quirks,
        augmented: bool,
    ):
        self._instances, self._options, self._side, self._seed = instances, options, side, seed
        self._quirks, self._augmented = quirks, augmented
        self._order: tuple[int, np.ndarray] | None = None  # of the last epoch that was asked for

    def sample(self, index: int) -> Sample:
        epoch, place = self._place(index)
        key = (place,) if self._options.frozen else (place, epoch)
        rng = stream("dualposenet", self._seed, *key)
        return self._seen(self._instances[place], rng)

    def name(self, index: int) -> str:
        epoch, place = self._place(index)
        return f"instance {place} ({CLASSES[self._instances[place].class_id - 1]}) in epoch {epoch}"

    def _place(self, index: int) -> tuple[int, int]:
        """The epoch of a sample and its place among the instances."""
        epoch, rank = divmod(index, len(self._instances))
        if self._order is None or self._order[0] != epoch:
            rng = stream("dualposenet order", self._seed, epoch)
            self._order = epoch, rng.permutation(len(self._instances))
        return epoch, int(self._order[1][rank])

    def _seen(self, instance: Instance, rng: np.random.Generator) -> Sample:
        options = self._options
        if self._augmented:
            changed = augment(_thinned(instance, options.fewest_points, rng), options.augmentation, rng)
            instance = instance if changed is instance else centred(changed)
        points, label = instance.points, instance.label
        colours = normalised(instance.rgb)
        seen = observe(points, colours, self._side, rng, self._quirks, options.points)
        values = (np.int64(instance.class_id), label.rotation, label.translation, label.size)
        inputs = (value[0] for value in seen)
        return Sample(*inputs, *(torch.from_numpy(np.asarray(value)) for value in values))


def _thinned(instance: Instance, fewest: int | None, rng: np.random.Generator) -> Instance:
    """The instance with some of its points, at least about as many as these, if it has more."""
    count = len(instance.points)
    if fewest is None or count <= fewest:
        return instance
    share = (fewest / count) ** rng.random()
    return instance.chosen(rng.random(count) < share)
