"""Readers of configurations, checkpoints and the log of a training run."""

import functools
import json
import os
from pathlib import Path
from types import SimpleNamespace

import torch
import yaml
from torch import nn

from picopose.model.picopose.build import load_network
from picopose.pipeline.training.log import TrainingLog
from picopose.pipeline.training.run import Run
from picopose.utils.config import Config
from picopose.utils.config_files import load_config, to_yaml
from tests.mutated.soundness import sound
from tests.mutation_cases import Reader

SECRET = "a value of the environment"
CONFIG = {
    "method": "picopose",
    "model": {"backbone": "resnet10t", "size": 64, "dpt_channels": [32, 32, 32], "half_cell": 0.0},
    "train_dataset": {"meshes": ["meshes"], "shapes": 0.5},
    "train": {"lr": 1.0e-3, "betas": [0.9, 0.98], "steps": 100, "validate_on": ["toy"]},
    "test": {"threshold_px": 4, "hypotheses": 3},
    "log_dir": "log",
}


def write_config(folder: Path) -> None:
    os.environ["HOME"] = SECRET  # which one of the damaged files asks for
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))


def check_config(config: Config) -> None:
    text = to_yaml(config)
    sound(SECRET not in text, "a configuration that holds a value of the environment")
    sound(".nan" not in text and ".inf" not in text, "numbers that are not finite")


class SmallNetwork(nn.Module):
    """What of a network its checkpoint fills."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.flow, self.viewing_ray, self.floored = SimpleNamespace(half_cell=0.0), True, False


@functools.cache
def trained() -> tuple[SmallNetwork, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = SmallNetwork()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    network.norm(network.first(torch.ones(2, 3))).square().sum().backward()
    optimizer.step()
    return network, optimizer


def snapshot() -> dict:
    network, optimizer = trained()
    content = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "step": 7, "best": 0.5}
    return content | {"config": yaml.safe_dump(CONFIG)}


def write_checkpoint(folder: Path, *, legacy: bool = False) -> None:
    torch.save(snapshot(), folder / "network.pt", _use_new_zipfile_serialization=not legacy)


def write_safetensors(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file(trained()[0].state_dict(), folder / "network.safetensors")


def read_network(folder: Path) -> list:
    """The weights, and the configuration that an estimator of them would have."""
    from picopose.model.checkpoint import read_checkpoint

    path = next(folder.glob("network.*"))
    network = SmallNetwork()
    load_network(network, path)
    written = read_checkpoint(path).get("config")
    config = (
        None
        if written is None
        else load_config("config/base.yaml", flags={"checkpoint": str(path)}, trained_with=written)
    )
    return [network.state_dict(), config]


def check_network(value: list) -> None:
    weights, config = value
    sound(all(tensor.isfinite().all() for tensor in weights.values()), "weights that are not finite")
    if config is not None:
        check_config(config)


def read_resumed(folder: Path) -> dict:
    """The state of a training run that goes on."""
    network = SmallNetwork()
    run = SimpleNamespace(
        network=network,
        optimizer=torch.optim.AdamW(network.parameters(), lr=1e-3),
        config=Config(),
        world=SimpleNamespace(rank=1),
    )
    Run.resume(run, folder / "network.pt")
    return {
        "model": network.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "step": run.step,
        "best": run.best,
    }


def check_resumed(state: dict) -> None:
    moments = [value for entry in state["optimizer"]["state"].values() for value in entry.values()]
    sound(
        all(tensor.isfinite().all() for tensor in [*state["model"].values(), *moments]), "numbers not finite"
    )
    sound(isinstance(state["step"], int) and state["step"] >= 0, "no number of steps")


def write_scalars(folder: Path) -> None:
    lines = [json.dumps({"step": step, "loss/total": 1 / step}) + "\n" for step in range(1, 9)]
    (folder / "scalars.jsonl").write_text("".join(lines))


def read_scalars(folder: Path) -> list[int]:
    """The steps that a training run which goes on from the fifth keeps."""
    with TrainingLog(folder, first_step=5, steps=9, batch_size=1, speaks=True):
        pass
    lines = (folder / "scalars.jsonl").read_bytes().splitlines()
    return [int(json.loads(line)["step"]) for line in lines]


def check_scalars(steps: list[int]) -> None:
    sound(all(0 <= step <= 5 for step in steps), "a line of a later step")


READERS: dict[str, Reader] = {
    "config": Reader(
        write_config,
        lambda folder: load_config(folder / "config.yaml"),
        check_config,
        [("config.yaml", "text")],
        whole=False,
    ),
    "checkpoint": Reader(write_checkpoint, read_network, check_network, [("network.pt", "zip")]),
    "checkpoint-legacy": Reader(
        lambda folder: write_checkpoint(folder, legacy=True),
        read_network,
        check_network,
        [("network.pt", "binary")],
    ),
    "checkpoint-safetensors": Reader(
        write_safetensors, read_network, check_network, [("network.safetensors", "safetensors")]
    ),
    "checkpoint-resumed": Reader(write_checkpoint, read_resumed, check_resumed, [("network.pt", "zip")]),
    "scalars": Reader(
        write_scalars, read_scalars, check_scalars, [("scalars.jsonl", "json lines")], whole=False
    ),
}
