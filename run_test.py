"""Estimates the poses of a BOP data set's test images and writes the CSV that BOP accepts.

python run_test.py --dataset lmo --checkpoint_path picopose.ckpt test_dataset.data_dir=/data/bop

A method of categories runs on a data set in NOCS's layout and writes one result file per image:
python run_test.py --model dualposenet --dataset nocs/real_test --checkpoint_path model-30
"""

import argparse
import logging
from dataclasses import replace
from pathlib import Path

from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.loading import loading

LOG = logging.getLogger("run_test")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--dataset",
        default="all",
        help="name of a BOP data set's folder below test_dataset.data_dir, or all for the seven core ones; "
        "for a method of categories, a data set in NOCS's layout",
    )
    parser.add_argument(
        "--task",
        choices=("localization", "detection"),
        help="find the objects that the targets name, or all in their images (default: as the targets say)",
    )
    parser.add_argument("--config", default="config/base.yaml", help="YAML file")
    parser.add_argument("--checkpoint_path", help="weights: a file, or a name as in picopose download")
    parser.add_argument("--model", help="method (default: the config's)")
    parser.add_argument(
        "--stages", metavar="NAME,...", help="stages to run, in order (default: the method's)"
    )
    parser.add_argument(
        "--init",
        type=Path,
        metavar="FILE",
        help="poses to start from, not detections: BOP's CSV, PoseCNN's .pkl, PVNet's .npy or their folder",
    )
    parser.add_argument(
        "--version_id", type=int, default=0, help="number of the run, part of its folder's name"
    )
    parser.add_argument(
        "--gpus", help="index of the GPU, or one for each process of torchrun as in 0,1; or cpu"
    )
    parser.add_argument("--view", type=int, help="templates per object: 42, 162 or 642")
    parser.add_argument("--level", help="level of the paper to take the poses from: match, affine or flow")
    parser.add_argument("--hypotheses", type=int, help="templates tried for each detection")
    parser.add_argument(
        "--batch", type=int, help="hypotheses computed at once (default: what fits into memory)"
    )
    parser.add_argument("--template_memory", type=float, metavar="GB", help="device memory for templates")
    parser.add_argument(
        "--compile", action="store_true", default=None, help="compile the network with torch.compile"
    )
    parser.add_argument("--profile", action="store_true", help="print the time per phase")
    parser.add_argument(
        "--score",
        action=argparse.BooleanOptionalAction,
        help="write scores and a report (default: where the images are annotated)",
    )
    parser.add_argument(
        "--pictures",
        type=int,
        default=0,
        metavar="N",
        help="draw how poses are refined in the first N annotated images",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="entries of the config, e.g. log_dir=out"
    )
    return parser.parse_intermixed_args()


@exits_cleanly(stopped="stopped: the same command continues from here")
def main() -> None:
    arguments = parse_arguments()
    with loading():
        from picopose.model.methods import of_categories
        from picopose.utils.config_files import load_config
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = load_config(arguments.config, arguments.overrides, flags_of(arguments))
    if of_categories(config):
        run_categories(arguments, config)
    else:
        run_objects(arguments, config)


def run_objects(arguments: argparse.Namespace, config) -> None:
    """Runs a method that finds known objects, on one or more BOP data sets."""
    with loading():
        from picopose.datasets.layouts import dataset_names
        from picopose.evaluation.after_run import check_truth, score_run
        from picopose.evaluation.refinement_pictures import write_refinements
        from picopose.model.methods import (
            check_poses_are_found,
            make_stages,
            stage_names,
            with_distinct,
        )
        from picopose.model.prepared_files import features_dir
        from picopose.model.stage import Setup
        from picopose.pipeline.bop_run import open_dataset, run_dataset, tested_set, things_of
        from picopose.pipeline.tested_set import task_of
        from picopose.utils.config_files import to_yaml
        from picopose.utils.device import choose_device
        from picopose.utils.distributed import join
        from picopose.utils.files import remove_leftovers
        from picopose.utils.stopwatch import Stopwatch
    config = replace(config, stages=stage_names(config, from_poses=arguments.init is not None))
    if not arguments.init:
        check_poses_are_found(config.stages)
    world = join()
    device = choose_device(arguments.gpus, world.local_rank)
    run_dir = run_dir_of(arguments, config)
    names = dataset_names(arguments.dataset)
    check_files(config, names, arguments.init)
    sets = [tested_set(name, config, run_dir, arguments.task) for name in names]
    if task_of(sets) == "detection":
        config = replace(config, stages=with_distinct(config.stages))
    setup = Setup(config, device, Stopwatch(running=arguments.profile))
    stages = make_stages(config.stages, setup)
    detector = stages.pop(0) if sets[0].detects else None
    check_pictures(arguments.pictures, sets)
    for tested in sets if arguments.score or arguments.pictures else []:
        check_truth(tested)  # fails now rather than after the run
    detected = not (arguments.init or detector)
    datasets = [open_dataset(tested, config, detected=detected) for tested in sets]
    if world.rank == 0:
        remove_leftovers(run_dir, features_dir(config), Path(config.log_dir) / "templates")
    objects = [things_of(config, dataset, world) for dataset in datasets]
    for tested, dataset, things in zip(sets, datasets, objects, strict=True):
        start = start_of(arguments.init, detector, dataset, things)
        setup.stopwatch.seconds.clear()
        run_dataset(tested, dataset, things, stages, start, setup, world=world)
        if world.rank == 0:
            for what, path in tested.results.items():
                LOG.info("%s: %s", what, path)
        if arguments.profile:
            LOG.info("%s", setup.stopwatch.table())
        if world.rank == 0 and arguments.pictures:
            folder, images = run_dir / "pictures", arguments.pictures
            write_refinements(folder, tested, dataset, things, stages, start, images=images)
    if world.rank == 0 and arguments.score is not False:
        options = {"config": to_yaml(config), "template_size": config.model.size}
        score_run(sets, run_dir, **options, required=arguments.score is True)


def run_categories(arguments: argparse.Namespace, config) -> None:
    """Runs a method that finds objects of categories, on a data set in NOCS's layout."""
    with loading():
        from picopose.datasets.nocs.test_set import NocsTestSet
        from picopose.evaluation.categories.after_run import score_run
        from picopose.model.methods import make_stages, stage_names
        from picopose.model.stage import Setup
        from picopose.pipeline import category_run
        from picopose.utils.config_files import to_yaml
        from picopose.utils.device import choose_device
        from picopose.utils.distributed import join
        from picopose.utils.files import remove_leftovers
        from picopose.utils.stopwatch import Stopwatch
    check_meaningful(arguments, config)
    config = replace(config, stages=stage_names(config))
    world = join()
    device = choose_device(arguments.gpus, world.local_rank)
    run_dir = run_dir_of(arguments, config)
    setup = Setup(config, device, Stopwatch(running=arguments.profile))
    given = config.test_dataset
    dataset = NocsTestSet(given.data_dir, arguments.dataset, detections=given.detections)
    stages = make_stages(config.stages, setup)
    if world.rank == 0:
        remove_leftovers(run_dir)
    done = category_run.run_categories(dataset, stages, setup, run_dir, world)
    if arguments.profile:
        LOG.info("%s", setup.stopwatch.table())
    if world.rank == 0:
        folder = category_run.results_folder(dataset, run_dir)
        LOG.info("poses: %s", folder)
        if arguments.score is not False:
            score_run(dataset, folder, done, run_dir, config=to_yaml(config))


def check_meaningful(arguments: argparse.Namespace, config) -> None:
    """Raises an `InputError` for options that a method of categories cannot use."""
    if arguments.dataset == "all":
        raise InputError(
            f"--dataset all: {config.method} runs on a data set in NOCS's layout; name its folder below "
            "test_dataset.data_dir"
        )
    for name in ("task", "init", "view", "level", "hypotheses", "template_memory", "compile", "pictures"):
        if getattr(arguments, name):
            raise InputError(f"--{name} has no meaning for {config.method}, which is of categories: drop it")
    for name in ("targets", "camera"):
        if getattr(config.test_dataset, name):
            raise InputError(f"test_dataset.{name} has no meaning for a data set in NOCS's layout: drop it")


def run_dir_of(arguments: argparse.Namespace, config) -> Path:
    """The folder that the run writes into."""
    name = f"{config.method}_{Path(arguments.config).stem}_id{arguments.version_id}"
    return Path(config.log_dir) / name


def start_of(init: Path | None, detector, dataset, things):
    """What each image starts from: given poses, what the detector stage finds, or given detections."""
    from picopose.pipeline.starts import Detected, InitialPoses, StageDetections

    if init:
        return InitialPoses(init, things, dataset)
    return StageDetections(detector, things) if detector else Detected(dataset)


def flags_of(arguments: argparse.Namespace) -> dict[str, object]:
    """The entries of the config that flags set, by name; None where a flag is not given."""
    stages = arguments.stages
    return {
        "checkpoint": arguments.checkpoint_path,
        "method": arguments.model,
        "stages": None if stages is None else [name.strip() for name in stages.split(",")],
        "test.views": arguments.view,
        "test.level": arguments.level,
        "test.hypotheses": arguments.hypotheses,
        "runtime.batch": arguments.batch,
        "runtime.template_memory": arguments.template_memory,
        "runtime.compile": arguments.compile,
    }


def check_files(config, names: list[str], init: Path | None) -> None:
    """Raises an `InputError` where a single file is given for several data sets."""
    if init and len(names) > 1:
        raise InputError(f"--init {init}: the poses of one data set; name it with --dataset")
    given = config.test_dataset.detections
    if given is not None and len(names) > 1 and not Path(given).is_dir():
        raise InputError(
            f"test_dataset.detections={given} is no folder with a file for each of {', '.join(names)}: "
            "give one, or run a single data set with --dataset"
        )


def check_pictures(count: int, sets) -> None:
    """Raises an `InputError` where pictures of a refinement are asked for that cannot be drawn."""
    if count < 0:
        raise InputError(f"--pictures {count}: give the number of images, 0 for none")
    if count and not sets[0].estimates_poses:
        raise InputError(
            f"--pictures {count}: no stage estimates poses, so there is nothing to draw; drop it"
        )


if __name__ == "__main__":
    main()
