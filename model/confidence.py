"""How sure a pose is, whatever method it comes from: the object is drawn at it and compared with the photo.

The last stage of a test run. What is seen of a pose are a few numbers, its evidence; a logistic regression,
one for masks and one for boxes, makes of them the probability that it is right: that its ADD, or ADD-S for a
symmetric object, lies below a tenth of the diameter. `python -m benchmarks.confidence` fits and checks it.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from model.rendermatch.agreement import (
    agreement,
    agreement_on_object,
    look_around,
    look_of,
    look_of_drawing,
)
from model.rendermatch.crops import crop_regions, regions_of
from model.rendermatch.imagenet import ImageNetFeatures
from model.rendermatch.views import SIZE, ViewSource
from utils.batches import Batches
from utils.crop import mask_boxes
from utils.errors import InputError
from utils.files import read_json
from utils.geometry import transform
from utils.stopwatch import Stopwatch
from utils.structs import Crop, Drawing, Observation, Poses, Record

CALIBRATION = Path(__file__).resolve().parent.parent / "data" / "weights" / "confidence.json"
DRAWN = 2 * SIZE  # px, side of the crops that are drawn


@dataclass(frozen=True)
class Evidence(Record):
    """What speaks for poses, one number each: (B,)."""

    agreement: Tensor  # of photo and drawing, over region and drawing, what is outside being grey
    agreement_on_object: Tensor  # over the drawing alone
    mask_iou: Tensor  # of region and silhouette
    box_iou: Tensor  # of the region's box and the silhouette's
    log_size: Tensor  # logarithm of the region's extent in px

    def table(self) -> Tensor:
        """(B, F), a column for each field."""
        return torch.stack(list(vars(self).values()), dim=1)


@dataclass(frozen=True)
class Logistic:
    """Probability from evidence."""

    weights: Tensor  # (F,)
    bias: float

    def __call__(self, evidence: Evidence) -> Tensor:
        """(B,)"""
        table = evidence.table().double()
        return torch.sigmoid(table @ self.weights.to(table.device) + self.bias).float()


@dataclass(frozen=True)
class Calibration:
    """How evidence is weighed: a box shows background too, so other things speak for a pose in it."""

    mask: Logistic
    box: Logistic


def read_calibration(path: Path = CALIBRATION) -> Calibration:
    """The file that `benchmarks.confidence` writes; an `InputError` where it is none."""
    remedy = "write it again with python -m benchmarks.confidence fit"
    table = read_json(path, remedy=remedy)
    try:
        return Calibration(**{kind: _logistic(table[kind]) for kind in ("mask", "box")})
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no calibration of confidences ({error!r}): {remedy}") from None


def _logistic(entry: dict) -> Logistic:
    names = list(Evidence.__dataclass_fields__)
    if set(entry) != {*names, "bias"}:
        raise ValueError(f"it has {sorted(entry)}")
    weights = torch.tensor([float(entry[name]) for name in names], dtype=torch.float64)
    bias = float(entry["bias"])
    if not (weights.isfinite().all() and math.isfinite(bias)):
        raise ValueError("it has numbers that are not finite")
    return Logistic(weights, bias)


class ConfidenceStage:
    """Judges the poses of the stage before it; a pose's score becomes the detection's times its confidence.

    Args:
        source: draws the objects.
        batch: poses that go through the network at once.
    """

    def __init__(
        self,
        imagenet: ImageNetFeatures,
        source: ViewSource,
        calibration: Calibration,
        *,
        batch: int = 16,
        stopwatch: Stopwatch | None = None,
    ):
        self.imagenet, self.source, self.calibration = imagenet.eval(), source, calibration
        self.device = next(imagenet.parameters()).device
        self.batches = Batches(batch)
        self.stopwatch = stopwatch or Stopwatch(running=False)

    def onboard(self, obj_ids: Iterable[int]) -> None:
        """Reads the objects, so that it takes no time later."""
        for obj_id in obj_ids:
            self.source.hull(obj_id)

    @torch.inference_mode()
    def predict(self, observation: Observation, poses: Poses) -> Poses:
        """The same poses with their confidence."""
        if len(observation.obj_ids) == 0:
            return replace(poses, confidence=poses.score)
        observation = observation.to(self.device)
        with self.stopwatch("judge"):
            evidence, is_box = self.evidence(observation, poses)
            logistic = self.calibration
            confidence = torch.where(is_box, logistic.box(evidence), logistic.mask(evidence))
        return replace(poses, confidence=confidence, score=observation.scores * confidence)

    @torch.inference_mode()
    def evidence(self, observation: Observation, poses: Poses) -> tuple[Evidence, Tensor]:
        """What speaks for each pose, and whether its region is a box (B,) bool."""
        regions = regions_of(observation.masks)
        crop = crop_regions(observation.image, observation.masks, observation.K, regions, DRAWN)
        obj_ids = observation.obj_ids.tolist()
        drawn = self.source.draw(obj_ids, poses.cam_from_obj, crop.K, DRAWN).to(self.device)
        parts = self.batches.run(lambda part: self._agreements(crop[part], drawn[part]), len(obj_ids))
        filled, on_object = (torch.cat(values) for values in zip(*parts, strict=True))
        boxes = mask_boxes(observation.masks).to(self.device)
        evidence = Evidence(
            agreement=filled,
            agreement_on_object=on_object,
            mask_iou=_iou(crop.mask, drawn.mask),
            box_iou=_box_iou(boxes, self._outer_boxes(obj_ids, poses.cam_from_obj, observation.K)),
            log_size=regions.diameter.log(),
        )
        return evidence, regions.is_box

    def _agreements(self, crop: Crop, drawn: Drawing) -> tuple[Tensor, Tensor]:
        drawing = look_of_drawing(self.imagenet, drawn)
        return (
            agreement(look_of(self.imagenet, crop), drawing),
            agreement_on_object(look_around(self.imagenet, crop), drawing),
        )

    def _outer_boxes(self, obj_ids: list[int], cam_from_obj: Tensor, K: Tensor) -> Tensor:
        """(B, 4) px of the photo: the boxes about the silhouettes; empty for what is behind the camera."""
        boxes = []
        for obj_id, pose in zip(obj_ids, cam_from_obj.double(), strict=True):
            xyz = transform(pose, self.source.hull(obj_id).to(pose.device))
            xy = (xyz @ K.double().mT)[:, :2] / xyz[:, 2:].clamp(min=1e-9)
            box = torch.cat([xy.amin(0), xy.amax(0)])
            boxes.append(box if (xyz[:, 2] > 0).all() else torch.zeros_like(box))
        # A mask's box ends behind its last pixel, and a pixel's centre is its coordinate.
        return torch.stack(boxes).float() + 0.5


def _iou(first: Tensor, second: Tensor) -> Tensor:
    """(B,) of masks (B, S, S) bool."""
    return (first & second).sum((1, 2)) / (first | second).sum((1, 2)).clamp(min=1)


def _box_iou(first: Tensor, second: Tensor) -> Tensor:
    """(B,) of boxes (B, 4): left, top, right, bottom."""
    low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
    both = (high - low).clamp(min=0).prod(1)
    areas = [(box[:, 2:] - box[:, :2]).prod(1) for box in (first, second)]
    return both / (areas[0] + areas[1] - both).clamp(min=1e-6)
