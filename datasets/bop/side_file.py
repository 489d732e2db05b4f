"""The side file of a result file: a JSON list with one entry per line of the CSV, in its order.

As the CSV repeats an image's time in each of its lines, an entry repeats what that time is made up of.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from picopose.datasets.bop.image_result import Details, ImageResult, details_of, phases_of
from picopose.utils.errors import MALFORMED, InputError
from picopose.utils.files import write_atomically
from picopose.utils.reading import read_json

_KEYS = ("obj_id", "score", *(field.name for field in fields(Details)))


@dataclass(frozen=True)
class LineDetails(Details):
    """What the side file says of one line of the CSV."""

    phases: Mapping[str, float]  # s of the whole image


def write_details(path: Path | str, results: Iterable[ImageResult]) -> None:
    entries = [
        {"scene_id": result.scene_id, "im_id": result.im_id}
        | {key: getattr(pose, key) for key in _KEYS}
        | {"phases": dict(result.phases)}
        for result in results
        for pose in result.estimates
    ]
    with write_atomically(path) as temporary:
        temporary.write_text("[\n" + ",\n".join(map(json.dumps, entries)) + "\n]\n", encoding="utf-8")


def read_details(path: Path | str) -> list[LineDetails]:
    """The side file, one entry per line of the CSV; an `InputError` where it is missing or damaged."""
    remedy = "run the test again or delete it"
    entries = read_json(path, remedy=remedy)
    try:
        return [LineDetails(**details_of(entry), phases=phases_of(entry)) for entry in entries]
    except MALFORMED as error:
        raise InputError(f"{path} is no side file of a result file ({error!r}): {remedy}") from None
