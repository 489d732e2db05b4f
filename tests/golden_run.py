"""The released network's answers to the golden inputs, and how far they are from the original's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from picopose.model.checkpoint import fit, read_checkpoint
from picopose.model.folding import fold_batch_norms
from picopose.model.picopose.affine import Similarity
from picopose.model.picopose.backbone import Dinov2
from picopose.model.picopose.flow import Flow
from picopose.model.picopose.matching import descriptors
from picopose.model.picopose.network import PicoPose
from picopose.model.picopose.released import RELEASED_MEAN, RELEASED_STD, convert
from picopose.utils.records import View
from tests.golden import write_released_checkpoint

HALF_PIXEL = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])


def relative(value: Tensor, golden: Tensor) -> float:
    return ((value - golden).norm() / golden.norm()).item()


def to_centres(matrix: Tensor) -> Tensor:
    """The original's pixel map (0 = corner of the first pixel) for pixel centres at whole numbers."""
    half_pixel = HALF_PIXEL.to(matrix)
    return torch.linalg.inv(half_pixel) @ matrix @ half_pixel


def rgb(stored: Tensor) -> Tensor:
    """RGB in [0, 1] of the original's normalised BGR crops."""
    mean, std = (stored.new_tensor(v).view(3, 1, 1) for v in (RELEASED_MEAN, RELEASED_STD))
    return (stored * std + mean).flip(1)


@dataclass
class Run:
    """Our outputs for the golden inputs, and the golden ones."""

    golden: dict[str, Tensor]
    inputs: dict[str, Tensor]
    real: list[Tensor]
    template: list[Tensor]
    scores: Tensor
    ids: Tensor
    similarity: list[Similarity]
    dpt: list[Tensor]
    flows: list[list[Flow]]
    views: list[View]


def released_network(name: str, path: Path) -> PicoPose:
    write_released_checkpoint(name, path)
    size = {"vits14": "small", "vitl14": "large"}[name]
    network = PicoPose(Dinov2(f"vit_{size}_patch14_dinov2"), half_cell=0.5, viewing_ray=False).eval()
    fit(network, convert(read_checkpoint(path), network.state_dict(), path), path)
    path.unlink()
    return network


def as_used(network: PicoPose) -> PicoPose:
    return fold_batch_norms(network).to(memory_format=torch.channels_last)


@torch.inference_mode()
def compute(
    network: PicoPose,
    inputs: dict[str, Tensor],
    golden: dict[str, Tensor],
    *,
    bf16: bool = False,
    template: Sequence[Tensor] | None = None,
) -> Run:
    """bf16: whether the backbone computes in it; template: its maps of the templates, if they are known."""
    real = network.features(rgb(inputs["query_rgb"]), bf16=bf16)
    if template is None:
        template = network.features(rgb(inputs["template_rgb"]), bf16=bf16)
    foreground = network.mask_patches(inputs["query_mask"] > 0)
    scores, ids = network.match(
        descriptors(real[-1]), inputs["query_mask"] > 0, descriptors(template[-1]), k=4
    )
    templates = View(
        rgb=rgb(inputs["template_rgb"]),
        mask=inputs["template_mask"] > 0,
        K=to_centres(inputs["template_M"]) @ inputs["template_K"],
        depth=inputs["template_depth"],
        cam_from_obj=inputs["template_pose"],
    )
    similarity, flows, views = [], [], []
    for hypothesis in range(2):
        chosen = golden["match_ids"][:, hypothesis]
        views.append(templates[chosen])
        maps = [m[chosen] for m in template]
        start = to_centres(golden[f"h{hypothesis}_M"])
        answer = network(network.real(real), network.template(views[-1], maps), start)
        similarity.append(answer.similarity)
        flows.append(answer.flows)
    best = [m[golden["match_ids"][:, 0]] for m in template]
    scores = scores * foreground.sum(dim=1, keepdim=True) / 256  # the original's constant factor
    return Run(golden, inputs, real, template, scores, ids, similarity, network.dpt(best), flows, views)


def errors(run: Run) -> dict[str, float]:
    """The relative error of every output that the original has too, by its name."""
    golden = run.golden
    found = {
        "features of the photo": relative(run.real[-1], golden["query_feature_last"]),
        "features of a template": relative(run.template[-1][0], golden["template_feature_last_first"]),
        "scores": relative(run.scores, golden["match_scores"]),
    }
    for level, maps in enumerate(run.dpt):
        found[f"dense maps {level}"] = relative(maps[:, ::32], golden[f"h0_dpt_tem{level}"])
    for hypothesis in range(2):
        name, of = f"h{hypothesis}", f" of hypothesis {hypothesis}"
        similarity = run.similarity[hypothesis]
        matrix, origin = similarity.matrix(run.views[hypothesis]), to_centres(golden[f"{name}_M"])
        found["translation" + of] = relative(similarity.translation / 14, golden[f"{name}_translation"])
        found["scale" + of] = relative(similarity.scale, golden[f"{name}_scale"])
        found["rotation" + of] = relative(similarity.rotation, golden[f"{name}_inplane"])
        found["matrix" + of] = relative(matrix[:, :2, :2], origin[:, :2, :2])
        for level, flow in enumerate(run.flows[hypothesis]):
            cells = flow.offset * flow.offset.shape[-1] / 224 + 0.5
            found[f"flow {level}" + of] = relative(cells, golden[f"{name}_flow{level}"])
            certainty = relative(flow.certainty, golden[f"{name}_certainty{level}"])
            found[f"certainty {level}" + of] = certainty
    return found
