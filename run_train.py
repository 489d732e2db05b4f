"""Trains PicoPose: python run_train.py --config config/small.yaml train_dataset.meshes=[/data/meshes]

On several GPUs or machines: torchrun --nproc_per_node=8 run_train.py ...; `train.batch_size` is that of all
processes together. A run that has ended goes on with --ckpt_path last exactly as if it had not.
"""

from picopose.utils import interrupts

if __name__ == "__main__":
    interrupts.leave_at_once()

import argparse
import functools
import logging
import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from picopose.datasets.training.pairs import PairSource, Repeated, Share, noticing_dead_workers, pair_loader
from picopose.datasets.training.sources import description, idle_options, make_source, mesh_files
from picopose.evaluation.in_training import BopValidation
from picopose.model.checkpoint import fit, take_up
from picopose.model.norms import synchronise_norms
from picopose.model.picopose.build import SCRATCH, build_network, load_network
from picopose.model.picopose.losses import Losses
from picopose.model.picopose.network import PicoPose
from picopose.model.picopose.pictures import draw
from picopose.model.picopose.supervision import StartNoise, draw_noise
from picopose.model.picopose.training import TrainingPass
from picopose.model.picopose.validation import answer, validate
from picopose.pipeline.training.health import Health, agree
from picopose.pipeline.training.log import TrainingLog
from picopose.pipeline.training.schedule import rate_at, set_rate
from picopose.pipeline.training.snapshots import Snapshots, read_snapshot
from picopose.rendering.studio import Studio
from picopose.utils.config import Config, TrainConfig, changed_options, load_config, to_yaml
from picopose.utils.device import choose_device
from picopose.utils.distributed import World, join, leave, summed
from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.files import locked, remove_leftovers, write_atomically
from picopose.utils.interrupts import StopRequest
from picopose.utils.records import Pair

LOG = logging.getLogger("run_train")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="picopose", choices=["picopose"])
    parser.add_argument("--config", default="config/base.yaml", help="YAML file")
    parser.add_argument(
        "--version_id", type=int, default=0, help="number of the run, part of its folder's name"
    )
    parser.add_argument("--ckpt_path", help="checkpoint to go on from: a file, or last for the run's newest")
    parser.add_argument(
        "--gpus", help="index of the GPU, or one for each process of torchrun as in 0,1; or cpu"
    )
    parser.add_argument("--overfit", type=int, metavar="N", help="train on the first N pairs alone")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="entries of the config, e.g. train.batch_size=32"
    )
    return parser.parse_intermixed_args()


@exits_cleanly(stopped="stopped before a step was saved; --ckpt_path last goes on if there are earlier ones")
def main() -> None:
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = load_config(arguments.config, arguments.overrides)
    check_beginning(config, arguments)
    world = join()
    device = choose_device(arguments.gpus, world.local_rank)
    folder = (
        Path(config.log_dir) / f"{arguments.model}_{Path(arguments.config).stem}_id{arguments.version_id}"
    )
    if arguments.overfit:
        config = overfitting(config, arguments.overfit)
    source, held_out = training_source(config), validation_source(config)
    if arguments.overfit:
        source = held_out = Repeated(source, arguments.overfit)
    if world.rank == 0:
        tell_pairs(config)
    run = Run(config, source, held_out, folder, world, device)
    if arguments.ckpt_path:
        run.resume(run.snapshots.find(arguments.ckpt_path))
    else:
        run.snapshots.refuse_to_begin()
    if config.train.validate_on:
        run.evaluate = BopValidation(config, folder / "validation", world)
    refusal = "another training is at work in it: wait for its end, or pass another --version_id"
    with locked(folder, refusal) if world.rank == 0 else nullcontext():
        if world.rank == 0:
            remove_leftovers(folder)
        run.train()
    leave()


def check_beginning(config: Config, arguments: argparse.Namespace) -> None:
    """Refuses what cannot be meant: training where none is needed, and weights that nobody has named."""
    path, model = arguments.config, config.model
    if config.method != "picopose":
        raise InputError(
            f"{path}: method {config.method} needs no training; pass config/base.yaml, for example"
        )
    if arguments.ckpt_path or config.checkpoint:
        return
    if model.pretrained is None:
        raise InputError(
            f"{path}: nothing says with which weights {model.backbone} begins; pass model.pretrained=timm "
            "(downloads the published ones), model.pretrained=FILE or checkpoint=FILE, or "
            "model.pretrained=scratch for random ones"
        )
    if config.train.frozen and model.pretrained == SCRATCH:
        raise InputError("option train.frozen: random weights would stay as they are; leave it out")


def tell_pairs(config: Config) -> None:
    """Says what the training pairs are of, and which options change nothing."""
    LOG.info("training pairs: %s", description(config.train_dataset))
    for option, reason in idle_options(config.train_dataset).items():
        LOG.warning("%s changes nothing: %s", option, reason)
    if config.train_dataset.validation_meshes and not config.train.validate_every:
        LOG.warning("train_dataset.validation_meshes changes nothing: train.validate_every is 0, never")


def overfitting(config: Config, pairs: int) -> Config:
    """No pair twice in a batch: a copy's patches are taken for wrong matches, which no network can learn."""
    return replace(config, train=replace(config.train, batch_size=min(config.train.batch_size, pairs)))


def training_source(config: Config, *, studio: Studio | None = None, held_out: bool = False) -> PairSource:
    data, size, seed = config.train_dataset, config.model.size, config.train.seed
    return make_source(
        studio or Studio(max_faces=data.max_faces), data, size=size, seed=seed, held_out=held_out
    )


def validation_source(config: Config) -> PairSource:
    """Pairs with other poses, scenes, shapes and images than the training's, with the colours as they are."""
    data, other_seed = config.train_dataset, config.train.seed + 1_000_000
    changes = {"augment": 0.0, "kept": None}
    if data.validation_meshes:
        for folder in data.validation_meshes:
            mesh_files(folder, "train_dataset.validation_meshes")
        changes |= {"synthetic": 1.0, "megapose": [], "meshes": data.validation_meshes, "shapes": 0.0}
    changed = replace(
        config, train=replace(config.train, seed=other_seed), train_dataset=replace(data, **changes)
    )
    return training_source(changed, held_out=True)


class Run:
    """One training run: the network, its optimizer, its data and its folder.

    Args:
        source: training pairs; held_out: pairs to validate on.

    Attributes:
        evaluate: may be set to what gives further measures of the network, logged beside the validation's.
    """

    def __init__(
        self,
        config: Config,
        source: PairSource,
        held_out: PairSource,
        folder: Path,
        world: World,
        device: torch.device,
    ):
        self.options, self.config, self.world, self.device = config.train, config, world, device
        self.source, self.held_out, self.folder = source, held_out, folder
        self.evaluate: Callable[[PicoPose], dict[str, float]] = lambda network: {}
        self.share = share_of(config.train, world)
        self.snapshots = Snapshots(folder, keep=config.train.keep)
        if config.train.threads:
            torch.set_num_threads(config.train.threads)
        torch.manual_seed(config.train.seed)
        network = build_network(**asdict(config.model))
        if config.checkpoint:
            load_network(network, Path(config.checkpoint))
            network.floored = False  # from now on it learns exact targets
        if self.options.frozen:
            network.backbone.freeze()
        network = synchronise_norms(network, device).train()
        self.network = network.to(device, memory_format=torch.channels_last)  # what convolutions like best
        self.bf16 = config.train.bf16
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=config.train.lr,
            betas=tuple(config.train.betas),
            eps=config.train.eps,
            weight_decay=config.train.weight_decay,
        )
        self.step = 0  # steps done
        self.best = math.inf  # lowest flow error in validation, px

    def resume(self, path: Path) -> None:
        """Goes on from a checkpoint as if the run that wrote it had not ended.

        Raises:
            InputError: the checkpoint cannot be read, is of another network, or holds weights alone.
        """
        snapshot = read_snapshot(path)
        fit(self.network, snapshot["model"], path)
        options = {"param_groups": self.optimizer.state_dict()["param_groups"]}  # this configuration's
        take_up(self.optimizer, snapshot["optimizer"] | options, path)
        self.step, self.best = snapshot["step"], snapshot["best"]
        if changed := changed_options(snapshot["config"], self.config, f"{path}: its own configuration"):
            LOG.warning("%s: other %s; the losses will not be those of one run", path, ", ".join(changed))
        if self.world.rank == 0:
            self.snapshots.set_aside_later(self.step)

    def train(self) -> None:
        """Trains until the last step, or until the system asks to stop; the state is saved then.

        Raises:
            InputError: the loss was too often not finite.
        """
        options, health, log = self.options, Health(limit=self.options.max_skipped), self._open_log()
        forward: nn.Module = TrainingPass(self.network, bf16=self.bf16, scale_weight=options.scale_weight)
        if self.world.size > 1:
            forward = DistributedDataParallel(forward, broadcast_buffers=False)
        with log, StopRequest() as stop, noticing_dead_workers():
            log.say(self._waiting())
            for pair in self._batches(self.source, self.step, options.steps):
                set_rate(self.optimizer, rate_at(self.step, options))
                pair = pair.to(self.device, non_blocking=True)
                buffers = [buffer.clone() for buffer in self.network.buffers()]

                losses = forward(pair, self._noise())
                self.optimizer.zero_grad()
                losses.total.backward()
                norm = nn.utils.clip_grad_norm_(self.network.parameters(), options.clip)

                finite = bool((losses.total + norm).isfinite())
                bad, stopping = agree(not finite, bool(stop), device=self.device)
                if bad:
                    self._restore(buffers)  # batch norm's statistics have taken it in already
                    suspects = health.skip(pair, self.share.indices(self.step), self.source.name)
                    skipped = f"step {self.step + 1} skipped, nothing is learnt from it"
                    log.say(f"{skipped}: its loss or gradient is not finite, with {suspects}")
                else:
                    self.optimizer.step()
                    health.keep()
                self.step += 1

                log.step()
                last = stopping or self.step == options.steps
                if last or self.step % options.log_every == 0:
                    log.scalars(self.step, self._scalars(losses, norm, health))
                if self.step % options.picture_every == 0:
                    self._draw(pair, log)
                if options.validate_every and (self.step % options.validate_every == 0):
                    self._validate(log)
                if last or self.step % options.save_every == 0:
                    self._save()
                if stopping:
                    log.say(f"stopped after step {self.step}: --ckpt_path last goes on")
                    break

    def _open_log(self) -> TrainingLog:
        options = self.options
        log = TrainingLog(
            self.folder,
            first_step=self.step,
            steps=options.steps,
            batch_size=options.batch_size,
            speaks=self.world.rank == 0,
        )
        millions = sum(p.numel() for p in self.network.parameters()) / 1e6
        log.say(
            f"{self.folder}: {millions:.1f} M parameters on {self.device}, step {self.step}/{options.steps}"
        )
        log.say(
            f"batch: {self.share.batch} pairs per process x {self.world.size} processes = "
            f"{options.batch_size} in total"
        )
        if self.world.rank == 0:
            with write_atomically(self.folder / "config.yaml") as temporary:
                temporary.write_text(to_yaml(self.config), encoding="utf-8")
        return log

    def _waiting(self) -> str:
        """What the first step waits for, if there is one."""
        if self.step >= self.options.steps:
            return f"all {self.options.steps} steps are done: raise train.steps to go on"
        pairs, workers = self.share.batch, self.options.workers
        makers = f"{workers} processes start, and each makes" if workers else "this process makes"
        return f"waiting for the first batch: {makers} {pairs} pairs"

    def _batches(self, source: PairSource, first: int, end: int) -> Iterable[Pair]:
        return pair_loader(
            source,
            self.share,
            first_step=first,
            steps=end,
            workers=self.options.workers,
            pin_memory=self.device.type == "cuda",
        )

    def _noise(self) -> StartNoise:
        """This process's part of the noise of a step, which is a function of the step alone."""
        seed = np.random.SeedSequence([self.options.seed, self.step]).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(seed))
        noise = draw_noise(self.options.batch_size, size=self.config.model.size, generator=generator)
        start = self.world.rank * self.share.batch
        return noise[start : start + self.share.batch].to(self.device)

    @torch.no_grad()
    def _restore(self, buffers: list[Tensor]) -> None:
        for buffer, before in zip(self.network.buffers(), buffers, strict=True):
            buffer.copy_(before)

    def _scalars(self, losses: Losses, norm: Tensor, health: Health) -> dict[str, float]:
        named = vars(losses) | {"total": losses.total}
        values = summed(torch.stack([value.detach() for value in named.values()])) / self.world.size
        scalars = {f"loss/{name}": value for name, value in zip(named, values.tolist(), strict=True)}
        rate = rate_at(self.step - 1, self.options)
        return scalars | {"gradient_norm": norm.item(), "rate": rate, "skipped": health.skipped}

    @torch.inference_mode()
    def _draw(self, pair: Pair, log: TrainingLog) -> None:
        if self.world.rank > 0:
            return
        self.network.eval()
        answers = answer(self.network, pair, bf16=self.bf16)
        for index, picture in enumerate(draw(self.network, pair, answers)):
            log.picture(self.step, f"training/{index}", picture)
        self.network.train()

    def _validate(self, log: TrainingLog) -> None:
        measures = validate(self.network, self._validation_batches, bf16=self.bf16)
        measures |= self.evaluate(self.network)
        log.scalars(self.step, {f"validation/{name}": value for name, value in measures.items()})
        log.say(f"step {self.step}: " + ", ".join(f"{name} {value:.3f}" for name, value in measures.items()))
        if measures["flow_px"] < self.best:
            self.best = measures["flow_px"]
            if self.world.rank == 0:
                self.snapshots.save_best(self._snapshot())

    @functools.cached_property
    def _validation_batches(self) -> list[Pair]:
        steps = math.ceil(self.options.validation_pairs / self.options.batch_size)
        return list(self._batches(self.held_out, 0, steps))

    def _save(self) -> None:
        if self.world.rank == 0:
            self.snapshots.save(self._snapshot())

    def _snapshot(self) -> dict[str, Any]:
        return {
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "best": self.best,
            "config": to_yaml(self.config),
        }


def share_of(options: TrainConfig, world: World) -> Share:
    """This process's part of every step."""
    if options.batch_size % world.size:
        raise InputError(
            f"option train.batch_size={options.batch_size}: must be a multiple of the {world.size} processes"
        )
    return Share(options.batch_size // world.size, world.rank, world.size)


if __name__ == "__main__":
    main()
