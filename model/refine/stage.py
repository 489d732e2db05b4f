"""The refiner as a stage of a run: poses in, better poses out, of any object that there is a mesh of."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from picopose.model.batches import Batches, automatic_batch
from picopose.model.checkpoint import read_checkpoint
from picopose.model.drawn.matcher import Matcher, Query, load_matcher
from picopose.model.drawn.solving import draw, inliers_of, no_matches, some_matches
from picopose.model.picopose.build import prepare_network
from picopose.model.picopose.network import PicoPose
from picopose.model.picopose.released import is_released
from picopose.model.pretrained import REFINER
from picopose.model.refine.compare import Comparison, compare, is_shown
from picopose.model.refine.details import with_details
from picopose.model.refine.options import read_options
from picopose.model.rendermatch.agreement import Look, agreement, look_of, look_of_drawing
from picopose.model.rendermatch.imagenet import ImageNetFeatures, load_imagenet
from picopose.model.solve.pnp import improve_pose
from picopose.model.stage import Setup, Stage, check_poses
from picopose.utils.config import Config, ModelConfig
from picopose.utils.config_files import network_of
from picopose.utils.device import use_bf16
from picopose.utils.geometry import upright
from picopose.utils.records import Correspondences, Estimates, Frame
from picopose.utils.stopwatch import Stopwatch

THRESHOLD = 3.0  # px of the crop


class RefineStage(Stage):
    """Every pose is drawn, compared with the photo and moved, several times; the best of them is kept.

    What speaks for a pose is the share of the flow, weighted by its certainty, that would leave it where it
    is: a step that makes it worse is dropped. The hypotheses of a detection are compared by it times the
    agreement of drawing and photo, as the default method's are.

    Args:
        matcher: for the last move, which fine detail has a say in too; None: the flow alone.
        imagenet: judges how well drawings agree with the photo; None: nothing but the flow does.
        times: how often each pose is moved. hypotheses: of a detection that are refined at most.
        threshold: px of the crop, within which a match agrees with a pose.
        batch: poses that go through the network at once.
        bf16: whether the backbone computes in bfloat16.
    """

    def __init__(
        self,
        network: PicoPose,
        matcher: Matcher | None = None,
        imagenet: ImageNetFeatures | None = None,
        *,
        times: int,
        hypotheses: int = 5,
        threshold: float = THRESHOLD,
        batch: int = 8,
        bf16: bool = False,
        stopwatch: Stopwatch | None = None,
    ):
        self.network, self.matcher, self.imagenet = network.eval(), matcher, imagenet
        self.bf16 = bf16
        self.times, self.hypotheses, self.threshold = times, hypotheses, threshold
        self.device = next(network.parameters()).device
        self.batches, self.stopwatch = Batches(batch), stopwatch or Stopwatch(running=False)

    def prepare_object(self, obj_id: int) -> None:
        self.things.drawings.hull(obj_id)

    @torch.inference_mode()
    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        if len(found) == 0:
            return found
        check_poses(found, "refine")
        frame, found = frame.to(self.device), _upright(best_of(found.to(self.device), self.hypotheses))
        shown = is_shown(found, self.things.drawings, frame.K)
        refined, rows = [unsupported(found[~shown])], shown.nonzero()[:, 0]
        query, look, owner = self._look(frame, found)
        refined += self.batches.run(
            lambda part: self._refine(frame, found[rows[part]], query, look, owner[rows[part]]), len(rows)
        )
        order = torch.cat([(~shown).nonzero()[:, 0], rows]).argsort()
        return Estimates.cat(refined)[order]

    def _look(self, frame: Frame, found: Estimates) -> tuple[Query | None, Look | None, Tensor]:
        """What the photo shows of the detections, in detail and coarsely; and whose the estimates are."""
        detections, owner = found.by_group()
        with self.stopwatch("look for details"):
            query = self.matcher and self.matcher.look_at(frame, detections.mask)
            return query, self.imagenet and look_of(self.imagenet, query.crop), owner

    def _refine(
        self, frame: Frame, found: Estimates, query: Query | None, look: Look | None, owner: Tensor
    ) -> Estimates:
        """Poses that can be drawn, each the best of those that it came to be."""
        best = None
        for n in range(self.times + 1):
            with self.stopwatch("compare"):
                seen = compare(self.network, frame, found, self.things.drawings, bf16=self.bf16)
            judged = self._judged(frame, found, seen)
            best = judged if best is None else better_of(best, judged)
            if n < self.times:
                found = self._moved(frame, found, seen.matches, seen.drawn.K)
        # One more move starts from the last pose, so it is of use only where no earlier one was better.
        rows = (judged.inlier_ratio >= best.inlier_ratio).nonzero()[:, 0]
        if self.matcher is not None and self.times > 0 and len(rows):
            settled = self._settled(frame, found[rows], seen[rows], query, owner[rows])
            best = replace(best, cam_from_obj=best.cam_from_obj.index_copy(0, rows, settled))
        return replace(best, support=best.inlier_ratio * self._belief(best, query, look, owner))

    def _settled(
        self, frame: Frame, found: Estimates, seen: Comparison, query: Query, owner: Tensor
    ) -> Tensor:
        """Poses (B, 4, 4) of estimates that the flow and matches of fine detail have moved."""
        with self.stopwatch("match details"):
            matches = with_details(seen, found, query, owner, self.matcher, self.things.drawings)
        return self._moved(frame, found, matches, seen.drawn.K).cam_from_obj

    def _belief(
        self, found: Estimates, query: Query | None, look: Look | None, owner: Tensor
    ) -> Tensor | float:
        """How well drawings agree with the photo; without a network for that, the support before."""
        if look is None:
            return 1.0 if found.support is None else found.support
        with self.stopwatch("compare for the choice"):
            drawn = draw(self.things.drawings, found, query.crop.K[owner]).to(self.device)
            return agreement(look[owner], look_of_drawing(self.imagenet, drawn))

    def _moved(self, frame: Frame, found: Estimates, matches: Correspondences, K: Tensor) -> Estimates:
        """Estimates where matches in crops of cameras K (B, 3, 3) pull them, if they can be drawn there."""
        with self.stopwatch("solve"):
            pose = improve_pose(matches, K, found.cam_from_obj, threshold_px=self.threshold)
        shown = is_shown(replace(found, cam_from_obj=pose), self.things.drawings, frame.K)[:, None, None]
        return replace(found, cam_from_obj=torch.where(shown, pose, found.cam_from_obj))

    def _judged(self, frame: Frame, found: Estimates, seen: Comparison) -> Estimates:
        """Estimates with what speaks for their poses, at which they have been compared."""
        matches, K = seen.matches, seen.drawn.K
        inliers, share = inliers_of(matches, found.cam_from_obj, K, self.threshold)
        return replace(
            found,
            inlier_ratio=share.float(),
            matches=some_matches(matches, inliers, found.cam_from_obj, K, frame.K),
        )


def best_of(found: Estimates, most: int) -> Estimates:
    """The rows of each group that are supported best, in their order; the first where nothing is known."""
    support = torch.zeros(len(found)) if found.support is None else found.support.cpu()
    best_first, kept, taken = support.sort(descending=True, stable=True).indices.tolist(), [], Counter()
    groups = found.group.tolist()
    for row in best_first:
        taken[groups[row]] += 1
        kept += [row] if taken[groups[row]] <= most else []
    return found[sorted(kept)]


def better_of(first: Estimates, second: Estimates) -> Estimates:
    """Row by row that of two estimates of which more is found again; the first on a draw."""
    both = Estimates.cat([first, second])
    rows = torch.arange(len(first), device=first.obj_id.device)
    return both[torch.where(second.inlier_ratio > first.inlier_ratio, rows + len(first), rows)]


def unsupported(found: Estimates) -> Estimates:
    """Estimates of which nothing has been compared with the photo."""
    nothing = torch.zeros(len(found), device=found.obj_id.device)
    matches = no_matches(len(found), nothing.device)
    return replace(found, support=nothing, inlier_ratio=nothing, matches=matches)


def _upright(found: Estimates) -> Estimates:
    """Estimates with the rotations nearest to their own, which files store to a few digits; float32."""
    pose = found.cam_from_obj.double()
    finite = pose.isfinite().all(dim=2).all(dim=1)
    safe = torch.where(finite[:, None, None], pose, torch.eye(4, dtype=pose.dtype, device=pose.device))
    return replace(found, cam_from_obj=torch.where(finite[:, None, None], upright(safe), pose))


def make_stage(setup: Setup) -> RefineStage:
    config, options = setup.config, read_options(setup.config)
    network = load_network(Path(options.weights or config.checkpoint or REFINER), config).to(setup.device)
    return RefineStage(
        network,
        load_matcher(setup),
        load_imagenet().to(setup.device).eval(),
        times=options.times,
        hypotheses=options.hypotheses,
        batch=config.runtime.batch or automatic_batch(network.bytes_per_hypothesis, setup.device),
        bf16=use_bf16(config.test.bf16, setup.device),
        stopwatch=setup.stopwatch,
    )


def load_network(path: Path, config: Config) -> PicoPose:
    """The network of a checkpoint, built as that says; the released one does not, and the run has to."""
    checkpoint = read_checkpoint(path)
    model = config.model
    if not is_released(checkpoint) and (own := network_of(checkpoint.get("config"), f"{path}: its config")):
        model = ModelConfig(**own)
    return prepare_network(replace(model, pretrained=None), str(path))
