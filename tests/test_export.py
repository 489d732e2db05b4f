"""The file that is shipped holds what was trained, to half precision, and nothing that it should not."""

import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from picopose.commands import export as command
from picopose.model.checkpoint import read_checkpoint
from picopose.model.picopose import export
from picopose.model.picopose.build import build_network, load_network
from picopose.model.picopose.network import PicoPose
from picopose.utils.config import Config, ModelConfig
from picopose.utils.config_files import to_yaml
from picopose.utils.errors import InputError

SMALL = ModelConfig(backbone="resnet10t", size=64, dpt_channels=[32, 32, 32], features=32, width=32)


def trained_network() -> PicoPose:
    """Random weights, and statistics as if batches had been seen."""
    network = build_network(**asdict(SMALL))
    generator = torch.Generator().manual_seed(1)
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.1)
        elif name.endswith("num_batches_tracked"):
            buffer.fill_(123_457)  # an odd number that float16 does not have
    return network


def snapshot_of(network: PicoPose, **changes) -> dict:
    optimizer = torch.optim.AdamW(network.parameters()).state_dict()
    content = {"model": network.state_dict(), "optimizer": optimizer, "step": 321, "best": 1.5}
    return content | {"config": to_yaml(Config(model=SMALL))} | changes


def saved(path: Path, content: dict) -> Path:
    torch.save(content, path)
    return path


def test_the_network_comes_back_to_half_precision(tmp_path):
    network, out = trained_network(), tmp_path / "new" / "small.pt"
    content = snapshot_of(network)
    export.export(saved(tmp_path / "step.pt", content), out)
    loaded = build_network(**asdict(SMALL))
    load_network(loaded, out)
    for name, value in network.state_dict().items():
        found = loaded.state_dict()[name]
        assert found.dtype == value.dtype
        if value.is_floating_point():
            assert torch.allclose(found, value, rtol=2**-11, atol=2**-25), name
        else:
            assert torch.equal(found, value), name
    written = read_checkpoint(out)
    assert written.keys() == {"model", "config", "step"}
    assert (written["step"], written["config"]) == (321, content["config"])
    assert list(out.parent.iterdir()) == [out]


def test_it_takes_half_the_room(tmp_path):
    network, out = trained_network(), tmp_path / "small.pt"
    whole = saved(tmp_path / "whole.pt", {"model": network.state_dict()})
    export.export(saved(tmp_path / "step.pt", snapshot_of(network)), out)
    assert 0.5 < out.stat().st_size / whole.stat().st_size < 0.52


def test_a_slim_file_can_be_slimmed_again_and_is_the_same(tmp_path):
    first, second = tmp_path / "first.pt", tmp_path / "second.pt"
    export.export(saved(tmp_path / "step.pt", snapshot_of(trained_network())), first)
    export.export(first, second)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("value", [1e5, -7e4, float("nan")])
def test_numbers_that_do_not_fit_are_refused_by_name(tmp_path, value):
    content, name, out = snapshot_of(trained_network()), "affine.features.0.weight", tmp_path / "out.pt"
    content["model"][name].view(-1)[3] = value
    with pytest.raises(InputError, match=rf"step\.pt: {name}"):
        export.export(saved(tmp_path / "step.pt", content), out)
    assert not out.exists()


@pytest.mark.parametrize("key", ["model", "config", "step"])
def test_what_is_no_snapshot_is_one_line(monkeypatch, capsys, tmp_path, key):
    content = snapshot_of(trained_network())
    del content[key]
    path = saved(tmp_path / "other.pt", content)
    monkeypatch.setattr(sys, "argv", ["export", str(path), str(tmp_path / "out.pt")])
    with pytest.raises(SystemExit) as exit_info:
        command.main()
    assert exit_info.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}: holds no {key}")


def test_other_conventions_are_still_refused(tmp_path):
    out = tmp_path / "small.pt"
    export.export(saved(tmp_path / "step.pt", snapshot_of(trained_network())), out)
    other = build_network(**asdict(SMALL) | {"viewing_ray": False})
    with pytest.raises(InputError, match="viewing_ray"):
        load_network(other, out)
