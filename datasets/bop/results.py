"""From poses to the CSV that BOP accepts, and a side file that says what speaks for each pose.

Inside the program lengths are metres; the CSV's millimetres are made here.
"""

import json
import logging
import math
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import torch

from picopose.utils.errors import MALFORMED, InputError
from picopose.utils.files import write_atomically
from picopose.utils.reading import read_json
from picopose.utils.records import Estimates, Frame, Matches

_LOG = logging.getLogger(__name__)
_ROUNDING = 1e-4  # of a share that is a sum of float32
_HEADER = "scene_id,im_id,obj_id,score,R,t,time"


@dataclass(frozen=True)
class Estimate:
    """One pose and what speaks for it."""

    obj_id: int
    score: float
    confidence: float | None  # in [0, 1]: probability that the pose is right; None where no judge ran
    rotation: tuple[float, ...]  # 9, row by row, camera from object
    translation: tuple[float, ...]  # 3, m
    detection_score: float
    inlier_ratio: float
    template: int  # index of the view that the pose started from
    # A few matches that the pose rests on, x, y in px of each side, see `utils.records.Matches`.
    matches: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(frozen=True)
class ImageResult:
    """All poses of one image, and the time spent on it."""

    scene_id: int
    im_id: int
    seconds: float  # detection included
    estimates: tuple[Estimate, ...]
    phases: Mapping[str, float] = field(default_factory=dict)  # s, what `seconds` is made up of
    inputs: Mapping[str, str] = field(default_factory=dict)  # digests of what the poses depend on, by name

    @classmethod
    def of(
        cls, frame: Frame, found: Estimates, *, seconds: float, inputs: Mapping[str, str] | None = None
    ) -> Self:
        """The result of a frame; `seconds` were spent on its poses.

        A pose with numbers that are not finite is left out, with a warning: to BOP it is a missing one.
        """
        estimates = []
        for estimate in _estimates(found):
            if all(map(math.isfinite, (estimate.score, *estimate.rotation, *estimate.translation))):
                estimates.append(estimate)
            else:
                place = f"scene {frame.scene_id}, image {frame.im_id}, object {estimate.obj_id}"
                _LOG.warning("%s: the pose is not finite and is left out", place)
        phases = {"detection": found.seconds, "poses": seconds}
        total = sum(phases.values())
        return cls(frame.scene_id, frame.im_id, total, tuple(estimates), phases, dict(inputs or {}))

    @property
    def image(self) -> tuple[int, int]:
        """(scene_id, im_id)."""
        return self.scene_id, self.im_id


def _estimates(found: Estimates) -> Iterator[Estimate]:
    count = len(found)
    if count == 0:
        return
    matrices = found.cam_from_obj.double()
    nothing = torch.zeros(count, dtype=torch.long)
    columns = (
        found.obj_id,
        found.total_score,
        matrices[:, :3, :3].flatten(1),
        matrices[:, :3, 3],
        found.score,
        nothing.double() if found.inlier_ratio is None else found.inlier_ratio,
        nothing if found.view is None else found.view,
    )
    matches = [()] * count if found.matches is None else _matches(found.matches)
    confidences = [None] * count if found.confidence is None else found.confidence.tolist()
    for row in zip(*(column.tolist() for column in columns), confidences, matches, strict=True):
        obj_id, score, rotation, translation, detection_score, inlier_ratio, template, confidence, shown = row
        yield Estimate(
            obj_id=obj_id,
            score=score,
            confidence=confidence,
            rotation=tuple(rotation),
            translation=tuple(translation),
            detection_score=detection_score,
            inlier_ratio=inlier_ratio,
            template=template,
            matches=shown,
        )


def _matches(matches: Matches) -> Iterator[tuple[tuple[float, ...], ...]]:
    """Those of each pose, to a hundredth of a pixel."""
    for one in (matches[i] for i in range(len(matches.weight))):
        points = torch.cat([one.photo, one.template], dim=1)[one.weight > 0].double()
        yield tuple(tuple(round(value, 2) for value in row) for row in points.tolist())


def csv_name(method: str, dataset: str, split: str) -> str:
    """BOP's name of a result file, `{method}_{dataset}-{split}[-{split_type}].csv`.

    `split` is the test folder (`test_primesense` is split `test` of type `primesense`). BOP cuts the name at
    underscores and the data set at hyphens, so in `method` other signs become hyphens, in `dataset` they go.
    """
    method = re.sub(r"[^A-Za-z0-9-]+", "-", method)
    dataset = re.sub(r"[^A-Za-z0-9]+", "", dataset)
    return f"{method}_{dataset}-{split.replace('_', '-')}.csv"


def write_csv(path: Path | str, results: Iterable[ImageResult]) -> None:
    """Writes BOP's result file: one line per pose, translation in mm, one time for all lines of an image."""
    with write_atomically(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
        print(_HEADER, file=file)
        for result in results:
            for estimate in result.estimates:
                print(_line(result, estimate), file=file)


def _line(result: ImageResult, estimate: Estimate) -> str:
    # Nine significant digits bring every float32 back exactly.
    rotation = " ".join(f"{value:.9g}" for value in estimate.rotation)
    translation = " ".join(f"{1000 * value:.9g}" for value in estimate.translation)
    identity = f"{result.scene_id},{result.im_id},{estimate.obj_id}"
    return f"{identity},{estimate.score:.9g},{rotation},{translation},{result.seconds:.6f}"


def write_details(path: Path | str, results: Iterable[ImageResult]) -> None:
    """Writes the side file: a JSON list with one entry per line of the CSV, in its order.

    As the CSV repeats an image's time in each of its lines, an entry repeats what that time is made up of.
    """
    kept = (
        "obj_id",
        "score",
        "confidence",
        "detection_score",
        "inlier_ratio",
        "template",
        "matches",
    )
    entries = [
        {"scene_id": result.scene_id, "im_id": result.im_id}
        | {key: getattr(estimate, key) for key in kept}
        | {"phases": dict(result.phases)}
        for result in results
        for estimate in result.estimates
    ]
    with write_atomically(path) as temporary:
        temporary.write_text("[\n" + ",\n".join(map(json.dumps, entries)) + "\n]\n", encoding="utf-8")


@dataclass(frozen=True)
class Details:
    """What the side file says of one line of the CSV."""

    confidence: float | None  # in [0, 1]; None where no judge ran
    detection_score: float
    inlier_ratio: float
    template: int
    matches: tuple[tuple[float, float, float, float], ...]
    phases: Mapping[str, float]  # s of the whole image


def read_details(path: Path | str) -> list[Details]:
    """The side file, one entry per line of the CSV; an `InputError` where it is missing or damaged."""
    remedy = "run the test again or delete it"
    entries = read_json(path, remedy=remedy)
    try:
        return [_details(entry) for entry in entries]
    except MALFORMED as error:
        raise InputError(f"{path} is no side file of a result file ({error!r}): {remedy}") from None


def _details(entry: dict) -> Details:
    matches = tuple(_numbers(match, 4) for match in entry["matches"])
    confidence = None if entry["confidence"] is None else _number(entry["confidence"])
    if confidence is not None and not 0 <= confidence <= 1:
        raise ValueError(f"a confidence is {confidence}, which is no probability")
    inlier_ratio = _number(entry["inlier_ratio"])
    if not 0 <= inlier_ratio <= 1 + _ROUNDING:
        raise ValueError(f"a share of inliers of {inlier_ratio}")
    return Details(
        confidence=confidence,
        detection_score=_number(entry["detection_score"]),
        inlier_ratio=inlier_ratio,
        template=_integer(entry["template"]),
        matches=matches,
        phases={str(name): _number(seconds) for name, seconds in entry["phases"].items()},
    )


def to_json(result: ImageResult) -> dict:
    """A result as plain JSON values; floats come back exactly."""
    return asdict(result)


def from_json(entry: dict) -> ImageResult:
    """The inverse of `to_json`; raises one of `utils.errors.MALFORMED` for what it cannot have written."""
    return ImageResult(
        scene_id=_integer(entry["scene_id"]),
        im_id=_integer(entry["im_id"]),
        seconds=_number(entry["seconds"]),
        estimates=tuple(map(_estimate, entry["estimates"])),
        phases={str(name): _number(seconds) for name, seconds in entry["phases"].items()},
        inputs={str(name): str(digest) for name, digest in entry.get("inputs", {}).items()},
    )


def _estimate(entry: dict) -> Estimate:
    confidence = entry["confidence"]
    return Estimate(
        obj_id=_integer(entry["obj_id"]),
        score=_number(entry["score"]),
        confidence=None if confidence is None else _number(confidence),
        rotation=_numbers(entry["rotation"], 9),
        translation=_numbers(entry["translation"], 3),
        detection_score=_number(entry["detection_score"]),
        inlier_ratio=_number(entry["inlier_ratio"]),
        template=_integer(entry["template"]),
        matches=tuple(_numbers(match, 4) for match in entry["matches"]),
    )


def _numbers(values: list, count: int) -> tuple[float, ...]:
    if len(values) != count:
        raise ValueError(f"{len(values)} numbers in place of {count}")
    return tuple(map(_number, values))


def _number(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{reprlib.repr(value)} is no finite number")
    return value


def _integer(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{reprlib.repr(value)} is no number to count by")
    return value
