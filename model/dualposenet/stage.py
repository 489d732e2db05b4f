"""DualPoseNet as a stage of a run: masks in a frame with depth in, poses and sizes of their objects out."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from picopose.datasets.nocs.points import masked_points
from picopose.datasets.training.streams import stream
from picopose.model.batches import Batches
from picopose.model.dualposenet.confidence import Evidence, read_confidence
from picopose.model.dualposenet.losses import disagreement
from picopose.model.dualposenet.maps import normalised
from picopose.model.dualposenet.network import DualPoseNet
from picopose.model.dualposenet.options import Options, read_options
from picopose.model.dualposenet.passes import PASSES, Cloud, Pass, Random, passes_of_all, pose_and_size
from picopose.model.dualposenet.quirks import MENDED, Quirks
from picopose.model.dualposenet.refine import EncoderRefinement, FeatureRefinement, Refinement, best
from picopose.model.dualposenet.weights import load_network
from picopose.model.logistic import Logistic
from picopose.model.stage import Setup, Stage
from picopose.utils.errors import InputError
from picopose.utils.records import Estimates, Frame
from picopose.utils.stopwatch import Stopwatch

LOG = logging.getLogger(__name__)
BATCH = 16  # detections that go through the network at once


class Answer(NamedTuple):
    """What is said of one detection; as it stands, of one with too few points."""

    cam_from_obj: np.ndarray = np.eye(4)  # m, from the centre of the box, with canonical axes
    size: np.ndarray = np.ones(3)  # m, sides of the box
    support: float = -np.inf
    inlier_ratio: float = 0.0
    confidence: float = 0.0


def seeded(frame: Frame, row: int) -> Random:
    """The generator of a detection, whatever is run before it."""
    return stream("dualposenet", frame.scene_id, frame.im_id, row)


class DualPoseNetStage(Stage):
    """Poses and sizes of detections, each from the points in its mask; poses given to it are not used.

    The support of a pose is minus the decoders' disagreement on it; its inlier ratio is the share of the
    mask's points that the last pass used, 0 where there were too few: then the pose says nothing. Its
    confidence is None for a network of which it is not known how sure its poses are.

    Args:
        quirks: of the original, that the weights were trained with.
        refinement: of what the last pass says; None: none.
        calibration: what makes confidence of the evidence for a pose.
        batch: detections that go through the network at once.
        draws: the generator of the draws for a row of a frame.
    """

    def __init__(
        self,
        network: DualPoseNet,
        *,
        quirks: Quirks = MENDED,
        refinement: Refinement | None = None,
        calibration: Logistic | None = None,
        batch: int = BATCH,
        draws: Callable[[Frame, int], Random] = seeded,
        stopwatch: Stopwatch | None = None,
    ):
        self.network, self.quirks, self.refinement = network.eval(), quirks, refinement
        self.calibration, self.batches, self.draws = calibration, Batches(batch), draws
        self.stopwatch = stopwatch or Stopwatch(running=False)

    @torch.no_grad()
    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        """An `InputError` for a frame without depth."""
        if len(found) == 0:
            return found
        if frame.depth is None:
            raise InputError("stages: dualposenet needs depth; give a depth image with each photo")
        frame, found = frame.to("cpu"), found.to("cpu")
        parts = self.batches.run(lambda part: self._answers(frame, found, part), len(found))
        answers = [answer for part in parts for answer in part]
        poses, sizes, support, ratio, confidence = (
            torch.from_numpy(np.array(each)) for each in zip(*answers, strict=True)
        )
        return replace(
            found,
            cam_from_obj=poses.float(),
            size=sizes.float(),
            support=support.float(),
            inlier_ratio=ratio.float(),
            confidence=None if self.calibration is None else confidence.float(),
        )

    def look(
        self, frame: Frame, found: Estimates, part: slice = slice(None)
    ) -> list[tuple[Cloud, list[Pass]]]:
        """What is seen of some of the detections in a frame, and the network's passes over it; on the CPU."""
        with self.stopwatch("points"):
            clouds = [self._cloud(frame, found, row) for row in range(len(found))[part]]
        with self.stopwatch("passes"):
            return list(zip(clouds, passes_of_all(self.network, clouds, self.quirks), strict=True))

    def _answers(self, frame: Frame, found: Estimates, part: slice) -> list[Answer]:
        looks = self.look(frame, found, part)
        with self.stopwatch("refine"):
            answers = [self._answer(cloud, done) for cloud, done in looks]
        with self.stopwatch("judge"):
            confidences = self._confidences([done for _, done in looks], found.obj_id[part])
        return [a._replace(confidence=c) for a, c in zip(answers, confidences, strict=True)]

    def _cloud(self, frame: Frame, found: Estimates, row: int) -> Cloud:
        """What is seen of a detection."""
        height, width = frame.depth.shape
        mask = found.mask[row].window(0, 0, width, height).numpy()
        rgb = frame.rgb.permute(1, 2, 0).numpy()
        points = masked_points(rgb, frame.depth.numpy(), mask, frame.K.double().numpy())
        return Cloud(points.xyz, normalised(points.rgb), self.draws(frame, row))

    def _answer(self, cloud: Cloud, done: list[Pass]) -> Answer:
        """The answer of the last pass, or that which it is refined to where no pass lacked points."""
        if not done:
            return Answer()
        last = done[-1]
        if self.refinement is not None and len(done) == PASSES:
            estimate, loss = best(self.refinement(last.seen))
        else:
            estimate = last.estimate
            loss = disagreement(estimate, last.canonical, last.seen.points).item()
        pose, size = pose_and_size(estimate, last.centroid)
        return Answer(pose, size, -loss, last.used / len(cloud.points))

    def _confidences(self, every: list[list[Pass]], class_id: Tensor) -> list[float]:
        """How sure the poses of some detections are: not at all without a pass, and if it is not finite."""
        confidences = torch.zeros(len(every))
        solved = [row for row, done in enumerate(every) if done]
        if self.calibration is not None and solved:
            evidence = Evidence.of([every[row] for row in solved], class_id[solved])
            confidences[solved] = self.calibration(evidence).nan_to_num(nan=0.0)
        return confidences.tolist()


def refinement_of(network: DualPoseNet, options: Options, quirks: Quirks) -> Refinement | None:
    """The one that the options name."""
    kinds = {"encoder": EncoderRefinement, "feature": FeatureRefinement}
    if options.refine not in kinds:
        return None
    return kinds[options.refine](network, getattr(options.descent, options.refine), quirks)


def make_stage(setup: Setup) -> DualPoseNetStage:
    config, options = setup.config, read_options(setup.config)
    weights = options.weights or config.checkpoint
    if not weights:
        raise InputError("stages: dualposenet has no weights; pass a checkpoint")
    network, quirks = load_network(Path(weights), options)
    network.to(setup.device)
    if quirks.carried_moments and options.refine != "none":
        LOG.warning(
            "options.dualposenet.quirks: with carried_moments a refinement depends on all before it, so that "
            "interrupted runs and those of several processes end otherwise"
        )
    return DualPoseNetStage(
        network,
        quirks=quirks,
        refinement=refinement_of(network, options, quirks),
        calibration=read_confidence(Path(weights)),
        batch=config.runtime.batch or BATCH,
        stopwatch=setup.stopwatch,
    )
