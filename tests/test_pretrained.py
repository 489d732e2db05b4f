"""The pretrained networks: our copies compute what the published ones do, and the shipped files are whole."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from picopose.model.drawn.xfeat import XFeat, load_xfeat
from picopose.model.folding import fold_batch_norms
from picopose.model.pretrained import IMAGENET, XFEAT
from picopose.model.rendermatch.imagenet import NAME, ImageNetFeatures, load_imagenet
from tools.convert_weights import convert_efficientnet, convert_xfeat

# Of the published XFeat: channels, filters, side of the kernel and stride of each layer.
LAYERS = {
    "block1": [(1, 4, 3, 1), (4, 8, 3, 2), (8, 8, 3, 1), (8, 24, 3, 2)],
    "block2": [(24, 24, 3, 1), (24, 24, 3, 1)],
    "block3": [(24, 64, 3, 2), (64, 64, 3, 1), (64, 64, 1, 1)],
    "block4": [(64, 64, 3, 2), (64, 64, 3, 1), (64, 64, 3, 1)],
    "block5": [(64, 128, 3, 2), (128, 128, 3, 1), (128, 128, 3, 1), (128, 64, 1, 1)],
    "block_fusion": [(64, 64, 3, 1), (64, 64, 3, 1)],
}


def published_xfeat(seed: int) -> dict[str, Tensor]:
    """A state dict with the published names and random numbers."""
    generator = torch.Generator().manual_seed(seed)

    def kernel(channels: int, filters: int, side: int) -> Tensor:
        size = (filters, channels, side, side)
        return torch.randn(size, generator=generator) * (2 / (channels * side**2)) ** 0.5

    weights = {}
    for block, layers in LAYERS.items():
        for index, (channels, filters, side, _) in enumerate(layers):
            layer = f"{block}.{index}.layer"
            size = torch.ones(filters)
            size[0] = 4e-3  # so small that the norms' epsilon counts
            variance = (0.5 + torch.rand(filters, generator=generator)) * size**2
            weights[f"{layer}.0.weight"] = kernel(channels, filters, side) * size[:, None, None, None]
            weights[f"{layer}.1.running_mean"] = 0.3 * torch.randn(filters, generator=generator) * size
            weights[f"{layer}.1.running_var"] = variance
            weights[f"{layer}.1.num_batches_tracked"] = torch.tensor(7)
    for name, channels, filters in (("skip1.1", 1, 24), ("block_fusion.2", 64, 64)):
        weights[f"{name}.weight"] = kernel(channels, filters, 1)
        weights[f"{name}.bias"] = torch.randn(filters, generator=generator)
    return weights | {"heatmap_head.0.layer.0.weight": kernel(64, 64, 1)}  # of no use here


def published_forward(weights: dict[str, Tensor], grey: Tensor) -> Tensor:
    """XFeat's descriptors as published, with its batch norms."""

    def block(name: str, maps: Tensor) -> Tensor:
        for index, (*_, side, stride) in enumerate(LAYERS[name]):
            layer = f"{name}.{index}.layer"
            maps = F.conv2d(maps, weights[f"{layer}.0.weight"], stride=stride, padding=(side - 1) // 2)
            mean, variance = (weights[f"{layer}.1.running_{key}"] for key in ("mean", "var"))
            maps = F.relu(F.batch_norm(maps, mean, variance, eps=1e-5))
        return maps

    mean = grey.mean((2, 3), keepdim=True)
    grey = (grey - mean) / (grey.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    skip = F.conv2d(F.avg_pool2d(grey, 4), weights["skip1.1.weight"], weights["skip1.1.bias"])
    eighth = block("block3", block("block2", block("block1", grey) + skip))
    sixteenth = block("block4", eighth)
    sum_of_scales = eighth
    for maps in (sixteenth, block("block5", sixteenth)):
        sum_of_scales = sum_of_scales + F.interpolate(
            maps, eighth.shape[-2:], mode="bilinear", align_corners=False
        )
    weight, bias = (weights[f"block_fusion.2.{key}"] for key in ("weight", "bias"))
    found = F.conv2d(block("block_fusion", sum_of_scales), weight, bias)
    return found / found.norm(dim=1, keepdim=True)


@torch.inference_mode()
def test_xfeat_equals_the_published_network_with_its_batch_norms():
    for seed in range(3):
        weights = published_xfeat(seed)
        network = XFeat().eval()
        network.load_state_dict(convert_xfeat(weights))
        grey = torch.rand(2, 1, 64, 96, generator=torch.Generator().manual_seed(seed))
        ours = network(grey)
        assert ours.shape == (2, 64, 8, 12)
        assert ours.std(dim=(2, 3)).mean() > 0.01  # else equality would say little
        torch.testing.assert_close(ours, published_forward(weights, grey), atol=1e-5, rtol=0)


def randomised(network: nn.Module, seed: int) -> nn.Module:
    """A network whose batch norms do something."""
    generator = torch.Generator().manual_seed(seed)
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        for values, low, high in (
            (norm.running_mean, -0.3, 0.3),
            (norm.running_var, 0.5, 1.5),
            (norm.weight.data, 0.7, 1.5),
            (norm.bias.data, -0.3, 0.3),
        ):
            values.copy_(low + (high - low) * torch.rand(values.shape, generator=generator))
    return network.eval()


@torch.inference_mode()
def test_imagenet_features_equal_timms():
    torch.manual_seed(0)
    whole = randomised(timm.create_model(NAME), 0)
    network = ImageNetFeatures().eval()
    network.load_state_dict(convert_efficientnet(whole.state_dict()))
    timms = timm.create_model(NAME, features_only=True, out_indices=(2, 3)).eval()
    assert not timms.load_state_dict(whole.state_dict(), strict=False).missing_keys
    rgb = torch.rand(2, 3, 64, 96)
    fine, coarse = timms((rgb - 0.5) / 0.5)
    torch.testing.assert_close(network.fine(rgb), fine, atol=1e-4, rtol=1e-4)
    for ours, theirs, shape in zip(network(rgb), (fine, coarse), ((40, 8, 12), (112, 4, 6)), strict=True):
        assert ours.shape[1:] == shape
        torch.testing.assert_close(ours, theirs / theirs.norm(dim=1, keepdim=True), atol=1e-5, rtol=0)


def test_weights_of_another_network_are_not_converted():
    weights = timm.create_model(NAME).state_dict()
    weights["conv_stem.weight"] = torch.zeros(8, 3, 3, 3)
    with pytest.raises(ValueError, match=r"conv_stem\.weight"):
        convert_efficientnet(weights)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("path", "network", "load", "count", "channels"),
    [(XFEAT, XFeat, load_xfeat, 634192, 1), (IMAGENET, ImageNetFeatures, load_imagenet, 716961, 3)],
)
def test_the_shipped_weights_are_whole_and_folding_keeps_what_they_say(path, network, load, count, channels):
    weights = load_file(path)
    assert sum(values.numel() for values in weights.values()) == count
    assert all(values.isfinite().all() for values in weights.values())
    plain = network().eval()
    plain.load_state_dict(weights, strict=True)
    ready = load()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in ready.modules())
    assert not ready.training
    image = torch.rand(2, channels, 64, 64, generator=torch.Generator().manual_seed(0))
    for ours, theirs in zip(ready(image), plain(image), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "left"),
    # One norm of the first does not directly follow a convolution; those of the second hold activations.
    [("resnet10t", 1), (NAME, 0)],
)
def test_folding_keeps_the_outputs_of_timms_networks(name, left):
    torch.manual_seed(0)
    network = randomised(timm.create_model(name), 1)
    folded = fold_batch_norms(copy.deepcopy(network))
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == left
    image = torch.randn(1, 3, 64, 64)
    expected = network(image)
    assert (folded(image) - expected).abs().max() < 1e-4 * expected.abs().max()


@torch.inference_mode()
def test_the_descriptors_mind_no_light_but_where_they_are():
    """A photo shifted by whole cells, darker and of less contrast: most cells still match their own."""
    generator = torch.Generator().manual_seed(0)
    photo = F.avg_pool2d(torch.rand(1, 1, 288, 256, generator=generator), 3, 1, 1)
    network = load_xfeat()
    first, second = (network(image)[0] for image in (photo[..., :256, :], 0.4 * photo[..., 32:, :] + 0.1))
    above, below = first[:, 4:].flatten(1), second[:, :-4].flatten(1)
    nearest = (above.T @ below).argmax(1)
    assert (nearest == torch.arange(len(nearest))).float().mean() > 0.9
