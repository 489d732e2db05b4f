"""Keeps the hypothesis of each detection that is supported best."""

import torch

from picopose.model.stage import Setup, Stage
from picopose.utils.records import Estimates, Frame


class Best(Stage):
    """On a draw the hypothesis that comes first stays."""

    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        if len(found) == 0 or found.support is None:
            return found
        order = found.support.sort(descending=True, stable=True).indices
        order = order[found.group[order].sort(stable=True).indices]  # by group, the best first in each
        group = found.group[order]
        first = torch.ones_like(group, dtype=torch.bool)
        first[1:] = group[1:] != group[:-1]
        return found[order[first]]


def make_stage(setup: Setup) -> Stage:
    return Best()
