"""The converted released network reproduces the original's outputs, from a checkpoint file in its format."""

import pytest
import torch

from picopose.model.picopose.affine import pose_from_similarity
from picopose.model.picopose.network import PicoPose
from picopose.utils.geometry import rotation_angle
from tests.golden import arrays
from tests.golden_run import Run, as_used, compute, errors, released_network, to_centres

TOLERANCE = 1e-4  # norm of the difference over norm
# Whether the backbone computes in bfloat16, beside templates in half precision, and how far that may move
# poses (degrees, share of the distance) and flow (px).
ROUNDED = {"vits14-inference": (False, 0.01, 0.0005, 0.05), "vitl14-inference": (True, 0.1, 0.005, 0.5)}


@pytest.fixture(scope="module", params=["vits14-inference", "vitl14-inference", "vits14"])
def kind(request) -> str:
    """As it is used, with batch norms folded, or as it is trained."""
    return request.param


@pytest.fixture(scope="module")
def network(kind, tmp_path_factory) -> PicoPose:
    name, _, use = kind.partition("-")
    network = released_network(name, tmp_path_factory.mktemp("golden") / "released.ckpt")
    return as_used(network) if use else network


@pytest.fixture(scope="module")
def run(kind, network) -> Run:
    """The network's answers."""
    return compute(network, arrays("golden_inputs"), arrays(f"golden_{kind.partition('-')[0]}"))


def test_outputs(run: Run):
    found = errors(run)
    assert all(error < TOLERANCE for error in found.values()), found


def test_template_order(run: Run):
    assert run.ids.tolist() == run.golden["match_ids"].tolist()


@pytest.mark.parametrize("hypothesis", [0, 1])
def test_origin_of_the_similarity(run: Run, hypothesis: int):
    """The original is off by half a pixel there, and there alone."""
    matrix = run.similarity[hypothesis].matrix(run.views[hypothesis])
    golden = to_centres(run.golden[f"h{hypothesis}_M"])
    half_pixel = 0.5 * 2**0.5 * run.inputs["template_M"][:, 0, 0].max()
    bound = half_pixel * (1 + run.similarity[hypothesis].scale)
    assert ((matrix[:, :2, 2] - golden[:, :2, 2]).norm(dim=-1) < bound).all()


@pytest.mark.parametrize("hypothesis", [0, 1])
def test_stage_2_pose(run: Run, hypothesis: int):
    K = to_centres(run.inputs["query_M"]) @ run.inputs["query_K"]
    pose = pose_from_similarity(run.similarity[hypothesis], run.views[hypothesis], K, viewing_ray=False)
    golden = run.golden[f"h{hypothesis}_pose_stage2"]
    angle = rotation_angle(pose[:, :3, :3] @ golden[:, :3, :3].mT)
    distance = (pose[:, :3, 3] - golden[:, :3, 3]).norm(dim=-1) / golden[:, :3, 3].norm(dim=-1)
    assert torch.rad2deg(angle).max() < 0.5
    assert distance.max() < 0.005


@pytest.mark.parametrize("kind", ROUNDED, indirect=True)
def test_lower_precision_moves_little(kind, network, run):
    """What a test run does beside the above: poses after affine, and the finest flow on average.

    One photo stands for both where the backbone computes in bfloat16, which few CPUs have instructions for.
    """
    bf16, degrees, share, flow_px = ROUNDED[kind]
    photos = slice(0, 1 if bf16 else 2)
    inputs = {k: v[photos] if k.startswith("query") else v for k, v in run.inputs.items()}
    golden = {name: values[photos] for name, values in run.golden.items()}
    stored = [m.half().float() for m in run.template]
    rounded = compute(network, inputs, golden, bf16=bf16, template=stored)
    K = to_centres(inputs["query_M"]) @ inputs["query_K"]
    for hypothesis in range(2):
        pose, moved = (
            pose_from_similarity(
                each.similarity[hypothesis][photos], each.views[hypothesis][photos], K, viewing_ray=False
            )
            for each in (run, rounded)
        )
        angle = torch.rad2deg(rotation_angle(pose[:, :3, :3] @ moved[:, :3, :3].mT)).max()
        way = ((pose - moved)[:, :3, 3].norm(dim=-1) / pose[:, :3, 3].norm(dim=-1)).max()
        flow = run.flows[hypothesis][-1].offset[photos] - rounded.flows[hypothesis][-1].offset
        flow = flow.norm(dim=1).mean()
        print(f"{angle:.4f} degrees, {100 * way:.3f} % of the distance, flow {flow:.4f} px")
        assert angle < degrees and way < share and flow < flow_px
