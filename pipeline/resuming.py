"""Runs over the images of a data set that can be interrupted and continued.

Every finished image is written to a journal at once, with digests of what its poses were made from. An image
is done again if any of that has changed since.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from picopose.datasets.bop.image_result import ImageResult
from picopose.pipeline.journal import Fingerprint, Journal, read_journals, write_journal
from picopose.utils.distributed import World
from picopose.utils.errors import InputError
from picopose.utils.files import locked

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Work:
    """A run over the images of a data set.

    Attributes:
        name: of the data set.
        journals: folder of the finished images.
        fingerprint: what all images depend on, by name; images of a different one are never replaced.
        places: (scene_id, im_id) of each image.
        inputs: what each image depends on, as digests by name, for some indices.
        outdated: files that become wrong as soon as an image is done again.
    """

    name: str
    journals: Path
    fingerprint: Fingerprint
    places: Sequence[tuple[int, int]]
    inputs: Callable[[Sequence[int]], list[dict[str, str]]]
    outdated: Sequence[Path]


def run_resumably(
    work: Work,
    run: Callable[[Sequence[int], Callable[[ImageResult], None]], None],
    finish: Callable[[list[ImageResult]], None],
    world: World,
) -> None:
    """Runs what an interrupted run left undone; several processes share the images.

    Args:
        run: does the images of some indices, and calls its second argument with each result.
        finish: receives the results of all images, in order, in the first process.

    Raises an `InputError` where another program is running it, or where it was begun with other options or
    weights.
    """
    refusal = "another run is at work in it: wait for its end, or name another log_dir or version_id"
    with locked(work.journals, refusal) if world.rank == 0 else nullcontext():
        if world.rank == 0:
            take_over(work)
        world.barrier()
        done = read_journals(work.journals, work.fingerprint)
        # Shares are fixed before finished images are left out, so that all processes agree on them.
        own = range(world.rank, len(work.places), world.size)
        missing = [i for i in own if work.places[i] not in done]
        with Journal(work.journals, work.fingerprint, rank=world.rank) as journal:
            if missing:
                run(missing, journal.append)
        world.barrier()
        if world.rank == 0:
            finish(_all_results(work))


def take_over(work: Work) -> None:
    """Keeps the finished images of earlier runs whose inputs have not changed, and logs how many there are.

    Result files that the run is about to replace are deleted at once, so that none outlives its inputs.
    """
    found = read_journals(work.journals, work.fingerprint)
    indices = [i for i, place in enumerate(work.places) if place in found]
    kept, changes = [], Counter()
    for i, inputs in zip(indices, work.inputs(indices), strict=True):
        result = found[work.places[i]]
        if inputs == result.inputs:
            kept.append(result)
        changes.update(name for name in inputs if inputs[name] != result.inputs.get(name))
    if changes:
        told = ", ".join(f"{name} of {count}" for name, count in sorted(changes.items()))
        again = len(indices) - len(kept)
        LOG.info("%s: %d images are not as they were and are done again: other %s", work.name, again, told)
    if kept:
        count = len(work.places)
        share = f"{len(kept)} of {count}" if len(kept) < count else f"all {count}"
        LOG.info("%s: %s images are taken from an earlier run", work.name, share)
    if found:
        write_journal(work.journals, work.fingerprint, kept)
    if len(kept) < len(work.places):
        for path in work.outdated:
            path.unlink(missing_ok=True)


def _all_results(work: Work) -> list[ImageResult]:
    results = read_journals(work.journals, work.fingerprint)
    ordered = [results.get(place) for place in work.places]
    if None in ordered:
        folder = work.journals.parent
        raise InputError(f"{folder}: images of other processes are missing; all must share log_dir")
    return ordered
