"""Decides which of several objects is at a place: the one whose rendering agrees best with the photo there.

Coarse poses from a few views are enough to decide, so only the chosen object has to be refined.
`python -m benchmarks.identity` measures how often the choice is right, and compares other criteria.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import torch

from picopose.model.methods import find_module
from picopose.model.stage import Setup, Stage, Thing, Things
from picopose.pipeline.run import run_one
from picopose.utils.records import Estimates, Frame, Mask

STAGES = ("rendermatch", "best")
HYPOTHESES = 2  # views tried of each object


def identifying_stages(setup: Setup) -> list[Stage]:
    """Stages that keep, of all objects in a group, the one that agrees best with the photo."""
    config = setup.config
    setup = replace(setup, config=replace(config, test=replace(config.test, hypotheses=HYPOTHESES)))
    return [find_module(name).make_stage(setup) for name in STAGES]


def rivals_of(tried: Sequence[tuple[int, Thing]]) -> dict[int, list[Thing]]:
    """The objects that may be at a place, for the places where there are several."""
    by_place: dict[int, list[Thing]] = defaultdict(list)
    for place, thing in tried:
        by_place[place].append(thing)
    return {place: rivals for place, rivals in by_place.items() if len(rivals) > 1}


def identify(
    frame: Frame, things: Things, stages: Sequence[Stage], mask: Mask, rivals: Sequence[Thing]
) -> int:
    """The id of the object in a mask, which may be any of the rivals; stages: see `identifying_stages`."""
    ids = [thing.id for thing in rivals]
    one_place = replace(Estimates.of(ids, [mask] * len(ids)), group=torch.zeros(len(ids), dtype=torch.long))
    return int(run_one(frame, things, stages, one_place).obj_id[0])
