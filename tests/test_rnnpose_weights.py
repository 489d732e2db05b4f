"""RNNPose's checkpoints on disk: released ones and those of its own, and those that are refused."""

from collections import OrderedDict
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from picopose.model.rnnpose.network import RNNPose, Sizes
from picopose.model.rnnpose.options import Options
from picopose.model.rnnpose.quirks import MENDED, RELEASED
from picopose.model.rnnpose.weights import Weights, load_network
from picopose.utils.config import Config
from picopose.utils.config_files import to_yaml
from picopose.utils.errors import InputError
from tests.rnnpose_golden import released_refiner, rule_weights

SMALL = Sizes(patch=64, zoom=64, width=8, descriptor=8)
VERTICES = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0, 0.1, 0.02], [0, 0, 0.1]])


@pytest.fixture(scope="module")
def released() -> dict[str, Tensor]:
    return rule_weights()


def refused(path: Path, options: Options | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load_network(path, options or Options())
    message = str(caught.value)
    assert "\n" not in message and path.name in message and "--" not in message
    return message


# Released


def test_a_released_checkpoint_is_loaded(released, tmp_path):
    path = tmp_path / "ape.tckpt"
    torch.save(OrderedDict(released), path)
    network, options = load_network(path, Options(network=SMALL))
    expected = released_refiner().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())
    assert options.network == Sizes() and network.quirks == RELEASED
    assert not network.training and not network.knows_its_object
    assert network.is_of(VERTICES)  # for all that it tells


def test_quirks_of_released_weights_may_be_mended_one_by_one(released, tmp_path):
    path = tmp_path / "ape.tckpt"
    torch.save(released, path)
    network, _ = load_network(path, Options(quirks=["dark_images", "loose_pixels"]))
    assert network.quirks.dark_images and network.quirks.loose_pixels
    assert not network.quirks.camera_twist


def test_damaged_checkpoints_are_refused(released, tmp_path):
    path = tmp_path / "ape.tckpt"
    torch.save(released, path)
    whole = path.read_bytes()
    for size in (10, len(whole) // 2, len(whole) - 100):
        path.write_bytes(whole[:size])
        assert "truncated" in refused(path) or "no checkpoint" in refused(path)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    path.write_bytes(flipped)
    assert "is damaged" in refused(path)
    path.unlink()
    assert "no such checkpoint" in refused(path)


def test_nothing_in_a_checkpoint_is_executed(released, tmp_path):
    class Planted:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    path = tmp_path / "ape.tckpt"
    for guest in (Planted(), Fraction(1, 3)):
        torch.save(released | {"motion_net.sigma.0": guest}, path)
        assert "holds objects other than tensors" in refused(path)
    assert not (tmp_path / "executed").exists()


SIGMA, CONV = "motion_net.sigma.0", "motion_net.image_fea_enc.fnet.conv1.weight"


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        (SIGMA, None, "lacks "),
        (CONV, None, "lacks encoder.stem.weight"),
        (CONV, torch.zeros(64, 3, 3, 3), f"{CONV} has shape (64, 3, 3, 3) instead of (64, 3, 7, 7)"),
        ("motion_net.more", torch.zeros(1), "has unknown motion_net.more"),
        (SIGMA, [1.0], "lacks "),
        (SIGMA, torch.tensor([torch.nan]), "NaN or infinite"),
    ],
)
def test_checkpoints_of_other_networks_are_refused(released, tmp_path, key, value, told):
    path = tmp_path / "ape.tckpt"
    changed = {**released, key: value}
    if value is None:
        del changed[key]
    torch.save(changed, path)
    assert told in refused(path)


# Of one's own


def own(tmp_path: Path, weights: dict | None = None, **options) -> tuple[Path, RNNPose]:
    """A file as training leaves it, but for some options in it, and its network."""
    network, path = RNNPose(SMALL, MENDED, vertices=VERTICES), tmp_path / "own.pt"
    config = Config(options={"rnnpose": {"network": asdict(SMALL)} | options})
    torch.save({"model": network.state_dict() | (weights or {}), "config": to_yaml(config)}, path)
    return path, network


def test_an_own_checkpoint_brings_its_options(tmp_path):
    path, network = own(tmp_path)
    loaded, options = load_network(path, Options())
    assert options.network == SMALL and loaded.sizes == SMALL and loaded.quirks == MENDED
    ours, theirs = network.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, ours[name]) for name, value in theirs.items())


def test_an_own_checkpoint_keeps_to_its_quirks(tmp_path):
    path, _ = own(tmp_path, quirks=["camera_twist"])
    network, _ = load_network(path, Options())
    assert network.quirks.camera_twist and not network.quirks.dark_images
    assert load_network(path, Options(quirks=["camera_twist"]))[0].quirks == network.quirks
    assert "trained with" in refused(path, Options(quirks=["all"]))


def test_an_own_checkpoint_of_other_sizes_is_refused(tmp_path):
    path, _ = own(tmp_path, network=asdict(SMALL) | {"width": 16})
    assert "has shape" in refused(path)


@pytest.mark.parametrize(
    "vertices", [torch.tensor(1.0), torch.zeros(4), torch.zeros(4, 2), torch.zeros(4, 3, 1)]
)
def test_an_own_checkpoint_of_odd_vertices_is_refused(tmp_path, vertices):
    path, _ = own(tmp_path, {"vertices": vertices})
    assert "vertices" in refused(path)


def test_a_checkpoint_without_its_configuration_is_refused(tmp_path):
    path, network = own(tmp_path)
    torch.save({"model": network.state_dict()}, path)
    assert "its own configuration" in refused(path)


def test_a_network_knows_its_object_wherever_that_has_its_origin(tmp_path):
    network, _ = load_network(own(tmp_path)[0], Options())
    assert network.is_of(VERTICES) and network.is_of(VERTICES + 0.3)
    moved = VERTICES.clone()
    moved[1, 0] += 1e-3
    assert not network.is_of(moved)
    assert not network.is_of(VERTICES[:3])
    assert not network.is_of(VERTICES[[1, 0, 2, 3]])


# Which file


def test_a_folder_has_a_file_for_each_object(tmp_path):
    for name in ("ape.tckpt", "obj_000005.pt"):
        (tmp_path / name).touch()
    weights = Weights(tmp_path)
    assert weights.of(["1", "obj_1", "ape"]) == tmp_path / "ape.tckpt"
    assert weights.of(["obj_000005"]) == tmp_path / "obj_000005.pt"
    assert weights.of(["cat"]) is None
    alone = Weights(tmp_path / "ape.tckpt")
    assert alone.of(["cat"]) == alone.of(["ape"]) == tmp_path / "ape.tckpt"


def test_a_folder_without_a_file_for_any_object_is_refused_before_the_run(tmp_path):
    with pytest.raises(InputError, match=r"holds no checkpoint .* pass a folder with a file for each object"):
        Weights(tmp_path)
    with pytest.raises(
        InputError, match=r"ape\.tckpt: no such checkpoint; pass the path of an existing file"
    ):
        Weights(tmp_path / "ape.tckpt")
