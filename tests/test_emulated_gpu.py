"""The emulated GPU: it computes what the CPU does, and counts what code with known needs asks of a card."""

import pytest
import torch

from benchmarks.emulated_gpu import GPU, Asked, EmulatedGpu, GpuTensor


@pytest.fixture
def gpu():
    with EmulatedGpu() as gpu:
        yield gpu


def counts(asked: Asked) -> tuple[int, int, int]:
    return asked.kernels.total(), asked.synchronisations.total(), asked.copies.total()


def test_arithmetic_costs_kernels_and_views_nothing(gpu):
    values = torch.rand(3, 4)
    on_gpu = values.to(GPU)
    gpu.reset()
    result = (2 * on_gpu.T[1:] + 1).clamp(min=1.5)
    assert counts(gpu.asked) == (3, 0, 0)
    assert torch.equal(result.cpu(), (2 * values.T[1:] + 1).clamp(min=1.5))
    assert counts(gpu.asked) == (3, 1, 0)


def test_work_of_the_host_costs_the_card_nothing(gpu):
    assert (torch.rand(10, 10) @ torch.rand(10, 10)).sum().item() > 0
    assert counts(gpu.asked) == (0, 0, 0)


def test_tensors_say_where_they_are(gpu):
    made = [torch.zeros(2, device="cuda"), torch.ones(2).to(GPU), torch.eye(2, device=GPU).new_zeros(2)]
    made += [torch.tensor([1.0, 2.0], device=GPU), torch.as_tensor(3.0, device=GPU), made[0].new_tensor(1.0)]
    for tensor in made:
        assert tensor.device == GPU and tensor.is_cuda and isinstance(tensor, GpuTensor)
    assert torch.zeros(2).device.type == made[0].cpu().device.type == "cpu"


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).all()),
        lambda x: x.tolist(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0.5],
        lambda x: x.to("cpu"),
        lambda x: x.unique(),
        lambda x: torch.zeros(4).copy_(x),
    ],
)
def test_what_the_host_waits_for(gpu, read):
    x = torch.rand(4, device=GPU)
    gpu.reset()
    read(x)
    assert counts(gpu.asked)[1:] == (1, 0)


@pytest.mark.parametrize(
    "send",
    [
        lambda x: x + torch.tensor([1.0, 2, 3, 4], device=x.device),
        lambda x: x + torch.arange(4.0).to(x.device),
        lambda x: x.new_tensor([1.0]),
        lambda x: torch.as_tensor(2.0, device=x.device),
        lambda x: x[torch.tensor([1, 2])],
        lambda x: x.copy_(torch.ones(4)),
    ],
)
def test_what_is_copied_from_the_host(gpu, send):
    x = torch.rand(4, device=GPU)
    gpu.reset()
    send(x)
    assert counts(gpu.asked)[1:] == (0, 1)


def test_what_needs_neither_wait_nor_copy(gpu):
    x = torch.rand(4, device=GPU)
    gpu.reset()
    x[x > 0.5] = 0
    x[torch.arange(2, device=GPU)] = 7.0
    torch.where(x > 2, x, 1.0) * torch.tensor(2.0)
    torch.ones(4).pin_memory().to(GPU, non_blocking=True)
    assert counts(gpu.asked)[1:] == (0, 0)
    assert (x[:2] == 7).all()


def test_tensors_of_both_do_not_mix(gpu):
    with pytest.raises(RuntimeError, match="cuda:0 and on the host"):
        torch.ones(3, device=GPU) + torch.ones(3)


def test_a_training_step_gives_the_gradients_of_the_cpu(gpu):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    x = torch.rand(2, 3, 8, 8)
    network(x).square().sum().backward()
    expected = network[0].weight.grad.clone()
    network.zero_grad()
    network.to(GPU)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    x = x.to(GPU)
    gpu.reset()
    network(x).square().sum().backward()
    before = network[0].weight.cpu()
    optimizer.step()
    torch.testing.assert_close(before - network[0].weight.cpu(), expected)
    assert gpu.asked.kernels["convolution"] == gpu.asked.kernels["convolution_backward"] == 1
    assert counts(gpu.asked)[1:] == (2, 0)  # both look at the weight
