"""Converts the released DualPoseNet variables, of TensorFlow, into this project's weights."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from picopose.model.checkpoint import check_keys
from picopose.model.dualposenet.tensorflow_checkpoint import read_variables

# What training alone needs: the running means of Adam, and counters.
UNUSED = re.compile(r".*/Adam(_1)?$|beta[12]_power$|global_step$")

STREAM = {"dis": "distance", "rgb": "colour"}
HEAD = {"rot": "rotation", "trans": "translation", "scale": "size"}
PLACE = {"0": "0.0", "1": "0.1", "2": "0.2", "4": "1.0", "6": "2.0"}  # of a stream's convolutions
LAST = {"W": "weight", "b": "bias", "kernel": "weight", "bias": "bias"}

RENAMED = [
    (r"encoder/(dis|rgb)_conv([01246])/", lambda m: f"encoder.{STREAM[m[1]]}_stream.{PLACE[m[2]]}."),
    (r"encoder/fusion_conv([357])/", lambda m: f"encoder.fusions.{int(m[1]) // 2 - 1}."),
    (r"encoder/flatten_conv([357])/", lambda m: f"encoder.flatten.{int(m[1]) // 2 - 1}."),
    (r"encoder/fc([12])/", lambda m: f"encoder.head.{2 * int(m[1]) - 2}."),
    (
        r"explicit_decoder/(rot|trans|scale)_fc([123])/",
        lambda m: f"explicit.{HEAD[m[1]]}.{2 * int(m[2]) - 2}.",
    ),
    (r"implicit_decoder/conv([1234])/", lambda m: f"implicit.layers.{2 * int(m[1]) - 2}."),
    (r"(.*\.)Variable$", r"\1slope"),
    (r"(.*\.)(?:sphconv/|dense/|conv1d/)?(W|b|kernel|bias)$", lambda m: m[1] + LAST[m[2]]),
]


def read_released(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in a released checkpoint, see `tensorflow_checkpoint.read_variables` and `convert`."""
    variables = read_variables(path, lambda name: not UNUSED.match(name))
    return convert(variables, expected, path)


def convert(
    variables: Mapping[str, np.ndarray], expected: Mapping[str, Tensor], source: Path
) -> dict[str, Tensor]:
    """The released variables under this project's names and in its order.

    Args:
        variables: arrays of a checkpoint by TensorFlow's names, without those of the optimizer.
        expected: the state dict of a `DualPoseNet` of the same sizes.
        source: the file's path, for messages.

    Raises:
        InputError: a variable is missing, unknown or of another shape; the message names it as in the file.
    """
    original = {rename(name): name for name in variables}
    weights = {ours: reordered(name, variables[name]) for ours, name in original.items()}
    check_keys(
        {original.get(name, name): tuple(value.shape) for name, value in expected.items()},
        {original[name]: value for name, value in weights.items()},
        source,
    )
    return weights


def rename(name: str) -> str:
    """This project's name of a released variable; unknown names stay."""
    for pattern, replacement in RENAMED:
        name = re.sub("^" + pattern, replacement, name)
    return name


def reordered(name: str, values: np.ndarray) -> Tensor:
    """A variable in this project's order.

    Filters (inputs, anchors, outputs) begin with the anchors here, kernels (inputs, outputs) are transposed;
    maps are flattened in the same order.
    """
    if name.endswith("/W") and values.ndim == 3:
        values = values.transpose(1, 0, 2)
    elif name.endswith("/kernel"):
        values = values.reshape(values.shape[-2:]).T if values.shape[:-2] in ((), (1,)) else values
    elif name.endswith("/b"):
        values = values.reshape(-1)
    return torch.from_numpy(np.ascontiguousarray(values))
