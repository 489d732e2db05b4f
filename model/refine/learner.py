"""How the refiner learns: flow and visibility, from drawings at poses that are deliberately wrong."""

from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from picopose.datasets.training.disturbed import DisturbedPairs
from picopose.datasets.training.pairs import Augmented, PairSource
from picopose.datasets.training.sources import make_scenes
from picopose.model.picopose import losses
from picopose.model.picopose.build import build_network, load_network
from picopose.model.picopose.flow import Flow
from picopose.model.picopose.network import PicoPose
from picopose.model.picopose.supervision import Positions, true_positions
from picopose.model.refine.compare import flows
from picopose.rendering.studio import Studio
from picopose.utils.config import Config
from picopose.utils.device import use_bf16
from picopose.utils.records import Pair

HELD_OUT = 1_000_000  # added to the seed of held-out samples


def make_learner(config: Config, *, resumes: bool = False) -> "RefineLearner":
    """The network that training starts from: with a PicoPose checkpoint's weights, or only a backbone's."""
    network = build_network(**asdict(config.model))
    if config.checkpoint and not resumes:
        load_network(network, Path(config.checkpoint))
        network.floored = False  # it now learns exact targets
    if config.train.frozen:
        network.backbone.freeze()
    network.affine.requires_grad_(False)  # unused by the refiner
    return RefineLearner(network.to(memory_format=torch.channels_last), config)


class RefineLearner:
    """The `Learner` of the refiner; its samples are `Pair`s of photo and drawing."""

    best_by = "flow_px"

    def __init__(self, network: PicoPose, config: Config):
        self.network, self._config = network, config

    def source(self, *, held_out: bool) -> PairSource:
        data, seed = self._config.train_dataset, self._config.train.seed + held_out * HELD_OUT
        studio, size = Studio(max_faces=data.max_faces), self.network.size
        source = make_scenes(studio, data, size=size, seed=seed, kind=DisturbedPairs)
        share = 0.0 if held_out else data.augment
        return Augmented(source, seed=seed, share=share) if share > 0 else source

    def losses(self, batch: Pair, step: int) -> dict[str, Tensor]:
        truth = self._truth(batch)
        device = batch.real.rgb.device
        bf16 = use_bf16(self._config.train.bf16, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            answer = self._answer(batch, bf16=bf16)
        return {
            "flow": losses.flow_loss(answer, truth, size=self.network.size),
            "certainty": losses.certainty_loss(answer, truth),
        }

    def measures(self, batch: Pair) -> dict[str, Tensor]:
        """Errors of the unmoved drawing and the flow (px), of its scale (percent), and right certainties."""
        flow, truth = self._answer(batch)[-1], self._truth(batch)[-1]
        size = self.network.size
        still = replace(flow, offset=torch.zeros_like(flow.offset))
        certain = flow.certainty.flatten(1) > 0
        errors = {"start_px": still, "flow_px": flow}
        return {
            name: losses.flow_error(found, truth, size=size).norm(dim=-1)[truth.visible]
            for name, found in errors.items()
        } | {
            "scale_percent": 100 * spread(flow, truth, size),
            "certainty_right": (certain == truth.visible)[truth.known].float(),
        }

    def pictures(self, batch: Pair) -> list[Tensor]:
        flow = self._answer(batch)[-1]
        certainty = flow.certainty.sigmoid().expand(-1, 3, -1, -1)
        certainty = torch.nn.functional.interpolate(certainty, size=batch.real.rgb.shape[-2:])
        return list(torch.cat([batch.template.rgb, batch.real.rgb, certainty], dim=-1).cpu())

    def _answer(self, pair: Pair, *, bf16: bool = False) -> list[Flow]:
        drawn = pair.template
        return flows(self.network, pair.real.rgb, drawn.rgb, drawn.mask, bf16=bf16)

    @torch.no_grad()
    def _truth(self, pair: Pair) -> tuple[Positions, ...]:
        cells = self.network.backbone.cells
        return true_positions(pair, sides=(cells, 2 * cells, 4 * cells))


def spread(flow: Flow, truth: Positions, size: int) -> Tensor:
    """(B,) by what share the flow makes the object too large: the slope of error over true position."""
    error = losses.flow_error(flow, truth, size=size)
    weight = truth.visible[..., None] / truth.visible.sum(1).clamp(min=1)[:, None, None]
    middle = (weight * truth.xy).sum(1, keepdim=True)
    arm = truth.xy - middle
    return (weight * arm * error).sum((1, 2)) / (weight * arm.square()).sum((1, 2)).clamp(min=1e-6)
