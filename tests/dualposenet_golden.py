"""Golden inputs and outputs of the original DualPoseNet, and weights by the rule they were made with."""

import json
import zlib

import numpy as np
from torch import Tensor

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
    rules = json.loads(shared(f"{FOLDER}/variables_dualposenet.json").read_text())
    return {name: _draw(name, **rule) for name, rule in rules.items()}


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
