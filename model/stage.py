"""PicoPose as a stage of a test run: the detections of a photo in, their poses out, as in the paper's Fig. 2.

A test run is a list of stages that share `Stage`; a refiner takes the poses of the stage before it.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor

from model.affine import no_motion, pose_from_similarity
from model.flow import correspondences, sample_matches
from model.matching import descriptors, rank
from model.onboarding import TemplateBank
from model.picopose import PicoPose
from utils.crop import crop_image, mask_boxes, square_boxes
from utils.pnp import solve_pnp
from utils.structs import Correspondences, Crop, Observation, Poses, View


class Stage(Protocol):
    """A method that estimates or refines poses."""

    def onboard(self, obj_ids: Iterable[int]) -> None:
        """Prepares objects that are not prepared yet."""

    def predict(self, observation: Observation, poses: Poses | None) -> Poses:
        """Poses of the detections of one photo, given those of the stage before."""


class PicoPoseStage:
    """The three stages of the paper, then PnP with RANSAC on the correspondences of the last.

    Args:
        load_views: object id -> its rendered views on the CPU.
        hypotheses: templates followed for each detection; the best supported pose wins.
        stage: the stage that the pose is read off after: 1 takes the best template as it is, 2 its 2D
            transform, 3 the dense correspondences.
        threshold_px: inlier threshold in pixels of the photo.
        batch: hypotheses that go through the network at once.
        seed: of RANSAC.
    """

    def __init__(
        self,
        network: PicoPose,
        load_views: Callable[[int], View],
        *,
        hypotheses: int = 5,
        stage: int = 3,
        threshold_px: float = 2.0,
        batch: int = 16,
        seed: int = 0,
    ):
        self.network = network.eval()
        self.device = next(network.parameters()).device
        self.hypotheses, self.stage, self.batch = hypotheses, stage, batch
        self.threshold_px, self.seed = threshold_px, seed
        self.templates = TemplateBank(self.network, load_views, device=self.device, batch=batch)

    def onboard(self, obj_ids: Iterable[int]) -> None:
        """Prepares the templates of these objects; the least recently used ones may be dropped for them."""
        for obj_id in obj_ids:
            self.templates.prepare(obj_id)

    @torch.inference_mode()
    def predict(self, observation: Observation, poses: Poses | None = None) -> Poses:
        """Poses of all detections; an estimate of its own, so `poses` are not used."""
        observation = observation.to(self.device)
        if len(observation.obj_ids) == 0:
            return no_poses(self.device)
        crops = self._crop(observation)
        real = self.network.backbone(crops.rgb)
        match_scores, chosen = self._rank(real[-1], crops.mask, observation.obj_ids)  # (B, k)
        owner = torch.arange(len(chosen), device=self.device).repeat_interleave(chosen.shape[1])
        views = self._views(observation.obj_ids[owner], chosen.flatten())  # B * k hypotheses from here on
        coarse, matches = self._follow(real, crops.K, owner, views)
        support, shown = torch.zeros_like(match_scores.flatten()), None
        if self.stage == 3:
            zoom = crops.K[owner, 0, 0] / observation.K[0, 0]
            solution = solve_pnp(
                matches, crops.K[owner], threshold_px=self.threshold_px * zoom, seed=self.seed
            )
            solved = solution.solved[:, None, None]
            coarse = torch.where(solved, solution.cam_from_obj.to(coarse.dtype), coarse)
            support = (solution.inlier_ratio * solution.solved).to(support.dtype)
            photo_from_crop = observation.K.to(crops.K.dtype) @ torch.linalg.inv(crops.K[owner])
            shown = sample_matches(matches, solution.inliers, photo_from_crop, size=self.network.size)
        hypotheses = Poses(
            cam_from_obj=coarse,
            score=observation.scores[owner] * (support if self.stage == 3 else match_scores.flatten()),
            inlier_ratio=support,
            template=chosen.flatten(),
            matches=shown,
        )
        return best_hypotheses(hypotheses, chosen.shape[1])

    def _crop(self, observation: Observation) -> Crop:
        windows = square_boxes(mask_boxes(observation.masks), *observation.image.shape[-2:])
        return crop_image(observation.image, observation.masks, windows, observation.K, self.network.size)

    def _rank(self, real: Tensor, masks: Tensor, obj_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and indices (B, k) of the templates that each crop is most like, best first."""
        real, foreground = descriptors(real), self.network.mask_patches(masks)
        foreground = foreground | ~foreground.any(dim=1, keepdim=True)  # a mask may miss all patch centres
        ranked = [
            rank(real[i : i + 1], foreground[i : i + 1], self.templates[obj_id].descriptors, self.hypotheses)
            for i, obj_id in enumerate(obj_ids.tolist())
        ]
        scores, chosen = zip(*ranked, strict=True)
        return torch.cat(scores), torch.cat(chosen)

    def _views(self, obj_ids: Tensor, chosen: Tensor) -> View:
        """The chosen template of each hypothesis."""
        pairs = zip(obj_ids.tolist(), chosen.tolist(), strict=True)
        return View.stack([self.templates[obj_id].views[view] for obj_id, view in pairs])

    def _follow(
        self, real: list[Tensor], K: Tensor, owner: Tensor, views: View
    ) -> tuple[Tensor, Correspondences | None]:
        """Coarse poses (H, 4, 4) and, after stage 3, correspondences of H hypotheses, `batch` at a time."""
        dense = self.network.dpt(real) if self.stage == 3 else []
        coarse, matches = [], []
        for part in torch.arange(len(owner), device=self.device).split(self.batch):
            template, features = views[part], self.network.backbone(views.rgb[part])
            if self.stage == 1:
                similarity = no_motion(len(part), like=K)
            else:
                similarity = self.network.regress(real[-1][owner[part]], features[-1], template.mask)
            ray = self.network.viewing_ray
            coarse.append(pose_from_similarity(similarity, template, K[owner[part]], viewing_ray=ray))
            if self.stage == 3:
                maps = [m[owner[part]] for m in dense]
                flows = self.network.flow(
                    maps, self.network.dpt(features), template.mask, similarity.matrix(template)
                )
                matches.append(correspondences(flows[-1], template))
        return torch.cat(coarse), Correspondences.cat(matches) if matches else None


def best_hypotheses(hypotheses: Poses, count: int) -> Poses:
    """Of every `count` hypotheses in a row the one with the most support; on a draw the one ranked first."""
    support = hypotheses.inlier_ratio.view(-1, count)
    first = (support == support.amax(dim=1, keepdim=True)).int().argmax(dim=1)
    return hypotheses[first + count * torch.arange(len(first), device=first.device)]


def no_poses(device: torch.device) -> Poses:
    """The poses of an image without detections."""
    none = torch.zeros(0, device=device)
    return Poses(cam_from_obj=none.view(0, 4, 4), score=none, inlier_ratio=none, template=none.long())
