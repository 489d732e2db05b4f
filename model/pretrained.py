"""The pretrained networks as they come with the repository, see `data/weights/README.md`."""

from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file
from torch import nn

from picopose.model.folding import fold_batch_norms
from picopose.utils.home import ROOT

FOLDER = ROOT / "data" / "weights"
IMAGENET, XFEAT = FOLDER / "efficientnet_lite0.safetensors", FOLDER / "xfeat.safetensors"
REFINER = FOLDER / "refine.pt"
LIKENESS = FOLDER / "likeness.safetensors"
DETECTION = FOLDER / "detect.json"  # how its evidence is weighed
WEIGHT_FILES = IMAGENET, XFEAT, REFINER, LIKENESS, DETECTION

Network = TypeVar("Network", bound=nn.Module)


def pretrained(network: Network, path: Path) -> Network:
    """The network with the weights of a file, ready to be used, but not to be trained."""
    network.load_state_dict(load_file(path))  # half precision in the file
    # Convolutions of this size take half the time with the channels last.
    return fold_batch_norms(network).to(memory_format=torch.channels_last)
