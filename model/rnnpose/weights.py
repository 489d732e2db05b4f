"""The networks of a run: one checkpoint for each object, released by the authors or trained here."""

from dataclasses import dataclass
from pathlib import Path

import torch

from picopose.model.checkpoint import fit, read_checkpoint, weights_of
from picopose.model.rnnpose.network import RNNPose
from picopose.model.rnnpose.options import Options
from picopose.model.rnnpose.released import convert, is_released
from picopose.utils.config_files import options_in
from picopose.utils.errors import InputError

SUFFIXES = (".tckpt", ".pt", ".ckpt", ".pth", ".safetensors")


@dataclass(frozen=True, eq=False)
class Weights:
    """A checkpoint, or a folder with one for each object.

    Raises:
        InputError: there is no such file, or no checkpoint in the folder.
    """

    path: Path

    def __post_init__(self):
        if not self.path.exists():
            raise InputError(f"{self.path}: no such checkpoint; pass the path of an existing file or folder")
        if self.path.is_dir() and not any(file.suffix in SUFFIXES for file in self.path.iterdir()):
            raise InputError(
                f"{self.path}: holds no checkpoint ({', '.join(SUFFIXES)}); pass a folder with a file for "
                "each object, ape.tckpt for example"
            )

    def of(self, names: list[str]) -> Path | None:
        """The file of an object, which may have several names; None where a folder has none."""
        if not self.path.is_dir():
            return self.path
        files = [self.path / f"{name}{suffix}" for name in names for suffix in SUFFIXES]
        return next((file for file in files if file.is_file()), None)


def load_network(path: Path, options: Options) -> tuple[RNNPose, Options]:
    """The network of a checkpoint, and the options that it was trained with.

    options: the run's, which released weights go by.

    Raises:
        InputError: no checkpoint, or one of another architecture; the message names the key.
    """
    checkpoint = read_checkpoint(path)
    weights = weights_of(checkpoint, path)
    if is_released(weights):
        options = Options(quirks=options.quirks, longest_edge=None)  # the vertices as they are
        network = RNNPose(options.network, options.kept(released=True))
        expected = {name: value for name, value in network.state_dict().items() if name != "vertices"}
        weights = convert(weights, expected, path) | {"vertices": network.vertices}
    else:
        own = options_in(checkpoint.get("config"), "rnnpose", Options, f"{path}: its own configuration")
        if options.quirks is not None and options.kept(released=False) != own.kept(released=False):
            raise InputError(
                f"{path}: trained with options.rnnpose.quirks={own.quirks}; leave the option out"
            )
        options = own
        count = weights.get("vertices", torch.zeros(0, 3)).shape[:1].numel()
        vertices = torch.zeros(count, 3) if count else None
        network = RNNPose(options.network, options.kept(released=False), vertices=vertices)
    fit(network, weights, path)
    return network.eval().to(memory_format=torch.channels_last), options
