"""What a run finds in one image, as it goes to BOP's result file, to the side file and to a run's journal."""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import torch

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


@dataclass(frozen=True)
class ImageResult:
    """All poses of one image, and the time spent on it."""

    scene_id: int
    im_id: int
    seconds: float  # detection included
    estimates: tuple[FoundPose, ...]
    phases: Mapping[str, float] = field(default_factory=dict)  # s, what `seconds` is made up of
    inputs: Mapping[str, str] = field(default_factory=dict)  # digests of what the poses depend on, by name

    @classmethod
    def of(
        cls, frame: Frame, found: Estimates, *, seconds: float, inputs: Mapping[str, str] | None = None
    ) -> Self:
        """The result of a frame; `seconds` were spent on its poses.

        A pose with numbers that are not finite is left out, with a warning: to BOP it is a missing one.
        """
        poses = []
        for pose in _poses(found) if len(found) else ():
            if all(map(math.isfinite, (pose.score, *pose.rotation, *pose.translation))):
                poses.append(pose)
            else:
                place = f"scene {frame.scene_id}, image {frame.im_id}, object {pose.obj_id}"
                _LOG.warning("%s: the pose is not finite and is left out", place)
        phases = {"detection": found.seconds, "poses": seconds}
        total = sum(phases.values())
        return cls(frame.scene_id, frame.im_id, total, tuple(poses), phases, dict(inputs or {}))

    @property
    def image(self) -> tuple[int, int]:
        """(scene_id, im_id)."""
        return self.scene_id, self.im_id


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
    return asdict(result)


def from_json(entry: dict) -> ImageResult:
    """The inverse of `to_json`; raises one of `utils.errors.MALFORMED` for what it cannot have written."""
    return ImageResult(
        scene_id=integer(entry["scene_id"], "scene_id"),
        im_id=integer(entry["im_id"], "im_id"),
        seconds=finite_number(entry["seconds"], "seconds"),
        estimates=tuple(map(_pose, entry["estimates"])),
        phases=phases_of(entry),
        inputs={str(name): str(digest) for name, digest in entry.get("inputs", {}).items()},
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
