"""Estimates the poses of a BOP data set's test images and writes the CSV that BOP accepts.

python run_test.py --dataset lmo --checkpoint_path picopose.ckpt test_dataset.data_dir=/data/bop
"""

from picopose.utils import interrupts

if __name__ == "__main__":
    interrupts.leave_at_once()

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from picopose.datasets import layouts
from picopose.evaluation.after_run import check_truth, score_run
from picopose.model.compiling import compile_network
from picopose.model.picopose.build import features_dir, prepare_network
from picopose.model.picopose.network import PicoPose
from picopose.pipeline.bop_run import objects_of, open_dataset, run_dataset, stages_of, tested_set
from picopose.utils.config import METHODS, Config, load_config, to_yaml
from picopose.utils.device import choose_device
from picopose.utils.distributed import join
from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.files import remove_leftovers
from picopose.utils.stopwatch import Stopwatch

LOG = logging.getLogger("run_test")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--dataset",
        default="all",
        help="name of a BOP data set's folder below test_dataset.data_dir, or all for the seven core ones",
    )
    parser.add_argument("--config", default="config/base.yaml", help="YAML file")
    parser.add_argument("--checkpoint_path", help="weights: the released checkpoint or one trained here")
    parser.add_argument("--model", choices=METHODS, help="method (default: the config's)")
    parser.add_argument(
        "--version_id", type=int, default=0, help="number of the run, part of its folder's name"
    )
    parser.add_argument(
        "--gpus", help="index of the GPU, or one for each process of torchrun as in 0,1; or cpu"
    )
    parser.add_argument("--view", type=int, help="templates per object: 42, 162 or 642")
    parser.add_argument("--stage", type=int, help="stage that poses are read off after: 1, 2 or 3")
    parser.add_argument("--hypotheses", type=int, help="templates followed for each detection")
    parser.add_argument("--batch", type=int, help="hypotheses computed at once (default: by free memory)")
    parser.add_argument("--template_memory", type=float, metavar="GB", help="for templates on the device")
    parser.add_argument("--compile", action="store_true", default=None, help="the network by torch.compile")
    parser.add_argument("--profile", action="store_true", help="tell the seconds that each phase takes")
    parser.add_argument(
        "--score",
        action=argparse.BooleanOptionalAction,
        help="write scores and a report (default: where the images are annotated)",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="entries of the config, e.g. log_dir=out"
    )
    return parser.parse_intermixed_args()


@exits_cleanly(stopped="stopped: the same command goes on from here")
def main() -> None:
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = load_config(arguments.config, arguments.overrides, flags_of(arguments))
    world = join()
    device = choose_device(arguments.gpus, world.local_rank)
    network = None if config.method == "rendermatch" else network_of(config).to(device)
    run_dir = Path(config.log_dir) / f"{config.method}_{Path(arguments.config).stem}_id{arguments.version_id}"
    name = layouts.dataset_name(arguments.dataset)
    names = layouts.BOP_CORE if name == "all" else [name]
    check_detections(config, names)
    sets = [tested_set(name, config, run_dir) for name in names]
    for tested in sets if arguments.score else []:
        check_truth(tested)  # better told now than after the run
    datasets = [open_dataset(tested, config) for tested in sets]  # so is what another data set lacks
    if world.rank == 0:
        remove_leftovers(run_dir, features_dir(config), Path(config.log_dir) / "templates")
    objects = [objects_of(config, dataset, world) for dataset in datasets]
    for tested, dataset, things in zip(sets, datasets, objects, strict=True):
        stopwatch = Stopwatch(running=arguments.profile)
        stages = stages_of(things, network, config, device, stopwatch)
        run_dataset(tested, dataset, stages, config, run_dir, world=world, stopwatch=stopwatch)
        if world.rank == 0:
            LOG.info("poses: %s", tested.csv)
        if arguments.profile:
            LOG.info("%s", stopwatch.table())
    if world.rank == 0 and arguments.score is not False:
        options = {"config": to_yaml(config), "template_size": config.model.size}
        score_run(sets, run_dir, **options, required=arguments.score is True)


def network_of(config: Config) -> PicoPose:
    network = prepare_network(config.model, config.checkpoint)
    if config.runtime.compile:
        compile_network(network)
    return network


def flags_of(arguments: argparse.Namespace) -> dict[str, str | int | None]:
    """The flags that stand for entries of the config."""
    return {
        "checkpoint": arguments.checkpoint_path,
        "method": arguments.model,
        "test.views": arguments.view,
        "test.stage": arguments.stage,
        "test.hypotheses": arguments.hypotheses,
        "runtime.batch": arguments.batch,
        "runtime.template_memory": arguments.template_memory,
        "runtime.compile": arguments.compile,
    }


def check_detections(config: Config, names: Sequence[str]) -> None:
    """Raises an `InputError` where one file of detections is given for several data sets."""
    given = config.test_dataset.detections
    if given is not None and len(names) > 1 and not Path(given).is_dir():
        raise InputError(
            f"test_dataset.detections={given} is no folder with a file for each of {', '.join(names)}: "
            "give one, or run a single data set with --dataset"
        )


if __name__ == "__main__":
    main()
