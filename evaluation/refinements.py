"""How poses are refined, iteration by iteration: stages are run on photos while they are watched."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from picopose.evaluation.eval_models import EvalModel
from picopose.evaluation.ground_truth import ImageTruth
from picopose.model.stage import Stage, Step
from picopose.utils.records import Estimates, Frame


@dataclass(frozen=True, eq=False)
class Refinement:
    """Of one pose in one photo; poses are cam_from_obj (3, 4) m."""

    frame: Frame
    model: EvalModel
    initial: np.ndarray
    steps: tuple[Step, ...]  # of this pose alone, without the leading dimension
    truth: np.ndarray | None  # of the nearest instance; None where the object is not annotated

    def pose(self, step: int) -> np.ndarray:
        """The pose (3, 4) m after so many steps."""
        return self.initial if step == 0 else _pose(self.steps[step - 1].cam_from_obj)


def refinements(
    frame: Frame,
    found: Estimates,
    stages: Sequence[Stage],
    truth: ImageTruth,
    models: dict[int, EvalModel],
) -> Iterator[Refinement]:
    """What the last stage that tells its steps does to the pose of each detection, the best supported one.

    found: what the frame begins with, for the first of the stages, which are ready.
    """
    before, steps = watched(frame, found, stages)
    if not steps:
        return
    for row in _one_of_each_group(before):
        own = tuple(step[step.rows == row][0] for step in steps if (step.rows == row).any())
        obj_id, initial = int(before.obj_id[row]), _pose(before.cam_from_obj[row])
        if own and obj_id in models:
            true = _nearest(initial, truth.cam_from_obj[truth.obj_id == obj_id])
            yield Refinement(frame, models[obj_id], initial, own, true)


def watched(frame: Frame, found: Estimates, stages: Sequence[Stage]) -> tuple[Estimates, list[Step]]:
    """What the last stage that tells its steps was given, and the steps, on the CPU; none if none does."""
    before, told = found, []
    for stage in stages:
        with _watching(stage) as steps:
            after = stage(frame, found)
        if steps:
            before, told = found, steps
        found = after
    return before.to("cpu"), told


@contextmanager
def _watching(stage: Stage) -> Iterator[list[Step]]:
    steps: list[Step] = []

    def note(step: Step) -> None:
        steps.append(step.to("cpu"))

    stage.watch = note
    try:
        yield steps
    finally:
        stage.watch = None


def _one_of_each_group(found: Estimates) -> list[int]:
    """The row of each group that is supported best, in the order of the groups."""
    order = range(len(found))
    if found.support is not None:
        order = found.support.sort(descending=True, stable=True).indices.tolist()
    first: dict[int, int] = {}
    for row in order:
        first.setdefault(int(found.group[row]), row)
    return [first[group] for group in sorted(first)]


def _nearest(pose: np.ndarray, truths: np.ndarray) -> np.ndarray | None:
    """Of true poses (G, 3, 4) the one whose origin is nearest."""
    if len(truths) == 0:
        return None
    return truths[np.linalg.norm(truths[:, :, 3] - pose[:, 3], axis=1).argmin()]


def _pose(cam_from_obj) -> np.ndarray:
    return cam_from_obj.double().numpy()[:3]
