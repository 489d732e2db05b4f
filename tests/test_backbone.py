"""The convolutional backbone: pretrained stages from a file, its colours, and what training leaves."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from picopose.model.checkpoint import fit, read_checkpoint
from picopose.model.picopose.backbone import Dinov2, Pyramid
from picopose.model.rendermatch.imagenet import ImageNetFeatures
from picopose.utils.errors import InputError

NAME = "tf_efficientnet_lite0"
FILE = Path(__file__).resolve().parent.parent / "data/weights/efficientnet_lite0.safetensors"


@pytest.fixture(scope="module")
def rgb() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_maps_are_those_of_the_published_stages(rgb):
    shallow, middle, joined = Pyramid(NAME, size=64, deep=False, pretrained=str(FILE)).eval()(rgb)
    other = ImageNetFeatures().eval()
    fit(other, read_checkpoint(FILE), FILE)
    fine = other.fine(rgb)
    assert torch.allclose(shallow, fine, atol=1e-4)
    assert torch.allclose(middle, other.stages[3:](fine), atol=1e-4)
    assert joined.shape == (2, Pyramid.JOINED_CHANNELS, 4, 4)


def test_deeper_stages_begin_at_random_and_can_be_left_out(rgb):
    deep, shallow = (Pyramid(NAME, size=64, deep=deep, pretrained=str(FILE)).eval() for deep in (True, False))
    assert deep.join.in_channels == 112 + 320 and shallow.join.in_channels == 112
    sizes = [sum(parameter.numel() for parameter in network.body.parameters()) for network in (deep, shallow)]
    assert sizes[1] < sizes[0] / 3
    with torch.inference_mode():
        assert torch.allclose(deep(rgb)[1], shallow(rgb)[1], atol=1e-5)


def test_a_whole_file_under_timms_names_is_read_too(tmp_path, rgb):
    torch.manual_seed(0)
    body = timm.create_model(NAME, features_only=True)
    save_file(body.state_dict(), tmp_path / "whole.safetensors")
    read = Pyramid(NAME, size=64, pretrained=str(tmp_path / "whole.safetensors"))
    for name, value in body.state_dict().items():
        assert torch.equal(read.body.state_dict()[name], value)


def test_a_file_of_another_network_is_refused():
    with pytest.raises(InputError, match="unknown"):
        Pyramid("resnet10t", size=64, pretrained=str(FILE))


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        (NAME, ("conv_stem", "bn1", "blocks.0.", "blocks.1.", "blocks.2.")),
        ("resnet10t", ("conv1", "bn1", "layer1.", "layer2.")),
    ],
)
def test_what_is_frozen_learns_nothing_and_what_follows_does(rgb, name, kept):
    network = Pyramid(name, size=64, deep=False)
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:  # ResNets begin with some of 0, and nothing before those would learn
        torch.nn.init.ones_(norm.weight)
    network.freeze()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network.train()
    network(rgb)[-1].square().sum().backward()
    optimizer.step()
    after = network.state_dict()
    changed = {key for key in before if not torch.equal(after[key], before[key])}
    frozen = {key for key in before if key.removeprefix("body.").startswith(kept)}
    assert frozen and not changed & frozen
    assert before.keys() - frozen == changed


def test_dinov2_cannot_be_frozen():
    with pytest.raises(InputError, match="frozen"):
        Dinov2("vit_small_patch14_dinov2", size=28).freeze()
