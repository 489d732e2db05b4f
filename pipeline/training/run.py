"""The state of a training run, and all that its loop in run_train.py asks for: batches, log, checkpoints."""

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from picopose.datasets.training.loader import Repeated, Share, sample_loader
from picopose.model.checkpoint import fit, take_up
from picopose.model.learner import Learner
from picopose.model.norms import synchronise_norms
from picopose.pipeline.training.health import Buffers, Health, in_any, step_unless
from picopose.pipeline.training.log import TrainingLog
from picopose.pipeline.training.schedule import rate_at, set_rate
from picopose.pipeline.training.snapshots import Snapshots, read_snapshot
from picopose.utils.config import Config, TrainConfig
from picopose.utils.config_files import changed_options, to_yaml
from picopose.utils.device import Awaited
from picopose.utils.distributed import World, summed
from picopose.utils.errors import InputError
from picopose.utils.files import write_atomically
from picopose.utils.records import Record

LOG = logging.getLogger(__name__)


class Run:
    """One training run.

    Args:
        folder: for log and checkpoints.
        overfit: train and validate on the first samples alone, on as many; None: on all.
        evaluate: gives further measures, logged beside the learner's.
    """

    def __init__(
        self,
        learner: Learner,
        config: Config,
        folder: Path,
        world: World,
        device: torch.device,
        *,
        overfit: int | None = None,
        evaluate: Callable[[], dict[str, float]] = dict,
    ):
        self.learner, self.config, self.options = learner, config, config.train
        self.folder, self.world, self.device, self._evaluate = folder, world, device, evaluate
        if config.train.batch_size % world.size:
            raise InputError(
                f"option train.batch_size={config.train.batch_size}: must be a multiple of the {world.size} "
                "processes"
            )
        self._share = Share(config.train.batch_size // world.size, world.rank, world.size)
        workers, pin_memory = config.train.workers, device.type == "cuda"
        self._load = partial(sample_loader, share=self._share, workers=workers, pin_memory=pin_memory)
        self._source, self._held_out = (learner.source(held_out=held_out) for held_out in (False, True))
        if overfit:
            self._source = self._held_out = Repeated(self._source, overfit)
        self.snapshots = Snapshots(folder, keep=config.train.keep)
        learner.network = synchronise_norms(learner.network, device).train().to(device)
        self.network = learner.network
        self.optimizer = make_optimizer(learner, config.train)
        self.health = Health(limit=config.train.max_skipped)
        self._unsettled: deque[tuple[int, Record, Awaited]] = deque()
        self.step = 0  # steps done
        self.best = math.inf  # lowest value of the learner's `best_by`

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

    def losses(self) -> Callable[[Record, int], dict[str, Tensor]]:
        """The learner's losses, whose gradients are averaged over all processes."""
        if self.world.size == 1:
            return self.learner.losses
        return DistributedDataParallel(_Losses(self.learner), broadcast_buffers=False)

    def batches(self) -> Iterable[Record]:
        """Those of all steps that are left."""
        return self._load(self._source, first_step=self.step, steps=self.options.steps)

    def take_step(
        self, batch: Record, losses_of: Callable[[Record, int], dict[str, Tensor]]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Learns from a batch; its losses, with their total, and the norm of the gradients.

        The device itself leaves out a step whose loss or gradient is not finite in any of the processes;
        `settle` hears of it, so that nothing waits for a GPU here.
        """
        set_rate(self.optimizer, self.step, self.options)
        buffers = Buffers(self.network)
        losses = losses_of(batch, self.step)
        total = sum(losses.values())
        self.optimizer.zero_grad()
        total.backward()
        norm = clip_grad_norm_(self.network.parameters(), self.options.clip)
        bad = in_any(~(total + norm).detach().isfinite())
        step_unless(bad, self.optimizer)
        buffers.restore_if(bad)  # batch norm's statistics have taken the batch in already
        self._unsettled.append((self.step, batch, Awaited(bad)))
        self.step += 1
        return losses | {"total": total}, norm

    def settle(self, log: TrainingLog, *, but: int = 0) -> None:
        """Notes which steps were skipped, and says so, of all but the last `but`, which may be under way.

        Raises:
            InputError: too many were skipped, or a checkpoint could not be written.
        """
        self.snapshots.check()
        while len(self._unsettled) > but:
            step, batch, bad = self._unsettled.popleft()
            if not bad.tolist():
                self.health.keep()
                continue
            suspects = self.health.skip(batch, self._share.indices(step), self._source.name)
            skipped = f"step {step + 1} skipped, nothing is learnt from it"
            log.say(f"{skipped}: its loss or gradient is not finite, with {suspects}")

    def open_log(self) -> TrainingLog:
        """The run's log, which begins with what is trained and how."""
        options, share, speaks = self.options, self._share.batch, self.world.rank == 0
        sizes = {"first_step": self.step, "steps": options.steps, "batch_size": options.batch_size}
        log = TrainingLog(self.folder, **sizes, speaks=speaks)
        millions = sum(p.numel() for p in self.network.parameters()) / 1e6
        log.say(
            f"{self.folder}: {millions:.1f} M parameters on {self.device}, step {self.step}/{options.steps}"
        )
        log.say(
            f"batch: {share} samples per process x {self.world.size} processes = "
            f"{options.batch_size} in total"
        )
        if speaks:
            with write_atomically(self.folder / "config.yaml") as temporary:
                temporary.write_text(to_yaml(self.config), encoding="utf-8")
        if self.step >= options.steps:
            log.say(f"all {options.steps} steps are done: raise train.steps to go on")
        else:
            makers = f"{options.workers} processes start, and each makes" if options.workers else "making"
            log.say(f"waiting for the first batch: {makers} {share} samples")
        return log

    def scalars(self, losses: dict[str, Tensor], norm: Tensor) -> dict[str, float]:
        """What is logged of the step that was just done; losses are averaged over all processes."""
        values = summed(torch.stack([value.detach() for value in losses.values()])) / self.world.size
        scalars = {f"loss/{name}": value for name, value in zip(losses, values.tolist(), strict=True)}
        rate = rate_at(self.step - 1, self.options)
        return scalars | {"gradient_norm": norm.item(), "rate": rate, "skipped": self.health.skipped}

    @torch.inference_mode()
    def draw(self, batch: Record, log: TrainingLog) -> None:
        """Logs the learner's pictures of a batch."""
        if self.world.rank > 0:
            return
        self.network.eval()
        for index, picture in enumerate(self.learner.pictures(batch)):
            log.picture(self.step, f"training/{index}", picture)
        self.network.train()

    def validate(self, log: TrainingLog) -> None:
        """Logs how well the network does on held-out samples; keeps the checkpoint if it is the best."""
        measures = measure(self.learner, self._validation_batches, self.device) | self._evaluate()
        log.scalars(self.step, {f"validation/{name}": value for name, value in measures.items()})
        log.say(f"step {self.step}: " + ", ".join(f"{name} {value:.3f}" for name, value in measures.items()))
        if measures.get(self.learner.best_by, math.inf) < self.best:
            self.best = measures[self.learner.best_by]
            if self.world.rank == 0:
                self.snapshots.save_best(self._snapshot())

    def save(self) -> None:
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

    @cached_property
    def _validation_batches(self) -> list[Record]:
        steps = math.ceil(self.options.validation_pairs / self.options.batch_size)
        return list(self._load(self._held_out, first_step=0, steps=steps))


def make_optimizer(learner: Learner, options: TrainConfig) -> torch.optim.Optimizer:
    """The learner's own, or else AdamW."""
    if hasattr(learner, "optimizer"):
        return learner.optimizer(options)
    return torch.optim.AdamW(
        learner.network.parameters(),
        lr=options.lr,
        betas=tuple(options.betas),
        eps=options.eps,
        weight_decay=options.weight_decay,
        fused=True,
    )


class _Losses(nn.Module):
    """A learner's losses as a module, which is what data-parallel training wraps."""

    def __init__(self, learner: Learner):
        super().__init__()
        self.network, self._losses = learner.network, learner.losses

    def forward(self, batch: Record, step: int) -> dict[str, Tensor]:
        return self._losses(batch, step)


@torch.inference_mode()
def measure(learner: Learner, batches: Iterable[Record], device: torch.device) -> dict[str, float]:
    """The mean of each measure over the batches of all processes; the network is left in training mode."""
    learner.network.eval()
    names, totals = (), torch.zeros(0, 2, dtype=torch.float64, device=device)
    for batch in batches:
        values = learner.measures(batch.to(device))
        counts = [[value.sum().item(), value.numel()] for value in values.values()]
        counts = torch.tensor(counts, dtype=torch.float64, device=device)
        names, totals = tuple(values), counts + (totals if names else 0)
    learner.network.train()
    totals = summed(totals)
    return dict(zip(names, (totals[:, 0] / totals[:, 1].clamp(min=1)).tolist(), strict=True))
