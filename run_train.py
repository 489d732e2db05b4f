"""Trains a method: python run_train.py --config config/base.yaml model.pretrained=timm

On several GPUs or machines: torchrun --nproc_per_node=8 run_train.py ...; `train.batch_size` is the number of
samples in all processes together. A run that was stopped continues with --ckpt_path last, and gets the same
results as if it had never been stopped.
"""

from __future__ import annotations

import argparse
import logging
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from picopose.utils.errors import exits_cleanly
from picopose.utils.loading import loading

if TYPE_CHECKING:
    from picopose.pipeline.training.run import Run
    from picopose.utils.config import Config


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="method to train (default: the config's)")
    parser.add_argument("--config", default="config/base.yaml", help="YAML file")
    parser.add_argument(
        "--version_id", type=int, default=0, help="number of the run, part of its folder's name"
    )
    parser.add_argument(
        "--ckpt_path", help="checkpoint to continue from: a file, or last for the run's newest"
    )
    parser.add_argument(
        "--gpus", help="index of the GPU, or one for each process of torchrun as in 0,1; or cpu"
    )
    parser.add_argument("--overfit", type=int, metavar="N", help="train on the first N samples only")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="entries of the config, e.g. train.batch_size=32"
    )
    return parser.parse_intermixed_args()


@exits_cleanly(
    stopped="stopped before a step was saved; --ckpt_path last continues if there are earlier ones"
)
def main() -> None:
    arguments = parse_arguments()
    with loading():
        from picopose.evaluation.in_training import BopValidation
        from picopose.model.methods import learner_of
        from picopose.pipeline.training.run import Run
        from picopose.utils.config_files import load_config
        from picopose.utils.device import choose_device
        from picopose.utils.distributed import join, leave
        from picopose.utils.files import locked, remove_leftovers
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = load_config(arguments.config, arguments.overrides, {"method": arguments.model})
    if arguments.overfit:
        config = overfitting(config, arguments.overfit)
    world = join()
    device, name = choose_device(arguments.gpus, world.local_rank), config.method
    learner = learner_of(name, config, resumes=bool(arguments.ckpt_path))
    folder = Path(config.log_dir) / f"{name}_{Path(arguments.config).stem}_id{arguments.version_id}"
    recall = BopValidation(learner, config, folder / "validation", world)
    run = Run(learner, config, folder, world, device, overfit=arguments.overfit, evaluate=recall)
    if arguments.ckpt_path:
        run.resume(run.snapshots.find(arguments.ckpt_path))
    else:
        run.snapshots.refuse_to_begin()
    refusal = "another training is running in it: wait until it ends, or pass another --version_id"
    with locked(folder, refusal) if world.rank == 0 else nullcontext():
        if world.rank == 0:
            remove_leftovers(folder)
        train(run)
    leave()


def overfitting(config: Config, samples: int) -> Config:
    """No sample comes twice in a batch, where a contrastive loss would take its copy for a wrong match."""
    return replace(config, train=replace(config.train, batch_size=min(config.train.batch_size, samples)))


def train(run: Run) -> None:
    """Trains until the last step, or until the system asks to stop; the state is saved then."""
    import torch

    from picopose.datasets.training.loader import noticing_dead_workers
    from picopose.pipeline.training.health import in_any
    from picopose.pipeline.training.stop import StopRequest

    options, losses_of = run.options, run.losses()
    with run.open_log() as log, run.snapshots, StopRequest() as stop, noticing_dead_workers():
        for batch in run.batches():
            batch = batch.to(run.device, non_blocking=True)
            losses, norm = run.take_step(batch, losses_of)
            stopping = bool(in_any(torch.tensor(bool(stop))))  # on the host, so as not to wait for the GPU

            log.step()
            last = stopping or run.step == options.steps
            logging_now = last or run.step % options.log_every == 0
            run.settle(log, but=0 if logging_now else 1)
            if logging_now:
                log.scalars(run.step, run.scalars(losses, norm))
            if run.step % options.picture_every == 0:
                run.draw(batch, log)
            if options.validate_every and run.step % options.validate_every == 0:
                run.validate(log)
            if last or run.step % options.save_every == 0:
                run.save()
            if stopping:
                log.say(f"stopped after step {run.step}: --ckpt_path last continues")
                break


if __name__ == "__main__":
    main()
