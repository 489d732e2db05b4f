"""Keeps, of each detection, the hypothesis with the best support."""

from picopose.model.stage import Setup, Stage
from picopose.utils.records import Estimates, Frame


class Best(Stage):
    """Of equally good hypotheses the first is kept; without support all of them are."""

    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        if len(found) == 0 or found.support is None:
            return found
        best_first = found.support.sort(descending=True, stable=True).indices
        return found[best_first].by_group()[0]


def make_stage(setup: Setup) -> Stage:
    return Best()
