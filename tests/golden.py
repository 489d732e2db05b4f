"""Golden inputs and outputs of the original implementation, and weights by the rule they were made with."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

from picopose.model.picopose.released import PREFIX
from tests.shared import shared


def rule_weights(name: str) -> dict[str, torch.Tensor]:
    """Released-format weights (`vits14` or `vitl14`) drawn from a generator seeded by each key."""
    shapes = json.loads(shared(f"reference/state_dict_{name}.json").read_text())
    return {key: torch.from_numpy(_draw(key, shape)) for key, shape in shapes.items()}


def _draw(key: str, shape: list[int]) -> np.ndarray:
    g = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_var"):
        values = g.uniform(0.5, 1.5, shape)
    elif key.endswith("running_mean"):
        values = 0.1 * g.standard_normal(shape)
    elif key.endswith(".gamma"):
        values = 0.5 + 0.1 * g.standard_normal(shape)
    elif key.endswith(("cls_token", "pos_embed", "mask_token")):
        values = 0.1 * g.standard_normal(shape)
    elif key.endswith("bias"):
        values = 0.05 * g.standard_normal(shape)
    elif len(shape) == 1:
        values = 1 + 0.1 * g.standard_normal(shape)
    else:
        values = g.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    return values.astype(np.float32)


def write_released_checkpoint(name: str, path: Path) -> Path:
    """A file in the released Lightning format: weights behind `network.` beside other state."""
    weights = {PREFIX + key: value for key, value in rule_weights(name).items()}
    torch.save(
        {"epoch": 3, "global_step": 7, "state_dict": weights, "optimizer_states": [], "callbacks": {}}, path
    )
    return path


def arrays(file: str) -> dict[str, torch.Tensor]:
    with np.load(shared(f"reference/{file}.npz"), allow_pickle=False) as content:
        return {key: torch.from_numpy(content[key]) for key in content.files}
