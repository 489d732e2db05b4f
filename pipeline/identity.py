"""Which of several objects is at a place: the one whose rendering agrees best with the photo there.

Coarse poses of a few views tell it, so that only the one found has to be refined; `python -m
benchmarks.identity` measures how often it is the right one, and what else could tell.
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
HYPOTHESES = 2  # views of each object that are followed


def identifying_stages(setup: Setup) -> list[Stage]:
    """Stages that keep, of the objects in a group, the one that agrees best with the photo."""
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
    """The id of the object that a mask shows, of several; `stages`: see `identifying_stages`."""
    ids = [thing.id for thing in rivals]
    one_place = replace(Estimates.of(ids, [mask] * len(ids)), group=torch.zeros(len(ids), dtype=torch.long))
    return int(run_one(frame, things, stages, one_place).obj_id[0])
