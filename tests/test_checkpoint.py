"""Checkpoints that are damaged, of another network, or used with other conventions."""

import io
import pickle

import numpy as np
import pytest
import torch

from model.factory import build_network, load_network, prepare_network
from model.picopose import PicoPose
from tests.golden import rule_weights
from utils.checkpoint import read_checkpoint
from utils.config import ModelConfig
from utils.errors import InputError

SMALL = ModelConfig(backbone="resnet10t", size=64, dpt_channels=[32, 32, 32], features=32, width=32)


def small_network() -> PicoPose:
    return prepare_network(SMALL, None)


def legacy_file() -> bytes:
    content = io.BytesIO()
    weights = {"model": {"weight": torch.arange(500.0)}}
    torch.save(weights, content, _use_new_zipfile_serialization=False)
    return content.getvalue()


def zip_file() -> bytes:
    content = io.BytesIO()
    torch.save({"model": {"weight": torch.arange(500.0)}}, content)
    return content.getvalue()


def damaged(kind: str, rng: np.random.Generator) -> bytes:
    if kind == "text":
        return bytes(rng.integers(32, 127, rng.integers(1, 60)).astype(np.uint8))
    if kind == "bytes":
        return bytes(rng.integers(0, 256, rng.integers(1, 200)).astype(np.uint8))
    whole = legacy_file() if "legacy" in kind else zip_file()
    return whole[: rng.integers(1, len(whole) - 1)]


@pytest.mark.parametrize("kind", ["text", "bytes", "truncated legacy", "truncated zip"])
def test_damaged_files_are_refused_by_name(tmp_path, kind):
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.ckpt"
    for _ in range(60):
        path.write_bytes(damaged(kind, rng))
        with pytest.raises(InputError, match=r"damaged\.ckpt"):
            read_checkpoint(path)


def test_a_file_of_something_else(tmp_path):
    path = tmp_path / "list.pt"
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="list"):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps({"a": 1}, protocol=4))
    with pytest.raises(InputError, match="list"):
        load_network(small_network(), path)


def test_the_released_network_does_not_fit_a_small_one(tmp_path):
    path = tmp_path / "released.ckpt"
    torch.save({"state_dict": {"network.anything": torch.zeros(3)}}, path)
    with pytest.raises(InputError, match=r"config/base\.yaml"):
        load_network(small_network(), path)


def test_released_weights_refuse_other_conventions(tmp_path):
    path = tmp_path / "released.ckpt"
    torch.save({"state_dict": {"network." + k: v for k, v in rule_weights("vits14").items()}}, path)
    released = {"backbone": "vit_small_patch14_dinov2", "pretrained": None, "stride": 16, "size": 224}
    widths = {"dpt_channels": [512, 1024, 1024], "features": 256, "width": 256}
    for half_cell, viewing_ray, named in ((0.0, False, "half_cell"), (0.5, True, "viewing_ray")):
        network = build_network(**released, **widths, half_cell=half_cell, viewing_ray=viewing_ray)
        with pytest.raises(InputError, match=named):
            load_network(network, path)
    load_network(build_network(**released, **widths, half_cell=0.5, viewing_ray=False), path)


def test_our_own_checkpoints_know_their_conventions(tmp_path):
    path, network = tmp_path / "ours.pt", small_network()
    torch.save({"model": network.state_dict(), "config": "model:\n  viewing_ray: false\n"}, path)
    with pytest.raises(InputError, match="viewing_ray"):
        load_network(small_network(), path)
    torch.save({"model": network.state_dict(), "config": "model:\n  viewing_ray: true\n"}, path)
    load_network(small_network(), path)


@pytest.mark.parametrize("kind", ["missing", "extra", "shape"])
def test_keys_that_do_not_fit_are_named(tmp_path, kind):
    path, network = tmp_path / "ours.pt", small_network()
    weights = network.state_dict()
    key = "affine.features.0.weight"
    if kind == "missing":
        del weights[key]
    elif kind == "extra":
        weights[key := "affine.unknown"] = torch.zeros(1)
    else:
        weights[key] = weights[key][:1]
    torch.save({"model": weights}, path)
    with pytest.raises(InputError, match=key.replace(".", r"\.")):
        load_network(network, path)
