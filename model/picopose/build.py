"""Builds the network that a configuration names, with its weights."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import timm
import torch

from picopose.model.checkpoint import fit, read_checkpoint, weights_of
from picopose.model.folding import fold_batch_norms
from picopose.model.picopose.backbone import Dinov2, Pyramid
from picopose.model.picopose.network import PicoPose
from picopose.model.picopose.released import HALF_CELL, VIEWING_RAY, convert, is_released
from picopose.utils.config import ModelConfig
from picopose.utils.config_files import network_of
from picopose.utils.errors import InputError

LOG = logging.getLogger(__name__)
SCRATCH = "scratch"  # what `pretrained` is called where random weights are wanted


def build_network(
    *,
    backbone: str,
    pretrained: str | None,
    stride: int,
    size: int,
    dpt_channels: Sequence[int],
    features: int,
    width: int,
    half_cell: float,
    viewing_ray: bool,
    deep: bool = True,
) -> PicoPose:
    """A network with random weights but for its backbone, which `pretrained` may name; see `ModelConfig`.

    Raises:
        InputError: no such backbone, or one that does not fit the crops' size.
    """
    if not timm.is_model(backbone):
        raise InputError(
            f"option model.backbone={backbone}: timm has no such network; see timm.list_models()"
        )
    dinov2 = backbone.split(".")[0].endswith("dinov2")
    stride = 14 if dinov2 else stride
    pretrained = None if pretrained == SCRATCH else pretrained
    if size % (2 * stride):
        raise InputError(f"option model.size={size}: must be a multiple of {2 * stride}, two patches")
    return PicoPose(
        Dinov2(backbone, size=size, pretrained=pretrained)
        if dinov2
        else Pyramid(backbone, size=size, stride=stride, deep=deep, pretrained=pretrained),
        size=size,
        dpt_channels=dpt_channels,
        features=features,
        width=width,
        half_cell=half_cell,
        viewing_ray=viewing_ray,
    )


def prepare_network(config: ModelConfig, checkpoint: str | None) -> PicoPose:
    """The network of a configuration, ready to be used but not to be trained.

    Its weights are a checkpoint's, or seeded random ones, with a warning.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(**asdict(config))
    if checkpoint:
        load_network(network, Path(checkpoint))
    else:
        LOG.warning("no checkpoint given: the weights are random (seeded), so the poses mean nothing")
    return fold_batch_norms(network).to(memory_format=torch.channels_last)


def load_network(network: PicoPose, path: Path) -> None:
    """Fills a network with the weights of a checkpoint: one trained here, or the released one.

    Raises:
        InputError: no checkpoint, or one of another architecture; the message names the key.
    """
    checkpoint = read_checkpoint(path)
    if is_released(checkpoint):
        weights = convert(checkpoint, network.state_dict(), path)
        trained_with = {"half_cell": HALF_CELL, "viewing_ray": VIEWING_RAY}
    else:
        weights = weights_of(checkpoint, path)
        trained_with = network_of(checkpoint.get("config"), f"{path}: its config")
    network.floored = is_released(checkpoint)
    # These are no weights, so nothing else would tell that they differ.
    for name, value in (("half_cell", network.flow.half_cell), ("viewing_ray", network.viewing_ray)):
        if trained_with.get(name, value) != value:
            raise InputError(f"{path}: trained with model.{name}={trained_with[name]}; set it in the config")
    fit(network, weights, path)
