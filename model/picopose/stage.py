"""PicoPose as a stage of a test run: the detections of a photo in, their poses out, as in the paper's Fig. 2.

A test run is a list of stages that share `Stage`; a refiner takes the poses of the stage before it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from picopose.model.batches import Batches
from picopose.model.picopose.affine import no_motion, pose_from_similarity
from picopose.model.picopose.flow import correspondences, floored, sample_matches
from picopose.model.picopose.matching import descriptors, rank
from picopose.model.picopose.network import PicoPose
from picopose.model.solve.pnp import solve_pnp
from picopose.model.templates.bank import TemplateBank
from picopose.utils import template_files
from picopose.utils.crop import crop_image, square_boxes
from picopose.utils.masks import boxes_of
from picopose.utils.records import Correspondences, Crop, Observation, Poses, Record
from picopose.utils.stopwatch import Stopwatch


class Stage(Protocol):
    """A method that estimates or refines poses."""

    def onboard(self, obj_ids: Iterable[int]) -> None:
        """Prepares objects that are not prepared yet."""

    def predict(self, observation: Observation, poses: Poses | None) -> Poses:
        """Poses of the detections of one photo, given those of the stage before."""


@dataclass(frozen=True)
class Hypotheses(Record):
    """Templates that are followed, k for each detection."""

    owner: Tensor  # (H,) long, the detection
    obj_id: Tensor  # (H,) long
    template: Tensor  # (H,) long, index among the object's views


class PicoPoseStage:
    """The three stages of the paper, then PnP with RANSAC on the correspondences of the last.

    Args:
        templates: of the objects; prepared for stage 3 if it is run.
        hypotheses: templates followed for each detection; the best supported pose wins.
        stage: the stage that the pose is read off after: 1 takes the best template as it is, 2 its 2D
            transform, 3 the dense correspondences.
        threshold_px: inlier threshold in pixels of the photo.
        batch: hypotheses that go through the network at once; halved whenever memory does not suffice.
        seed: of RANSAC.
        bf16: whether the backbone computes in bfloat16.
        stopwatch: tells where the time goes.
    """

    def __init__(
        self,
        network: PicoPose,
        templates: TemplateBank,
        *,
        hypotheses: int = 5,
        stage: int = 3,
        threshold_px: float = 2.0,
        batch: int = 16,
        seed: int = 0,
        bf16: bool = False,
        stopwatch: Stopwatch | None = None,
    ):
        self.network, self.templates = network.eval(), templates
        self.device = next(network.parameters()).device
        self.hypotheses, self.stage, self.batches = hypotheses, stage, Batches(batch)
        self.threshold_px, self.seed, self.bf16 = threshold_px, seed, bf16
        self.stopwatch = stopwatch or Stopwatch(running=False)

    def onboard(self, obj_ids: Iterable[int]) -> None:
        """Prepares the templates of these objects; those used longest ago may be dropped for them."""
        for obj_id in obj_ids:
            self.templates.descriptors(obj_id)

    @torch.inference_mode()
    def predict(self, observation: Observation, poses: Poses | None = None) -> Poses:
        """Poses of all detections; an estimate of its own, so `poses` are not used."""
        observation = observation.to(self.device)
        if len(observation.obj_ids) == 0:
            return no_poses(self.device)
        with self.stopwatch("crop"):
            crops = self._crop(observation)
        with self.stopwatch("backbone"):
            maps = self._features(crops.rgb)
        with self.stopwatch("match"):
            match_scores, chosen = self._rank(maps[-1], crops.mask, observation.obj_ids)  # (B, k)
        owner = torch.arange(len(chosen), device=self.device).repeat_interleave(chosen.shape[1])
        hypotheses = Hypotheses(owner, observation.obj_ids[owner], chosen.flatten())
        zoom = crops.K[:, 0, 0] / observation.K[0, 0]
        coarse, matches = self._follow(maps, crops.K, zoom, hypotheses)
        if self.stage == 3:
            with self.stopwatch("pose"):
                found = self._solve(coarse, matches, hypotheses, crops.K, observation)
        else:
            score = observation.scores[owner] * match_scores.flatten()
            found = Poses(coarse, score, torch.zeros_like(score), hypotheses.template)
        return best_hypotheses(found, chosen.shape[1])

    def _crop(self, observation: Observation) -> Crop:
        windows = square_boxes(boxes_of(observation.masks), *observation.image.shape[-2:])
        return crop_image(observation.image, observation.masks, windows, observation.K, self.network.size)

    def _features(self, rgb: Tensor) -> list[Tensor]:
        """The backbone's maps of all crops."""
        parts = self.batches.run(lambda part: self.network.features(rgb[part], bf16=self.bf16), len(rgb))
        return [torch.cat(maps) for maps in zip(*parts, strict=True)]

    def _rank(self, real: Tensor, masks: Tensor, obj_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and indices (B, k) of the templates that each crop is most like, best first."""
        real, foreground = descriptors(real), self.network.mask_patches(masks)
        foreground = foreground | ~foreground.any(dim=1, keepdim=True)  # a mask may miss all patch centres
        ranked = [
            rank(r[None], mask[None], self.templates.descriptors(obj_id), self.hypotheses)
            for r, mask, obj_id in zip(real, foreground, obj_ids.tolist(), strict=True)
        ]
        scores, chosen = zip(*ranked, strict=True)
        return torch.cat(scores), torch.cat(chosen)

    def _follow(
        self, maps: list[Tensor], K: Tensor, zoom: Tensor, hypotheses: Hypotheses
    ) -> tuple[Tensor, Correspondences | None]:
        """Coarse poses (H, 4, 4) and, after stage 3, the correspondences of all hypotheses.

        K (B, 3, 3) and zoom (B,), px per px of the photo, are those of the crops.
        """
        with self.stopwatch("dense maps of the photo"):
            real, dense = descriptors(maps[-1]), self._dense(maps) if self.stage == 3 else ()
        parts = self.batches.run(
            lambda part: self._follow_part(real, dense, K, zoom, hypotheses[part]), len(hypotheses.owner)
        )
        coarse, matches = zip(*parts, strict=True)
        return torch.cat(coarse), Correspondences.cat(matches) if self.stage == 3 else None

    def _dense(self, maps: list[Tensor]) -> tuple[Tensor, ...]:
        """The dense maps of all crops, coarse to fine."""
        parts = self.batches.run(lambda part: self.network.dense([m[part] for m in maps]), len(maps[-1]))
        return tuple(torch.cat(level) for level in zip(*parts, strict=True))

    def _follow_part(
        self, real: Tensor, dense: tuple[Tensor, ...], K: Tensor, zoom: Tensor, hypotheses: Hypotheses
    ) -> tuple[Tensor, Correspondences | None]:
        owner, network = hypotheses.owner, self.network
        with self.stopwatch("templates"):
            template = self.templates.templates(hypotheses.obj_id.tolist(), hypotheses.template.tolist())
        with self.stopwatch("affine"):
            similarity = (
                no_motion(len(owner), like=K)
                if self.stage == 1
                else network.regress(real[owner], template.descriptors, template.view.mask)
            )
            ray = network.viewing_ray
            coarse = pose_from_similarity(similarity, template.view, K[owner], viewing_ray=ray)
        if self.stage < 3:
            return coarse, None
        with self.stopwatch("flow"):
            start = similarity.matrix(template.view)
            flows = network.refine([m[owner] for m in dense], template.maps, template.view.mask, start)
            template_zoom = template.view.K[:, 0, 0] / template_files.K[0][0]
            rounding = floored(zoom[owner], template_zoom) if network.floored else None
            return coarse, correspondences(flows[-1], template.view, rounding)

    def _solve(
        self,
        coarse: Tensor,
        matches: Correspondences,
        hypotheses: Hypotheses,
        K: Tensor,
        observation: Observation,
    ) -> Poses:
        """The pose that a hypothesis' correspondences support best, or its coarse pose if none is found."""
        K = K[hypotheses.owner]
        zoom = K[:, 0, 0] / observation.K[0, 0]
        solution = solve_pnp(matches, K, threshold_px=self.threshold_px * zoom, seed=self.seed)
        pose = solution.cam_from_obj.to(coarse.dtype)
        support = (solution.inlier_ratio * solution.solved).to(coarse.dtype)
        photo_from_crop = observation.K.to(K.dtype) @ torch.linalg.inv(K)
        return Poses(
            cam_from_obj=torch.where(solution.solved[:, None, None], pose, coarse),
            score=observation.scores[hypotheses.owner] * support,
            inlier_ratio=support,
            template=hypotheses.template,
            matches=sample_matches(matches, solution.inliers, photo_from_crop, size=self.network.size),
        )


def best_hypotheses(hypotheses: Poses, count: int) -> Poses:
    """Of every `count` hypotheses in a row the one with the most support; on a draw the one ranked first."""
    support = hypotheses.inlier_ratio.view(-1, count)
    first = (support == support.amax(dim=1, keepdim=True)).int().argmax(dim=1)
    return hypotheses[first + count * torch.arange(len(first), device=first.device)]


def no_poses(device: torch.device) -> Poses:
    """The poses of an image without detections."""
    none = torch.zeros(0, device=device)
    return Poses(cam_from_obj=none.view(0, 4, 4), score=none, inlier_ratio=none, template=none.long())
