"""Builds the network that a configuration names and fills it with weights from a file."""

from collections.abc import Sequence
from pathlib import Path

import torch

from model.backbone import Dinov2
from model.picopose import PicoPose
from model.released import convert, is_released
from utils.checkpoint import fit, read_checkpoint, weights_of


def build_network(
    *,
    backbone: str,
    pretrained: str | None,
    size: int,
    dpt_channels: Sequence[int],
    features: int,
    width: int,
    half_cell: float,
    viewing_ray: bool,
) -> PicoPose:
    """A network with random weights but for its backbone, which `pretrained` may name; see `ModelConfig`."""
    return PicoPose(
        Dinov2(backbone, size=size, pretrained=pretrained),
        size=size,
        dpt_channels=dpt_channels,
        features=features,
        width=width,
        half_cell=half_cell,
        viewing_ray=viewing_ray,
    )


def load_network(network: PicoPose, path: Path) -> None:
    """Fills a network with the weights of a checkpoint: one trained here, or the released one.

    Raises:
        InputError: no checkpoint, or one of another architecture; the message names the key.
    """
    checkpoint = read_checkpoint(path)
    if is_released(checkpoint):
        weights = convert(checkpoint, network.state_dict(), path)
    else:
        weights = weights_of(checkpoint, path)
    fit(network, weights, path)


def randomise(network: PicoPose, seed: int) -> None:
    """Seeded random weights, for runs without trained ones: poses are then meaningless."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            std = parameter[0].numel() ** -0.5
            parameter.data = std * torch.randn(parameter.shape, generator=generator)
