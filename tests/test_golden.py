"""The converted released network reproduces the original's outputs, from a checkpoint file in its format."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from picopose.model.checkpoint import fit, read_checkpoint
from picopose.model.folding import fold_batch_norms
from picopose.model.picopose.affine import Similarity, pose_from_similarity
from picopose.model.picopose.backbone import Dinov2
from picopose.model.picopose.flow import Flow
from picopose.model.picopose.matching import descriptors
from picopose.model.picopose.network import PicoPose
from picopose.model.picopose.released import RELEASED_MEAN, RELEASED_STD, convert
from picopose.utils.geometry import rotation_angle
from picopose.utils.records import View
from tests.golden import arrays, write_released_checkpoint

TOLERANCE = 1e-4  # norm of the difference over norm
HALF_PIXEL = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])


def relative(value: Tensor, golden: Tensor) -> float:
    return ((value - golden).norm() / golden.norm()).item()


def to_centres(matrix: Tensor) -> Tensor:
    """The original's pixel map (0 = corner of the first pixel) for pixel centres at whole numbers."""
    return torch.linalg.inv(HALF_PIXEL) @ matrix @ HALF_PIXEL


def rgb(stored: Tensor) -> Tensor:
    """RGB in [0, 1] of the original's normalised BGR crops."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (RELEASED_MEAN, RELEASED_STD))
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


@pytest.fixture(scope="module", params=["vits14", "vits14-inference", "vitl14-inference"])
def run(request, tmp_path_factory) -> Run:
    """The network's answers, as it is trained or as it is used, with batch norms folded."""
    name, _, use = request.param.partition("-")
    network = released_network(name, tmp_path_factory.mktemp("golden") / "released.ckpt")
    if use:
        network = as_used(network)
    return compute(network, arrays("golden_inputs"), arrays(f"golden_{name}"))


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
    stored: torch.dtype = torch.float32,
) -> Run:
    """bf16: whether the backbone computes in it; stored: what its maps of the templates are rounded to."""
    real, template = (network.features(rgb(inputs[f"{of}_rgb"]), bf16=bf16) for of in ("query", "template"))
    template = [m.to(stored).float() for m in template]
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


def test_backbone_features(run: Run):
    assert relative(run.real[-1], run.golden["query_feature_last"]) < TOLERANCE
    assert relative(run.template[-1][0], run.golden["template_feature_last_first"]) < TOLERANCE


def test_template_order_and_scores(run: Run):
    assert run.ids.tolist() == run.golden["match_ids"].tolist()
    assert relative(run.scores, run.golden["match_scores"]) < TOLERANCE


def test_dpt_maps(run: Run):
    for level, maps in enumerate(run.dpt):
        assert relative(maps[:, ::32], run.golden[f"h0_dpt_tem{level}"]) < TOLERANCE


@pytest.mark.parametrize("hypothesis", [0, 1])
def test_affine_outputs(run: Run, hypothesis: int):
    similarity, name = run.similarity[hypothesis], f"h{hypothesis}"
    assert relative(similarity.translation / 14, run.golden[f"{name}_translation"]) < TOLERANCE
    assert relative(similarity.scale, run.golden[f"{name}_scale"]) < TOLERANCE
    assert relative(similarity.rotation, run.golden[f"{name}_inplane"]) < TOLERANCE


@pytest.mark.parametrize("hypothesis", [0, 1])
def test_similarity_matrix(run: Run, hypothesis: int):
    """Equal but for the origin's place, where the original is off by half a pixel."""
    matrix = run.similarity[hypothesis].matrix(run.views[hypothesis])
    golden = to_centres(run.golden[f"h{hypothesis}_M"])
    assert relative(matrix[:, :2, :2], golden[:, :2, :2]) < TOLERANCE
    half_pixel = 0.5 * 2**0.5 * run.inputs["template_M"][:, 0, 0].max()
    bound = half_pixel * (1 + run.similarity[hypothesis].scale)
    assert ((matrix[:, :2, 2] - golden[:, :2, 2]).norm(dim=-1) < bound).all()


@pytest.mark.parametrize("hypothesis", [0, 1])
def test_flow_and_certainty_of_every_level(run: Run, hypothesis: int):
    for level, flow in enumerate(run.flows[hypothesis]):
        cells = flow.offset * flow.offset.shape[-1] / 224 + 0.5
        assert relative(cells, run.golden[f"h{hypothesis}_flow{level}"]) < TOLERANCE
        assert relative(flow.certainty, run.golden[f"h{hypothesis}_certainty{level}"]) < TOLERANCE


@pytest.mark.parametrize("hypothesis", [0, 1])
def test_stage_2_pose(run: Run, hypothesis: int):
    K = to_centres(run.inputs["query_M"]) @ run.inputs["query_K"]
    pose = pose_from_similarity(run.similarity[hypothesis], run.views[hypothesis], K, viewing_ray=False)
    golden = run.golden[f"h{hypothesis}_pose_stage2"]
    angle = rotation_angle(pose[:, :3, :3] @ golden[:, :3, :3].mT)
    distance = (pose[:, :3, 3] - golden[:, :3, 3]).norm(dim=-1) / golden[:, :3, 3].norm(dim=-1)
    assert torch.rad2deg(angle).max() < 0.5
    assert distance.max() < 0.005


@pytest.mark.parametrize(
    ("name", "bf16", "degrees", "share", "flow_px"),
    [("vits14", False, 0.01, 0.0005, 0.05), ("vitl14", True, 0.1, 0.005, 0.5)],
    ids=["templates in half precision", "bfloat16 too"],
)
def test_lower_precision_moves_little(tmp_path, name, bf16, degrees, share, flow_px):
    """What a test run does beside the above: poses after affine, and the finest flow on average."""
    network = as_used(released_network(name, tmp_path / "released.ckpt"))
    inputs, golden = arrays("golden_inputs"), arrays(f"golden_{name}")
    exact = compute(network, inputs, golden)
    rounded = compute(network, inputs, golden, bf16=bf16, stored=torch.float16)
    K = to_centres(inputs["query_M"]) @ inputs["query_K"]
    for hypothesis in range(2):
        pose, moved = (
            pose_from_similarity(run.similarity[hypothesis], run.views[hypothesis], K, viewing_ray=False)
            for run in (exact, rounded)
        )
        angle = torch.rad2deg(rotation_angle(pose[:, :3, :3] @ moved[:, :3, :3].mT)).max()
        way = ((pose - moved)[:, :3, 3].norm(dim=-1) / pose[:, :3, 3].norm(dim=-1)).max()
        flow = exact.flows[hypothesis][-1].offset - rounded.flows[hypothesis][-1].offset
        flow = flow.norm(dim=1).mean()
        print(f"{angle:.4f} degrees, {100 * way:.3f} % of the distance, flow {flow:.4f} px")
        assert angle < degrees and way < share and flow < flow_px
