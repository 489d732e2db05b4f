"""The training forward pass: a batch of pairs and the noise of stage 3's start -> losses.

Backbone, dense head and decoder may run in bf16; what is compared with the truth is float32.
"""

from dataclasses import dataclass

import torch
from torch import nn

from picopose.model.picopose import losses
from picopose.model.picopose.affine import Similarity
from picopose.model.picopose.network import Answer, PicoPose, RealCrop, Template
from picopose.model.picopose.supervision import (
    Positions,
    StartNoise,
    disturb,
    patch_of,
    true_positions,
    true_similarity,
)
from picopose.utils.records import Pair

LEVELS = 3


@dataclass(frozen=True)
class Truth:
    """What the network should answer to a batch of pairs."""

    positions: list[Positions]  # at the sides of the three levels, coarse to fine
    similarity: Similarity


class TrainingPass(nn.Module):
    """Pairs and noise -> losses; a module so that data-parallel training can wrap it.

    Args:
        network: the network to train.
        bf16: whether backbone, dense head and decoder run under autocast.
        scale_weight: of the scale's loss; 1 in the paper.
    """

    def __init__(self, network: PicoPose, *, bf16: bool = False, scale_weight: float = 1.0):
        super().__init__()
        self.network = network
        self.bf16, self.scale_weight = bf16, scale_weight

    def forward(self, pair: Pair, noise: StartNoise) -> losses.Losses:
        truth = true_answers(self.network, pair)
        start = disturb(truth.similarity, noise).matrix(pair.template)
        with torch.autocast(start.device.type, torch.bfloat16, enabled=self.bf16):
            real, template = read(self.network, pair, bf16=self.bf16)
            answer = self.network(real, template, start)
        return self._losses(real, template, answer, truth)

    def _losses(self, real: RealCrop, template: Template, answer: Answer, truth: Truth) -> losses.Losses:
        cells, size, similarity = self.network.backbone.cells, self.network.size, answer.similarity
        coarse = truth.positions[0]
        patch = patch_of(coarse.xy, cells=cells, size=size)
        return losses.Losses(
            matching=losses.info_nce(real.descriptors, template.descriptors, patch, coarse.visible),
            translation=losses.translation_loss(similarity, truth.similarity, patch=size / cells),
            scale=self.scale_weight * losses.scale_loss(similarity, truth.similarity),
            angle=losses.angle_loss(similarity, truth.similarity),
            flow=losses.flow_loss(answer.flows, truth.positions, size=size),
            certainty=losses.certainty_loss(answer.flows, truth.positions),
        )


def read(network: PicoPose, pair: Pair, *, bf16: bool) -> tuple[RealCrop, Template]:
    """What the network reads of both crops, which go through the backbone in one batch."""
    maps = network.features(torch.cat([pair.real.rgb, pair.template.rgb]), bf16=bf16)
    real, template = zip(*(m.chunk(2) for m in maps), strict=True)
    return network.real(real), network.template(pair.template, template)


@torch.no_grad()
def true_answers(network: PicoPose, pair: Pair) -> Truth:
    cells = network.backbone.cells
    return Truth(
        positions=[true_positions(pair, cells=cells * 2**level) for level in range(LEVELS)],
        similarity=true_similarity(pair, viewing_ray=network.viewing_ray),
    )
