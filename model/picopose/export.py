"""A checkpoint of training as a small file to give away.

Left are the weights in half precision, the configuration and the step; `build.load_network` reads it.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from picopose.model.checkpoint import read_checkpoint
from picopose.utils.errors import InputError
from picopose.utils.files import write_atomically

KEPT = {"model": dict, "config": str, "step": int}


def slim(snapshot: dict[str, Any], path: Path) -> dict[str, Any]:
    """What is worth shipping of a snapshot: `model` with floating tensors in float16, `config` and `step`.

    Raises:
        InputError: no snapshot of a training run, or one with a number that float16 cannot hold; the message
            names `path` and the tensor.
    """
    for key, kind in KEPT.items():
        if not isinstance(snapshot.get(key), kind):
            raise InputError(f"{path}: holds no {key}; pass a checkpoint that run_train.py wrote")
    weights = {name: _halved(value, f"{path}: {name}") for name, value in snapshot["model"].items()}
    return {"model": weights, "config": snapshot["config"], "step": snapshot["step"]}


def _halved(value: Tensor, where: str) -> Tensor:
    if not value.is_floating_point():
        return value.clone()  # a slice would be saved with all that it was cut from
    half = value.half()
    if not half.isfinite().all():
        largest = value.abs().max().item()
        limit = torch.finfo(torch.float16).max
        raise InputError(
            f"{where} has the magnitude {largest:g}, beyond half precision's {limit:g}; train with a lower "
            "train.lr, or ship the checkpoint as it is"
        )
    return half


def export(source: Path, out: Path) -> dict[str, Tensor]:
    """Writes the slim form of a snapshot file and returns its weights by name.

    Equal snapshots make equal files, byte for byte.
    """
    content = slim(read_checkpoint(source), source)
    with write_atomically(out) as temporary, temporary.open("wb") as file:
        torch.save(content, file)  # given a path, it would write the temporary name into the file
    return content["model"]
