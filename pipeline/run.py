"""The loop of every run: each frame starts from what is given about it, and the stages add what they find."""

import time
from collections.abc import Callable, Iterable, Sequence

from picopose.model.stage import Stage, Things
from picopose.utils.errors import InputError
from picopose.utils.records import Estimates, Frame

# What a frame starts from, given what was found in the previous one: detections, poses, the last poses, ...
Start = Callable[[Frame, Estimates | None], Estimates]
# Receives what was found in a frame, on the CPU, and how many seconds the stages took.
Sink = Callable[[Frame, Estimates, float], None]


def run(frames: Iterable[Frame], things: Things, stages: Sequence[Stage], start: Start, sink: Sink) -> None:
    """Sends frames, such as those of a data set, a folder or a video, through the stages.

    Without stages, the result is what each frame starts from, even if that is only detections.
    """
    for stage in stages:
        stage.prepare(things)
    before = None
    for frame in frames:
        found = start(frame, before)
        began = time.perf_counter()
        for stage in stages:
            found = stage(frame, found)
        if stages and len(found) and found.cam_from_obj is None:
            raise InputError("stages: none of them estimates poses; name a method among them")
        found = found.to("cpu")
        sink(frame, found, time.perf_counter() - began)
        before = found


def run_one(frame: Frame, things: Things, stages: Sequence[Stage], given: Estimates) -> Estimates:
    """What the stages find in a single frame, on the CPU."""
    results: list[Estimates] = []
    run([frame], things, stages, lambda *_: given, lambda _, found, __: results.append(found))
    return results[0]


def run_judged(frame: Frame, things: Things, stages: Sequence[Stage], given: Estimates) -> Estimates:
    """As `run_one`; an `InputError` where no stage judges the poses."""
    found = run_one(frame, things, stages, given)
    if len(found) and found.confidence is None:
        raise InputError("stages: none of them judges the poses; add confidence")
    return found
