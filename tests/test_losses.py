"""Each loss against a slow independent formula, and its gradient where the formula would have none."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from picopose.model.picopose import losses
from picopose.model.picopose.affine import Similarity
from picopose.model.picopose.flow import Flow
from picopose.model.picopose.supervision import Positions

SIZE = 64


def similarity(*, angle_deg: float = 0.0, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)):
    angle = math.radians(angle_deg)
    return Similarity(
        translation=torch.tensor([shift]),
        scale=torch.tensor([scale], requires_grad=True),
        rotation=torch.tensor([[math.cos(angle), math.sin(angle)]], requires_grad=True),
    )


@pytest.fixture
def patches():
    generator = torch.Generator().manual_seed(0)
    real, template = (
        nn.functional.normalize(torch.randn(3, 16, 8, generator=generator), dim=-1) for _ in range(2)
    )
    patch = torch.randint(16, (3, 16), generator=generator)
    valid = torch.rand(3, 16, generator=generator) < 0.6
    return real.requires_grad_(), template.requires_grad_(), patch, valid


def test_info_nce_against_loops(patches):
    real, template, patch, valid = patches
    r, t = real.detach().double().numpy(), template.detach().double().numpy()
    pairs = [(b, i, patch[b, i].item()) for b in range(3) for i in range(16) if valid[b, i]]
    total = 0.0
    for b, i, j in pairs:
        positive = r[b, j] @ t[b, i] / 0.1
        others = [r[b, j] @ t[c, k] / 0.1 for c, k, m in pairs if (c, k) != (b, i) and (c, m) != (b, j)]
        total += np.logaddexp.reduce([positive, *others]) - positive
    loss = losses.info_nce(real, template, losses.MatchedPatches(patch, valid))
    assert loss.item() == pytest.approx(total / len(pairs), rel=1e-5)


def test_info_nce_in_parts_is_the_same(patches, monkeypatch):
    real, template, patch, valid = patches
    whole = losses.info_nce(real, template, losses.MatchedPatches(patch, valid))
    gradients = torch.autograd.grad(whole, (real, template))
    monkeypatch.setattr(losses, "LOGITS_AT_ONCE", 100)
    parts = losses.info_nce(real, template, losses.MatchedPatches(patch, valid))
    torch.testing.assert_close(parts, whole)
    for part, one in zip(torch.autograd.grad(parts, (real, template)), gradients, strict=True):
        torch.testing.assert_close(part, one, atol=1e-6, rtol=1e-5)


def test_info_nce_without_a_match_is_zero_and_differentiable(patches):
    real, template, patch, valid = patches
    loss = losses.info_nce(real, template, losses.MatchedPatches(patch, torch.zeros_like(valid)))
    loss.backward()
    assert loss.item() == 0
    assert real.grad.abs().max() == 0 and template.grad.abs().max() == 0


@pytest.mark.parametrize(
    ("predicted", "true", "error"), [(30, 10, 20), (-30, 10, 40), (175, -175, 10), (5, 5, 0)]
)
def test_angle_keeps_its_sign(predicted: float, true: float, error: float):
    estimate = similarity(angle_deg=predicted)
    loss = losses.angle_loss(estimate, similarity(angle_deg=true))
    assert math.degrees(loss.item()) == pytest.approx(error, abs=1e-4)
    loss.backward()
    assert estimate.rotation.grad.isfinite().all()


def test_signed_angle():
    turned = losses.signed_angle(similarity(angle_deg=-20), similarity(angle_deg=15))
    assert math.degrees(turned.item()) == pytest.approx(-35, abs=1e-4)


def test_scale_is_compared_by_its_logarithm():
    loss = losses.scale_loss(similarity(scale=0.5), similarity(scale=2.0))
    assert loss.item() == pytest.approx(math.log(4) ** 2, rel=1e-6)


@pytest.mark.parametrize("scale", [0.0, -1.5, 1e-6])
def test_a_scale_without_logarithm_is_led_back(scale: float):
    estimate = similarity(scale=scale)
    losses.scale_loss(estimate, similarity(scale=1.0)).backward()
    assert estimate.scale.grad.isfinite().all() and (estimate.scale.grad < -1).all()


def test_translation_is_counted_in_patches():
    loss = losses.translation_loss(similarity(shift=(7.0, -14.0)), similarity(), patch=14)
    assert loss.item() == pytest.approx((0.5 + 1.0) / 2)  # the mean over x and y, as the original has it


def flow_and_truth(side: int, generator: torch.Generator) -> tuple[Flow, Positions]:
    flow = Flow(
        offset=torch.randn(2, 2, side, side, generator=generator) * 10,
        certainty=torch.randn(2, 1, side, side, generator=generator),
    )
    known = torch.rand(2, side * side, generator=generator) < 0.8
    visible = known & (torch.rand(2, side * side, generator=generator) < 0.5)
    xy = torch.rand(2, side * side, 2, generator=generator) * SIZE
    return flow, Positions(xy=xy, visible=visible, known=known)


def test_flow_and_certainty_against_loops():
    generator = torch.Generator().manual_seed(1)
    levels = [flow_and_truth(side, generator) for side in (4, 8, 16)]
    flow_total, certainty_total = 0.0, 0.0
    for flow, truth in levels:
        side = flow.offset.shape[-1]
        cell = SIZE / side
        errors, entropies = [], []
        for b in range(2):
            for k in range(side * side):
                row, column = divmod(k, side)
                centre = np.array([(column + 0.5) * cell - 0.5, (row + 0.5) * cell - 0.5])
                landed = centre + flow.offset[b, :, row, column].numpy()
                if truth.visible[b, k]:
                    errors.append(np.abs(landed - truth.xy[b, k].numpy()).sum() / cell)
                if truth.known[b, k]:
                    probability = 1 / (1 + math.exp(-flow.certainty[b, 0, row, column].item()))
                    entropies.append(-math.log(probability if truth.visible[b, k] else 1 - probability))
        flow_total += 0.1 * np.mean(errors)
        certainty_total += np.mean(entropies)
    flows, truths = zip(*levels, strict=True)
    assert losses.flow_loss(flows, truths, size=SIZE).item() == pytest.approx(flow_total, rel=1e-5)
    assert losses.certainty_loss(flows, truths).item() == pytest.approx(certainty_total, rel=1e-5)
