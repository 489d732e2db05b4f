"""Golden inputs and outputs of the original DualPoseNet, and weights by the rule they were made with."""

import json
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from picopose.datasets.nocs.frames import read_depth, read_rgb
from picopose.datasets.nocs.layout import find_frame
from picopose.datasets.nocs.points import masked_points
from picopose.model.checkpoint import fit
from picopose.model.dualposenet.maps import normalised
from picopose.model.dualposenet.network import DualPoseNet, Estimate, Sizes
from picopose.model.dualposenet.released import ORIGINAL, convert
from picopose.model.released_weights import rename
from tests.shared import shared

FOLDER = "reference_dualposenet"


def arrays(name: str) -> dict[str, np.ndarray]:
    """Those of `golden_{name}.npz`."""
    with np.load(shared(f"{FOLDER}/golden_{name}.npz"), allow_pickle=False) as content:
        return {key: content[key] for key in content.files}


def below(prefix: str, content: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names begin with a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in content.items() if key.startswith(prefix)}


def rule_variables() -> dict[str, np.ndarray]:
    """The original's 75 variables by name, each drawn from a generator seeded by its name."""
    return {name: _draw(name, **rule) for name, rule in _rules().items()}


def variable_shapes() -> dict[str, tuple[int, ...]]:
    """Of the original's variables."""
    return {name: tuple(rule["shape"]) for name, rule in _rules().items()}


def _rules() -> dict[str, dict]:
    return json.loads(shared(f"{FOLDER}/variables_dualposenet.json").read_text())


def _draw(name: str, shape: list[int], mean: float, std: float) -> np.ndarray:
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return (mean + std * generator.standard_normal(shape)).astype(np.float32)


def difference(ours: np.ndarray | Tensor, golden: np.ndarray) -> float:
    """The largest difference."""
    assert tuple(ours.shape) == golden.shape
    return float(np.abs(np.asarray(ours) - golden).max())


def relative(ours: np.ndarray | Tensor, golden: np.ndarray) -> float:
    """The largest difference over the largest magnitude."""
    return difference(ours, golden) / float(np.abs(golden).max())


def released_network() -> DualPoseNet:
    """The network with the converted weights of the golden runs."""
    network, source = DualPoseNet(Sizes()), Path("model-30.index")
    fit(network, convert(rule_variables(), network.state_dict(), source), source)
    return network


def original_names(network: DualPoseNet) -> dict[str, str]:
    """The original's names of a network's weights, by ours."""
    return {name: rename(name, ORIGINAL) for name in network.state_dict()}


def original_order(name: str, values: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """A weight of ours, or its gradient, as the original's variable of this name and shape has it."""
    array = values.detach().numpy()
    if name.endswith("/W"):
        return array.transpose(1, 0, 2)
    return (array.T if name.endswith("/kernel") else array).reshape(shape)


class Batch(NamedTuple):
    """Inputs and labels of the golden runs."""

    distances: Tensor
    colours: Tensor
    points: Tensor
    truth: Estimate


def golden_batch() -> Batch:
    """The four instances of the golden runs of the network."""
    stored = arrays("prepare")

    def together(name: str) -> Tensor:
        camera, real = stored[f"camera_{name}"], stored[f"real_{name}"]
        return torch.from_numpy(np.stack([camera[0], camera[2], camera[4], real[1]]))

    maps = (together("input_dis"), together("input_rgb"))
    return Batch(
        *maps, together("observed_pc"), Estimate(*map(together, ("rotation", "translation", "scale")))
    )


def seen_points(detection: int) -> tuple[np.ndarray, np.ndarray]:
    """The points (N, 3) of a detection, and their normalised colours (N, 3)."""
    files = find_frame(shared(f"{FOLDER}/sample"), "Real/test/scene_1/0000")
    found = shared(f"{FOLDER}/sample/segmentation_results/REAL275/results_test_scene_1_0000.npz")
    with np.load(found) as detections:
        mask = detections["pred_masks"][..., detection] > 0
    rgb, depth = read_rgb(files.path("color.png")), read_depth(files.path("depth.png")) / 1000
    points = masked_points(rgb, depth, mask, files.split.K)
    return points.xyz, normalised(points.rgb)
