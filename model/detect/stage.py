"""Finds objects by their meshes alone: templates are slid over the photo, and the candidates verified.

(1) Every view of an object, at every in-plane turn, is a filter on descriptors of the photo at many scales;
places with a strong response are candidates. (2) There the object is placed by matches and PnP, drawn and
compared with the photo; a logistic regression turns the result into the probability that it is the object.
(3) Of candidates at the same place the most likely one stays, whatever its object. Masks are silhouettes of
the poses.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torchvision.ops import nms

from picopose.model.detect.likeness import Likeness, load_likeness
from picopose.model.detect.search import cell_statistics, pyramid, search
from picopose.model.detect.templates import TemplateBank
from picopose.model.detect.verify import Evidence, Verifier
from picopose.model.drawn.matcher import BATCH, load_matcher
from picopose.model.logistic import Logistic
from picopose.model.prepared_files import GIGABYTE, prepared_files
from picopose.model.pretrained import DETECTION
from picopose.model.rendermatch.imagenet import ImageNetFeatures, load_imagenet
from picopose.model.stage import Setup, Stage, Things
from picopose.utils.config_files import options_of
from picopose.utils.errors import InputError
from picopose.utils.masks import cut_out
from picopose.utils.reading import read_json
from picopose.utils.records import Estimates, Frame
from picopose.utils.stopwatch import Stopwatch

CANDIDATES = 30  # of each object, that are verified
SAME_PLACE = 0.5  # IoU of boxes above which two detections of an object are the same instance


@dataclass
class Options:
    """Entries of `options.detect`."""

    most: int = 5  # instances of each object at most
    least_score: float = 0.002  # least probability of a detection; they are low in real photos
    rivals: float = 0.7  # IoU of boxes above which different objects compete; 1: never

    def __post_init__(self):
        if self.most < 1:
            raise ValueError(f"most is {self.most}; it must be positive")
        if not 0 <= self.least_score < 1:
            raise ValueError(f"least_score is {self.least_score}; it must be a probability")
        if not 0 < self.rivals <= 1:
            raise ValueError(f"rivals is {self.rivals}; it must be above 0 and at most 1")


def read_calibration(path: Path = DETECTION) -> Logistic:
    """The file that `benchmarks.detection` writes; an `InputError` for any other content."""
    remedy = "write it again with python -m benchmarks.detection fit"
    table = read_json(path, remedy=remedy)
    try:
        return Logistic.of(table, list(Evidence.__dataclass_fields__))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no calibration of detections ({error!r}): {remedy}") from None


class Detector(Stage):
    """Finds the run's things in a photo; what was known before is ignored.

    Args:
        bank: makes the template bank of the run's things.
        probability: from evidence.
    """

    guesses_outlines = True

    def __init__(
        self,
        imagenet: ImageNetFeatures,
        likeness: Likeness,
        verifier: Verifier,
        bank: Callable[[Things], TemplateBank],
        probability: Logistic,
        options: Options,
        *,
        stopwatch: Stopwatch | None = None,
    ):
        self.imagenet, self.likeness, self.verifier = imagenet.eval(), likeness, verifier
        self.bank, self.probability, self.options = bank, probability, options
        self.stopwatch = stopwatch or Stopwatch(running=False)

    def open(self, things: Things) -> None:
        self.templates = self.bank(things)

    def prepare_object(self, obj_id: int) -> None:
        self.templates.get(obj_id)

    def forget(self, obj_id: int) -> None:
        super().forget(obj_id)
        self.templates.forget(obj_id)

    @torch.inference_mode()
    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        places, evidence = self.candidates(frame, list(self.things.by_id))
        places = replace(places, score=self.probability(evidence))
        places = places[_likeliest(places, self.options)]
        if len(places) == 0:
            return Estimates.of([], [])
        with self.stopwatch("outline what is found"):
            masks = self._silhouettes(places, frame)
        shown = [i for i, mask in enumerate(masks) if mask.any()]
        places = places[shown]
        return Estimates.of(
            places.obj_id.tolist(), [cut_out(masks[i]) for i in shown], score=places.score, box=places.box
        ).to(frame.rgb.device)

    @torch.inference_mode()
    def candidates(self, frame: Frame, obj_ids: list[int]) -> tuple[Estimates, Evidence]:
        """Where these objects may be, with poses, and the evidence for each place."""
        frame = frame.to(self.verifier.matcher.device)
        with self.stopwatch("look at the photo"):
            levels = pyramid(self.imagenet, self.likeness, frame.rgb)
            statistics = cell_statistics(levels) if levels else None
        parts = []
        for obj_id in obj_ids if levels else ():
            templates = self.templates.get(obj_id)
            with self.stopwatch("slide templates"):
                resembling = search(levels, statistics, templates, CANDIDATES)
            with self.stopwatch("verify candidates"):
                parts.append(self.verifier(frame, obj_id, resembling, templates, self.things.drawings))
        if not parts:
            return Estimates.of([], []), Evidence(*[torch.zeros(0)] * 3)
        places, evidence = zip(*parts, strict=True)
        return Estimates.cat(places), Evidence.cat(evidence)

    def _silhouettes(self, found: Estimates, frame: Frame) -> Tensor:
        """(N, H, W) bool: what the objects cover of the photo at their poses."""
        height, width = frame.rgb.shape[1:]
        K = frame.K.expand(len(found), 3, 3)
        drawn = self.things.drawings.draw(found.obj_id.tolist(), found.cam_from_obj, K, max(height, width))
        return drawn.mask[:, :height, :width]


def _likeliest(places: Estimates, options: Options) -> list[int]:
    """Rows to keep, best first: one at each place, and at most `options.most` of each object."""
    kept: list[int] = []
    rival = nms(places.box.float(), places.score, options.rivals).tolist()
    for obj_id in places.obj_id.unique():
        own = [i for i in rival if places.obj_id[i] == obj_id and places.score[i] >= options.least_score]
        if own:
            once = nms(places.box[own].float(), places.score[own], SAME_PLACE)[: options.most]
            kept += [own[i] for i in once.tolist()]
    return sorted(kept, key=lambda i: -float(places.score[i]))


def make_stage(setup: Setup) -> Detector:
    config, imagenet = setup.config, load_imagenet().to(setup.device)
    likeness, batch = load_likeness(setup.device), config.runtime.batch or BATCH
    memory = config.runtime.template_memory * GIGABYTE

    def bank(things: Things) -> TemplateBank:
        return TemplateBank(prepared_files(config), imagenet, likeness, things, memory=memory)

    return Detector(
        imagenet,
        likeness,
        Verifier(imagenet, load_matcher(setup), batch=batch, seed=config.test.seed),
        bank,
        read_calibration(),
        options_of(config, "detect", Options),
        stopwatch=setup.stopwatch,
    )
