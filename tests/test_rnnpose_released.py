"""Released RNNPose checkpoints: read from files in their format, and refused in a line that names the key."""

from pathlib import Path

import pytest
import torch

from picopose.model.checkpoint import fit, read_checkpoint
from picopose.model.rnnpose.released import convert, is_released
from picopose.utils.errors import InputError
from tests.rnnpose_golden import Networks, original_names, rule_weights

SOURCE = Path("ape.tckpt")


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return rule_weights()


@pytest.fixture(scope="module")
def network() -> Networks:
    return Networks()


def test_checkpoint_file_is_read_and_fits(network, weights, tmp_path):
    path = tmp_path / "ape.tckpt"
    torch.save(weights, path)
    content = read_checkpoint(path)
    assert is_released(content)
    fit(network, convert(content, network.state_dict(), path), path)
    assert not is_released(network.state_dict())


def test_names_are_told_apart_and_known(network):
    names = original_names()
    assert names.keys() == network.state_dict().keys()
    assert len(set(names.values())) == len(names) == 195


def test_released_network_without_the_heads_of_saliency(network):
    parameters = sum(weight.numel() for weight in network.parameters())
    kernel_points = sum(buffer.numel() for buffer in network.buffers())
    saliency, constants, unread_rows = 295_425, 2, 2 * 2 * 160
    assert kernel_points == 2 * 495
    assert parameters + kernel_points == 16_521_442 - saliency - constants - unread_rows


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("motion_net.sigma.0", None, "ape.tckpt: lacks sigma"),
        ("motion_net.extra.weight", torch.zeros(2), "has unknown motion_net.extra.weight"),
        (
            "motion_net.cf_net.update_block.encoder.convc1.weight",
            torch.zeros(256, 100, 1, 1),
            r"convc1.weight has shape \(256, 100, 1, 1\) instead of \(256, 324, 1, 1\)",
        ),
        (
            "ctx_fea_net.context_fea_extractor_3d.decoder_blocks.5.mlp.weight",
            torch.zeros(34, 160),
            r"ctx_fea_net.context_fea_extractor_3d.decoder_blocks.5.mlp.weight has shape \(34, 160\)",
        ),
        (
            "hybrid_desc_net.corr_fea_extractor_3d.bottle.weight",
            torch.tensor(1.0),
            r"hybrid_desc_net.corr_fea_extractor_3d.bottle.weight has shape \(\) instead of \(128, 1024\)",
        ),
    ],
)
def test_other_weights_are_refused(network, weights, key, value, message):
    changed = {**weights, key: value}
    if value is None:
        del changed[key]
    with pytest.raises(InputError, match=message):
        convert(changed, network.state_dict(), SOURCE)
