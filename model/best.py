"""Keeps the hypothesis of each detection that is supported best."""

from picopose.model.stage import Setup, Stage
from picopose.utils.records import Estimates, Frame


class Best(Stage):
    """On a draw the hypothesis that comes first stays."""

    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        if len(found) == 0 or found.support is None:
            return found
        best_first = found.support.sort(descending=True, stable=True).indices
        return found[best_first].by_group()[0]


def make_stage(setup: Setup) -> Stage:
    return Best()
