"""The batch norm of several processes, in one."""

import pytest
import torch
from torch import nn

from picopose.model.norms import synced


def answers(norm: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Output, gradients and running statistics of a training step."""
    x = x.clone().requires_grad_()
    y = norm.train()(x)
    (y.float() * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    return [y, x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_it_is_that_of_pytorch(dtype, tolerance):
    torch.manual_seed(0)
    x = (3 + 2 * torch.randn(4, 6, 16, 16)).to(dtype)
    found, expected = answers(synced(nn.BatchNorm2d(6)), x), answers(nn.BatchNorm2d(6), x)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()
