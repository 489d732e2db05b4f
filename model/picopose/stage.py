"""PicoPose as a stage of a run: detections in, hypotheses about their poses out, as in the paper's Fig. 2."""

from dataclasses import replace

import torch
from torch import Tensor

from picopose.model.batches import Batches, automatic_batch
from picopose.model.compiling import compile_network
from picopose.model.picopose.affine import no_motion, pose_from_similarity
from picopose.model.picopose.build import prepare_network
from picopose.model.picopose.flow import correspondences, floored, sample_matches
from picopose.model.picopose.matching import descriptors
from picopose.model.picopose.network import Answer, PicoPose, RealCrop, Template
from picopose.model.picopose.templates.bank import FeatureBank
from picopose.model.picopose.templates.store import FeatureStore
from picopose.model.prepared_files import GIGABYTE, PreparedFiles, prepared_files
from picopose.model.solve.pnp import solve_pnp
from picopose.model.stage import Setup, Stage, Things
from picopose.utils import template_files
from picopose.utils.config import Config, TestConfig
from picopose.utils.crop import crop_image, square_boxes
from picopose.utils.device import use_bf16
from picopose.utils.masks import boxes_of
from picopose.utils.records import Correspondences, Crop, Estimates, Frame, View
from picopose.utils.stopwatch import Stopwatch


class PicoPoseStage(Stage):
    """The three levels of the paper, then PnP with RANSAC on the correspondences of the last.

    Args:
        options: how many templates are followed for each detection, up to which level, and the rest.
        files: where prepared templates are kept.
        batch: hypotheses that go through the network at once; halved whenever memory does not suffice.
        memory: bytes that the templates at hand may take.
        bf16: whether the backbone computes in bfloat16.
        stopwatch: tells where the time goes.
    """

    def __init__(
        self,
        network: PicoPose,
        options: TestConfig,
        files: PreparedFiles,
        *,
        batch: int = 16,
        memory: float = 4 * GIGABYTE,
        bf16: bool = False,
        stopwatch: Stopwatch | None = None,
    ):
        self.network, self.options, self.files = network.eval(), options, files
        self.device = next(network.parameters()).device
        self.batches, self.memory, self.bf16 = Batches(batch), memory, bf16
        self.stopwatch = stopwatch or Stopwatch(running=False)

    def open(self, things: Things) -> None:
        size, dense = self.batches.size, self.options.level == "flow"
        store = FeatureStore(self.files, self.network, things, batch=size, bf16=self.bf16)
        self.templates = FeatureBank(self.network, store, memory=self.memory, dense=dense)

    def prepare_object(self, obj_id: int) -> None:
        self.templates.descriptors(obj_id)

    def forget(self, obj_id: int) -> None:
        super().forget(obj_id)
        self.templates.forget(obj_id)

    def template(self, obj_id: int, view: int) -> View:
        return self.templates.templates([obj_id], [view]).view[0]

    @torch.inference_mode()
    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        """Hypotheses about every row, which is taken for a detection: a pose that it may have is not used."""
        frame, found = frame.to(self.device), found.to(self.device)
        if len(found) == 0:
            return found
        with self.stopwatch("crop"):
            crops = self._crop(frame, found)
        with self.stopwatch("backbone"):
            maps = self._features(crops.rgb)
        with self.stopwatch("match"):
            score, chosen = self._rank(maps[-1], crops.mask, found.obj_id)  # (B, k)
        owner = torch.arange(len(chosen), device=self.device).repeat_interleave(chosen.shape[1])
        score = score.flatten()
        hypotheses = replace(
            found[owner], view=chosen.flatten(), support=score, inlier_ratio=torch.zeros_like(score)
        )
        zoom = crops.K[:, 0, 0] / frame.K[0, 0]
        coarse, matches = self._follow(maps, crops.K, zoom, hypotheses, owner)
        hypotheses = replace(hypotheses, cam_from_obj=coarse)
        if matches is None:
            return hypotheses
        with self.stopwatch("pose"):
            return self._solve(hypotheses, matches, crops.K[owner], frame)

    def _crop(self, frame: Frame, found: Estimates) -> Crop:
        windows = square_boxes(boxes_of(found.mask), *frame.rgb.shape[-2:])
        return crop_image(frame.rgb, found.mask, windows, frame.K, self.network.size)

    def _features(self, rgb: Tensor) -> list[Tensor]:
        """The backbone's maps of all crops."""
        parts = self.batches.run(lambda part: self.network.features(rgb[part], bf16=self.bf16), len(rgb))
        return [torch.cat(maps) for maps in zip(*parts, strict=True)]

    def _rank(self, real: Tensor, masks: Tensor, obj_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and indices (B, k) of the templates that each crop is most like, best first."""
        k = self.options.hypotheses
        ranked = [
            self.network.match(r[None], mask[None], self.templates.descriptors(obj_id), k)
            for r, mask, obj_id in zip(descriptors(real), masks, obj_ids.tolist(), strict=True)
        ]
        scores, chosen = zip(*ranked, strict=True)
        return torch.cat(scores), torch.cat(chosen)

    def _follow(
        self, maps: list[Tensor], K: Tensor, zoom: Tensor, hypotheses: Estimates, owner: Tensor
    ) -> tuple[Tensor, Correspondences | None]:
        """Coarse poses (H, 4, 4) and, if the flow is computed, the correspondences of all hypotheses.

        K (B, 3, 3) and zoom (B,), px per px of the photo, are those of the crops, owner (H,) is which of them
        a hypothesis is about.
        """
        with self.stopwatch("dense maps of the photo"):
            real = RealCrop(descriptors(maps[-1]), self._dense(maps) if self.options.level == "flow" else ())
        parts = self.batches.run(
            lambda part: self._follow_part(real, K, zoom, hypotheses[part], owner[part]), len(owner)
        )
        coarse, matches = zip(*parts, strict=True)
        return torch.cat(coarse), Correspondences.cat(matches) if self.options.level == "flow" else None

    def _dense(self, maps: list[Tensor]) -> tuple[Tensor, ...]:
        """The dense maps of all crops, coarse to fine."""
        parts = self.batches.run(lambda part: self.network.dense([m[part] for m in maps]), len(maps[-1]))
        return tuple(torch.cat(level) for level in zip(*parts, strict=True))

    def _follow_part(
        self, real: RealCrop, K: Tensor, zoom: Tensor, hypotheses: Estimates, owner: Tensor
    ) -> tuple[Tensor, Correspondences | None]:
        network = self.network
        with self.stopwatch("templates"):
            template = self.templates.templates(hypotheses.obj_id.tolist(), hypotheses.view.tolist())
        with self.stopwatch("affine and flow"):
            answer = self._answer(real[owner], template)
            ray = network.viewing_ray
            coarse = pose_from_similarity(answer.similarity, template.view, K[owner], viewing_ray=ray)
            if self.options.level != "flow":
                return coarse, None
            template_zoom = template.view.K[:, 0, 0] / template_files.K[0][0]
            rounding = floored(zoom[owner], template_zoom) if network.floored else None
            return coarse, correspondences(answer.flows[-1], template.view, rounding)

    def _answer(self, real: RealCrop, template: Template) -> Answer:
        """What the network says, up to the level that the pose is read off after."""
        if self.options.level == "match":
            return Answer(no_motion(len(real.descriptors), like=real.descriptors), ())
        if self.options.level == "affine":
            return Answer(self.network.regress(real, template), ())
        return self.network(real, template)

    def _solve(self, coarse: Estimates, matches: Correspondences, K: Tensor, frame: Frame) -> Estimates:
        """The pose that a hypothesis' correspondences support best, or its coarse pose if none is found.

        K (H, 3, 3) of the crops.
        """
        zoom = K[:, 0, 0] / frame.K[0, 0]
        threshold = self.options.threshold_px * zoom
        solution = solve_pnp(matches, K, threshold_px=threshold, seed=self.options.seed)
        pose = solution.cam_from_obj.to(coarse.cam_from_obj.dtype)
        support = (solution.inlier_ratio * solution.solved).to(pose.dtype)
        photo_from_crop = frame.K.to(K.dtype) @ torch.linalg.inv(K)
        return replace(
            coarse,
            cam_from_obj=torch.where(solution.solved[:, None, None], pose, coarse.cam_from_obj),
            support=support,
            inlier_ratio=support,
            matches=sample_matches(matches, solution.inliers, photo_from_crop, size=self.network.size),
        )


def make_stage(setup: Setup) -> PicoPoseStage:
    config = setup.config
    network = prepare_network(config.model, config.checkpoint).to(setup.device)
    if config.runtime.compile:
        compile_network(network, bf16=use_bf16(config.test.bf16, setup.device))
    return stage_of(network, config, setup.stopwatch)


def stage_of(network: PicoPose, config: Config, stopwatch: Stopwatch | None = None) -> PicoPoseStage:
    """A network as the stage of a run."""
    device = next(network.parameters()).device
    return PicoPoseStage(
        network,
        config.test,
        prepared_files(config),
        batch=config.runtime.batch or automatic_batch(network.bytes_per_hypothesis, device),
        memory=config.runtime.template_memory * GIGABYTE,
        bf16=use_bf16(config.test.bf16, device),
        stopwatch=stopwatch,
    )
