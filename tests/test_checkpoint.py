"""Checkpoints that are damaged, of another network, or used with other conventions."""

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch

from picopose.model.checkpoint import read_checkpoint, take_up
from picopose.model.picopose.build import build_network, load_network, prepare_network
from picopose.model.picopose.network import PicoPose
from picopose.pipeline.estimator import PoseEstimator
from picopose.utils.config import ModelConfig
from picopose.utils.errors import InputError
from tests.golden import rule_weights

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


def saved(path, **changes):
    """A checkpoint of the small network with some of its weights replaced."""
    weights = small_network().state_dict() | changes
    torch.save({"model": weights}, path)
    return path


WEIGHT = "affine.features.0.weight"


def of_weight(change):
    """The network's weight `WEIGHT`, changed."""
    return {WEIGHT: change(small_network().state_dict()[WEIGHT].contiguous())}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w * float("nan"), f"holds weights that are NaN or infinite: {WEIGHT}; pass an earlier"),
        (lambda w: w + float("inf"), "holds weights that are NaN or infinite"),
        (lambda w: w.to_sparse(), f"{WEIGHT} holds a sparse tensor"),
        (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), f"{WEIGHT} holds quantised numbers"),
        (lambda w: w.to("meta"), f"{WEIGHT} holds no numbers, only a shape"),
        (lambda w: w.to(torch.complex64), f"{WEIGHT} holds complex numbers"),
        (lambda w: w.to(torch.int8), f"{WEIGHT} holds integers"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of kinds of tensors that it gives up
def test_weights_that_nothing_can_be_computed_with(tmp_path, change, reason):
    path = saved(tmp_path / "odd.pt", **of_weight(change))
    with pytest.raises(InputError) as raised:
        load_network(small_network(), path)
    assert str(raised.value).startswith(f"{path}: ") and reason in str(raised.value)


def test_half_precision_is_no_other_kind(tmp_path):
    load_network(small_network(), saved(tmp_path / "half.pt", **of_weight(torch.Tensor.half)))


def test_bytes_that_have_changed_are_found(tmp_path):
    path = saved(tmp_path / "a.pt")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(12):
        content = bytearray(whole)
        for place in rng.integers(0, len(content), 30):
            content[place] ^= int(rng.integers(1, 256))
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.pt: "):
            load_network(small_network(), path)


def test_a_file_that_would_grow_is_refused(tmp_path):
    path = saved(tmp_path / "a.pt")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/more", bytes(1 << 20))
    with pytest.raises(InputError, match="no file of torch's, which are not compressed"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "content", [{"state_dict": [1]}, {"model": None}, {"model": {1: torch.zeros(1)}}, {}]
)
def test_what_holds_no_weights(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"a\.pt: holds no weights"):
        load_network(small_network(), tmp_path / "a.pt")


def test_a_checkpoint_that_does_not_say_its_network(tmp_path):
    with pytest.raises(InputError, match=r"a\.pt: does not say of which network it is; give its config"):
        PoseEstimator(saved(tmp_path / "a.pt"))


def gathered(change) -> dict:
    """The state of an optimizer of one parameter after a step, changed."""
    weight = torch.nn.Parameter(torch.ones(2, 3))
    optimizer = torch.optim.AdamW([weight])
    weight.square().sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    change(state)
    return state


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["state"][0]["exp_avg"].fill_(float("nan")),
        lambda state: state["state"][0]["step"].fill_(float("inf")),
        lambda state: state["state"][0].update(exp_avg_sq=torch.ones(3, 2)),
        lambda state: state["state"].update({0: "x"}),
        lambda state: state.pop("state"),
    ],
)
def test_a_damaged_state_of_an_optimizer_is_refused(tmp_path, change):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2, 3))])
    with pytest.raises(InputError, match=r"a\.pt: the state of its optimizer is damaged .*; pass another"):
        take_up(optimizer, gathered(change), tmp_path / "a.pt")


def test_the_state_of_an_optimizer_comes_back(tmp_path):
    state = gathered(lambda state: None)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2, 3))])
    take_up(optimizer, state, tmp_path / "a.pt")
    assert optimizer.state_dict()["state"][0]["exp_avg"].equal(state["state"][0]["exp_avg"])
