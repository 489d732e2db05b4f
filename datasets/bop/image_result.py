"""What a run finds in one image, as it goes to BOP's result file, to the side file and to a run's journal."""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self, TypeVar

import torch

from picopose.datasets.masks.rle import runs_of
from picopose.utils.reading import finite_number, finite_numbers, integer
from picopose.utils.records import Estimates, Frame, Matches

_LOG = logging.getLogger(__name__)
_ROUNDING = 1e-4  # of a share that is a sum of float32


@dataclass(frozen=True)
class Details:
    """What speaks for a pose."""

    confidence: float | None  # in [0, 1]: probability that the pose is right; None where no judge ran
    detection_score: float
    inlier_ratio: float  # in [0, 1]; 0 where no correspondences were solved
    template: int  # index of the view that the pose started from
    # A few matches that the pose rests on, x, y in px of each side, see `utils.records.Matches`.
    matches: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class FoundPose(Details):
    """One pose and what speaks for it."""

    obj_id: int
    score: float
    rotation: tuple[float, ...]  # 9, row by row, camera from object
    translation: tuple[float, ...]  # 3, m

    @property
    def numbers(self) -> tuple[float, ...]:
        """All that must be finite."""
        return self.score, *self.rotation, *self.translation


@dataclass(frozen=True)
class FoundRegion:
    """One detection that a run has made itself."""

    obj_id: int
    score: float
    box: tuple[float, ...]  # px: left, top, right, bottom, the last two exclusive
    runs: tuple[int, ...] | None  # COCO's plain run lengths of the mask; None where there is a box alone
    size: tuple[int, ...]  # height, width of the image

    @property
    def numbers(self) -> tuple[float, ...]:
        """All that must be finite."""
        return self.score, *self.box


@dataclass(frozen=True)
class ImageResult:
    """All poses of one image, what the run itself detected there, and the time spent on it."""

    scene_id: int
    im_id: int
    seconds: float  # detection included
    estimates: tuple[FoundPose, ...]
    phases: Mapping[str, float] = field(default_factory=dict)  # s, what `seconds` is made up of
    inputs: Mapping[str, str] = field(default_factory=dict)  # digests of what the poses depend on, by name
    detections: tuple[FoundRegion, ...] = ()

    @classmethod
    def of(
        cls,
        frame: Frame,
        found: Estimates,
        *,
        seconds: float,
        most: int | None = None,
        inputs: Mapping[str, str] | None = None,
        detected: Estimates | None = None,
    ) -> Self:
        """The result of a frame; `seconds` were spent on its poses.

        A pose or detection with numbers that are not finite is left out, with a warning: to BOP it is a
        missing one. most: poses that are kept, those of the best scores. detected: by the run itself.
        """
        has_poses = len(found) and found.cam_from_obj is not None
        poses = _finite(frame, "pose", _poses(found) if has_poses else ())
        if most is not None and len(poses) > most:
            poses = sorted(poses, key=lambda pose: -pose.score)[:most]
        regions = _finite(frame, "detection", () if detected is None else _regions(frame, detected))
        phases = {"detection": found.seconds, "poses": seconds}
        total = sum(phases.values())
        return cls(
            *(frame.scene_id, frame.im_id, total, tuple(poses), phases, dict(inputs or {}), tuple(regions))
        )

    @property
    def image(self) -> tuple[int, int]:
        """(scene_id, im_id)."""
        return self.scene_id, self.im_id


T = TypeVar("T", FoundPose, FoundRegion)


def _finite(frame: Frame, what: str, found: Iterable[T]) -> list[T]:
    """Those whose numbers are all finite; tells of the others."""
    kept = []
    for one in found:
        if all(map(math.isfinite, one.numbers)):
            kept.append(one)
        else:
            place = f"scene {frame.scene_id}, image {frame.im_id}, object {one.obj_id}"
            _LOG.warning("%s: the %s is not finite and is left out", place, what)
    return kept


def _regions(frame: Frame, detected: Estimates) -> Iterator[FoundRegion]:
    """The detections, one a group."""
    first, _ = detected.by_group()
    height, width = frame.rgb.shape[1:]
    columns = first.obj_id.tolist(), first.score.tolist(), first.box.double().tolist(), first.mask
    for obj_id, score, box, mask in zip(*columns, strict=True):
        runs = None if mask.is_box else tuple(runs_of(mask.window(0, 0, width, height).numpy()))
        yield FoundRegion(obj_id, score, tuple(box), runs, (height, width))


def _poses(found: Estimates) -> Iterator[FoundPose]:
    count, pose = len(found), found.cam_from_obj.double()
    columns = {
        "confidence": [None] * count if found.confidence is None else found.confidence.tolist(),
        "detection_score": found.score.tolist(),
        "inlier_ratio": [0.0] * count if found.inlier_ratio is None else found.inlier_ratio.tolist(),
        "template": [0] * count if found.view is None else found.view.tolist(),
        "matches": [()] * count if found.matches is None else _matches(found.matches),
        "obj_id": found.obj_id.tolist(),
        "score": found.total_score.tolist(),
        "rotation": map(tuple, pose[:, :3, :3].flatten(1).tolist()),
        "translation": map(tuple, pose[:, :3, 3].tolist()),
    }
    for row in zip(*columns.values(), strict=True):
        yield FoundPose(**dict(zip(columns, row, strict=True)))


def _matches(matches: Matches) -> Iterator[tuple[tuple[float, ...], ...]]:
    """Those of each pose, to a hundredth of a pixel."""
    for one in (matches[i] for i in range(len(matches.weight))):
        points = torch.cat([one.photo, one.template], dim=1)[one.weight > 0].double()
        yield tuple(tuple(round(value, 2) for value in row) for row in points.tolist())


def to_json(result: ImageResult) -> dict:
    """A result as plain JSON values; floats come back exactly."""
    entry = asdict(result)
    return entry if result.detections else {key: entry[key] for key in entry if key != "detections"}


def from_json(entry: dict) -> ImageResult:
    """The inverse of `to_json`; raises one of `utils.errors.MALFORMED` for what it cannot have written."""
    return ImageResult(
        scene_id=integer(entry["scene_id"], "scene_id"),
        im_id=integer(entry["im_id"], "im_id"),
        seconds=finite_number(entry["seconds"], "seconds"),
        estimates=tuple(map(_pose, entry["estimates"])),
        phases=phases_of(entry),
        inputs={str(name): str(digest) for name, digest in entry.get("inputs", {}).items()},
        detections=tuple(map(_region, entry.get("detections", ()))),
    )


def _region(entry: dict) -> FoundRegion:
    runs = entry["runs"]
    return FoundRegion(
        obj_id=integer(entry["obj_id"], "obj_id"),
        score=finite_number(entry["score"], "score"),
        box=tuple(finite_numbers(entry["box"], 4, "box")),
        runs=None if runs is None else tuple(integer(run, "runs") for run in runs),
        size=tuple(integer(side, "size") for side in entry["size"]),
    )


def _pose(entry: dict) -> FoundPose:
    return FoundPose(
        **details_of(entry),
        obj_id=integer(entry["obj_id"], "obj_id"),
        score=finite_number(entry["score"], "score"),
        rotation=tuple(finite_numbers(entry["rotation"], 9, "rotation")),
        translation=tuple(finite_numbers(entry["translation"], 3, "translation")),
    )


def details_of(entry: dict) -> dict[str, Any]:
    """The fields of `Details` in a JSON object; raises one of `utils.errors.MALFORMED`."""
    confidence = entry["confidence"]
    details = {
        "confidence": None if confidence is None else finite_number(confidence, "confidence"),
        "detection_score": finite_number(entry["detection_score"], "detection_score"),
        "inlier_ratio": finite_number(entry["inlier_ratio"], "inlier_ratio"),
        "template": integer(entry["template"], "template"),
        "matches": tuple(tuple(finite_numbers(match, 4, "a match")) for match in entry["matches"]),
    }
    if not 0 <= (details["confidence"] or 0) <= 1:
        raise ValueError(f"a confidence is {confidence}, which is no probability")
    if not 0 <= details["inlier_ratio"] <= 1 + _ROUNDING:
        raise ValueError(f"inlier_ratio is {details['inlier_ratio']}, which is no share")
    return details


def phases_of(entry: dict) -> dict[str, float]:
    """The seconds of each phase in a JSON object; raises one of `utils.errors.MALFORMED`."""
    return {str(name): finite_number(value, "phases") for name, value in entry["phases"].items()}
