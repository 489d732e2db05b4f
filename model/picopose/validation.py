"""How well the network answers held-out pairs, in units one can judge: pixels, degrees, shares.

Stage 3 starts from what stage 2 regressed, as it does at test time.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from picopose.model.picopose.losses import flow_error, signed_angle
from picopose.model.picopose.network import Answer, PicoPose
from picopose.model.picopose.training import Truth, read, true_answers
from picopose.utils.distributed import summed
from picopose.utils.geometry import cell_centres, transform
from picopose.utils.records import Pair

# The measures: of patches, of stage 2, of where it puts the cells, of where stage 3 puts them, of certainty.
MEASURES = (
    "patches_matched",  # share of visible template cells whose most similar real patch is right to a cell
    "translation_px",
    "scale_log",
    "angle_deg",
    "start_px",  # error of the positions that stage 2 implies
    "flow_px",  # error of the finest flow
    "certainty_right",  # share of cells
)


@dataclass(frozen=True)
class Answers(Answer):
    """What the network says to a batch of pairs, and the truth."""

    best_patch: Tensor  # (B, n*n, 2) px, centre of the real patch most similar to each template patch
    truth: Truth


def answer(network: PicoPose, pair: Pair, *, bf16: bool) -> Answers:
    real, template = read(network, pair, bf16=bf16)
    likeness = template.descriptors @ real.descriptors.mT
    centres = cell_centres(network.backbone.cells, network.size, likeness.device)
    best_patch = centres[likeness.argmax(dim=-1)]
    return Answers(**vars(network(real, template)), best_patch=best_patch, truth=true_answers(network, pair))


def measure(network: PicoPose, pair: Pair, answers: Answers) -> dict[str, Tensor]:
    """The values, one-dimensional, that each of `MEASURES` averages over."""
    size, truth, similarity = network.size, answers.truth, answers.similarity
    coarse, fine = truth.positions[0], truth.positions[-1]
    cell = size / network.backbone.cells
    start = transform(
        similarity.matrix(pair.template), cell_centres(network.backbone.cells, size, coarse.xy.device)
    )
    certain = answers.flows[-1].certainty.flatten(1) > 0
    off = (answers.best_patch - coarse.xy).abs().amax(dim=-1)
    values = (
        (off <= cell)[coarse.visible].to(off.dtype),
        (similarity.translation - truth.similarity.translation).norm(dim=-1),
        (similarity.scale.clamp(min=1e-3).log() - truth.similarity.scale.log()).abs(),
        signed_angle(similarity, truth.similarity).abs().rad2deg(),
        (start - coarse.xy).norm(dim=-1)[coarse.visible],
        flow_error(answers.flows[-1], fine, size=size).norm(dim=-1)[fine.visible],
        (certain == fine.visible)[fine.known].to(off.dtype),
    )
    return dict(zip(MEASURES, values, strict=True))


@torch.inference_mode()
def validate(network: PicoPose, batches: Iterable[Pair], *, bf16: bool = False) -> dict[str, float]:
    """The mean of each measure over the batches of all processes; the network is left in training mode."""
    network.eval()
    device = next(network.parameters()).device
    totals = torch.zeros(len(MEASURES), 2, dtype=torch.float64, device=device)
    for pair in batches:
        pair = pair.to(device)
        values = measure(network, pair, answer(network, pair, bf16=bf16))
        totals += torch.tensor([[values[name].sum(), values[name].numel()] for name in MEASURES]).to(totals)
    network.train()
    totals = summed(totals)
    return dict(zip(MEASURES, (totals[:, 0] / totals[:, 1].clamp(min=1)).tolist(), strict=True))
