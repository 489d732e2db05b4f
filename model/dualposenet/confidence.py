"""How sure a pose by DualPoseNet is: what its passes show of it, weighed by a logistic regression.

A pose is right if it is within 10 degrees and 5 cm of the truth; of round objects the axis alone counts. The
weighing is of one network, in a file beside its weights: `python -m benchmarks.category_confidence` makes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from picopose.model.dualposenet.losses import disagreement
from picopose.model.dualposenet.passes import Pass
from picopose.model.dualposenet.symmetry import angles, is_round
from picopose.model.logistic import Logistic
from picopose.utils.errors import InputError
from picopose.utils.reading import read_json
from picopose.utils.records import Record

NEARLY_ALL = 0.99  # share of the points: the farthest may be strays
_TINY_LOSS, _TINY_TURN, _TINY_GAP = 1e-9, 0.1, 1e-3  # added before logarithms: less says no more


@dataclass(frozen=True)
class Evidence(Record):
    """What speaks for poses before they are refined, one number each: (B,)."""

    disagreement: Tensor  # logarithm of the loss between what both decoders say
    turn: Tensor  # logarithm of the degrees by which the last pass turned the pose of the one before
    # Logarithm of how far the seen points end from the faces of the box, in diagonals, along the worst axis.
    gap: Tensor
    points: Tensor  # logarithm of their number in the last pass
    round: Tensor  # 1 for round objects, of which the axis alone counts, 0 for others

    @classmethod
    def of(cls, every: Sequence[Sequence[Pass]], class_id: Tensor) -> Self:
        """From the passes of objects, one at least of each, and their classes (B,)."""
        rows = [_row(done, class_id[[i]].cpu()) for i, done in enumerate(every)]
        return cls(*torch.tensor(rows, dtype=torch.float64).reshape(-1, 5).unbind(1))

    def table(self) -> Tensor:
        """(B, F), a column for each field."""
        return torch.stack(list(vars(self).values()), dim=1)


def _row(done: Sequence[Pass], class_id: Tensor) -> list[float]:
    """The evidence of one object of a class (1,), in the order of the fields."""
    last = done[-1]
    turn = 180.0  # a single pass: nothing confirms it
    if len(done) > 1:
        rotations = [each.estimate.rotation.cpu() for each in done[-2:]]
        turn = angles(*rotations, class_id).item()
    loss = disagreement(last.estimate, last.canonical, last.seen.points).item()
    numbers = torch.tensor([loss + _TINY_LOSS, turn + _TINY_TURN, _gap(last) + _TINY_GAP, last.used])
    return [*numbers.double().log().tolist(), is_round(class_id).item()]


def _gap(last: Pass) -> float:
    """Along the worst axis of the box, from its faces to where the points end, as a share of its diagonal."""
    sides = last.estimate.size[0].abs()
    seen = last.estimate.canonical(last.seen.points)[0].abs().quantile(NEARLY_ALL, dim=0)
    return (sides / sides.norm() / 2 - seen).abs().amax().item()


def confidence_file(weights: Path) -> Path:
    """Where the weighing for a checkpoint is."""
    return weights.with_suffix(".json")


def read_confidence(weights: Path) -> Logistic | None:
    """The weighing for a checkpoint; None where there is none, an `InputError` for a damaged file."""
    path = confidence_file(weights)
    if not path.is_file():
        return None
    remedy = "write it again with python -m benchmarks.category_confidence fit"
    try:
        return Logistic.of(read_json(path, remedy=remedy), list(Evidence.__dataclass_fields__))
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} is no calibration of confidences ({error!r}): {remedy}") from None
