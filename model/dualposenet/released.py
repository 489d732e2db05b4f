"""Converts the released DualPoseNet variables, of TensorFlow, into this project's weights."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from picopose.model.checkpoint import fit
from picopose.model.dualposenet.network import DualPoseNet, Sizes
from picopose.model.dualposenet.tensorflow_checkpoint import read_variables
from picopose.model.released_weights import check_renamed, rename
from picopose.utils.errors import InputError
from picopose.utils.files import write_atomically

SUFFIX = ".safetensors"

# What training alone needs: the running means of Adam, and counters.
UNUSED = re.compile(r".*/Adam(_1)?$|beta[12]_power$|global_step$")

STREAM = {"distance": "dis", "colour": "rgb"}
HEAD = {"rotation": "rot", "translation": "trans", "size": "scale"}
CONVOLUTION = {"0.0": 0, "0.1": 1, "0.2": 2, "1.0": 4, "2.0": 6}  # of a stream

ORIGINAL = [  # of this project's names, since a message names also what a file lacks as it would be there
    (
        r"encoder\.(distance|colour)_stream\.(\d\.\d)\.",
        lambda m: f"encoder/{STREAM[m[1]]}_conv{CONVOLUTION[m[2]]}/",
    ),
    (r"encoder\.(fusion|flatten)s?\.(\d)\.", lambda m: f"encoder/{m[1]}_conv{2 * int(m[2]) + 3}/"),
    (r"encoder\.head\.(\d)\.", lambda m: f"encoder/fc{int(m[1]) // 2 + 1}/"),
    (
        r"explicit\.(rotation|translation|size)\.(\d)\.",
        lambda m: f"explicit_decoder/{HEAD[m[1]]}_fc{int(m[2]) // 2 + 1}/",
    ),
    (r"implicit\.layers\.(\d)\.", lambda m: f"implicit_decoder/conv{int(m[1]) // 2 + 1}/conv1d/"),
    (r"(encoder/(?:flatten_conv|fc)\d/|explicit_decoder/\w+_fc[12]/)", r"\1dense/"),
    (r"(encoder/(?:dis|rgb|fusion)_conv\d/)weight", r"\1sphconv/W"),
    (r"(encoder/(?:dis|rgb|fusion)_conv\d/)bias", r"\1sphconv/b"),
    (r"(encoder/(?:dis|rgb|fusion)_conv\d/)slope", r"\1Variable"),
    (r"(.*/)weight", r"\1kernel"),
]


def rewrite(source: Path, out: Path, sizes: Sizes) -> int:
    """Writes a released checkpoint as safetensors that `weights.load_network` reads, a third as large.

    Returns:
        the count of its numbers, which are kept as they are.

    Raises:
        InputError: a file is missing or damaged, or not of a network of these sizes.
    """
    if out.suffix != SUFFIX:
        raise InputError(f"{out}: weights are written as {SUFFIX}; pass a name that ends so")
    network = DualPoseNet(sizes)
    fit(network, read_released(source, network.state_dict()), source)
    with write_atomically(out) as temporary:
        save_file(network.state_dict(), temporary)
    return sum(weight.numel() for weight in network.parameters())


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
    original_name = {name: rename(name, ORIGINAL) for name in expected}
    ours = {theirs: name for name, theirs in original_name.items()}
    weights = {ours.get(name, name): reordered(name, values) for name, values in variables.items()}
    check_renamed(expected, weights, {name: name for name in variables} | original_name, source)
    return weights


def reordered(name: str, values: np.ndarray) -> Tensor:
    """A variable, by TensorFlow's name, in this project's order.

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
