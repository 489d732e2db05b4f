"""Estimates the poses of a BOP data set's test images and writes the CSV that BOP accepts.

python run_test.py --dataset lmo --checkpoint_path picopose.ckpt test_dataset.data_dir=/data/bop
"""

import argparse
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from datasets.bop import BopTestSet
from datasets.journal import Journal, read_journals
from datasets.results import ImageResult, csv_name, write_csv, write_details
from datasets.templates import Templates, TemplateSet
from evaluation.after_run import check_truth, score_run
from evaluation.cases import TestedSet
from model.compiling import compile_network
from model.factory import make_stage, prepare_network
from model.picopose import PicoPose
from model.stage import Stage
from rendering.render_templates import Job, render_all
from utils import layouts
from utils.config import Config, load_config, to_yaml
from utils.device import choose_device
from utils.distributed import World, join
from utils.errors import InputError, exits_cleanly
from utils.files import write_atomically
from utils.prefetch import prefetch
from utils.stopwatch import Stopwatch

LOG = logging.getLogger("run_test")
TEMPLATE_RECORDS = (layouts.template_digest, layouts.template_poses)  # small files that tell templates apart


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--dataset",
        default="all",
        help="name of a BOP data set's folder below test_dataset.data_dir, or all for the seven core ones",
    )
    parser.add_argument("--config", default="config/base.yaml", help="YAML file")
    parser.add_argument("--checkpoint_path", help="weights: the released checkpoint or one trained here")
    parser.add_argument("--model", default="picopose", choices=["picopose"])
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


@exits_cleanly
def main() -> None:
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = load_config(arguments.config, arguments.overrides, flags_of(arguments))
    world = join()
    device = choose_device(arguments.gpus, world.local_rank)
    network = prepare_network(config.model, config.checkpoint).to(device)
    if config.runtime.compile:
        compile_network(network)
    run_dir = (
        Path(config.log_dir) / f"{arguments.model}_{Path(arguments.config).stem}_id{arguments.version_id}"
    )
    name = layouts.dataset_name(arguments.dataset)
    names = layouts.BOP_CORE if name == "all" else [name]
    check_detections(config, names)
    sets = [tested_set(name, config, run_dir, method=arguments.model) for name in names]
    for tested in sets if arguments.score else []:
        check_truth(tested)  # better told now than after the run
    datasets = [open_dataset(tested, config) for tested in sets]  # so is what another data set lacks
    sources = [template_set(config, dataset, world) for dataset in datasets]
    for tested, dataset, source in zip(sets, datasets, sources, strict=True):
        stopwatch = Stopwatch(running=arguments.profile)
        run_dataset(tested, dataset, source, config, network, run_dir, world=world, stopwatch=stopwatch)
        if world.rank == 0:
            LOG.info("poses: %s", tested.csv)
        if arguments.profile:
            LOG.info("%s", stopwatch.table())
    if world.rank == 0 and arguments.score is not False:
        options = {"config": to_yaml(config), "template_size": config.model.size}
        score_run(sets, run_dir, **options, required=arguments.score is True)


def flags_of(arguments: argparse.Namespace) -> dict[str, str | int | None]:
    """The flags that stand for entries of the config."""
    return {
        "checkpoint": arguments.checkpoint_path,
        "test.views": arguments.view,
        "test.stage": arguments.stage,
        "test.hypotheses": arguments.hypotheses,
        "runtime.batch": arguments.batch,
        "runtime.template_memory": arguments.template_memory,
        "runtime.compile": arguments.compile,
    }


def tested_set(name: str, config: Config, run_dir: Path, *, method: str) -> TestedSet:
    """Where a data set's files are and those of a run on it will be."""
    data = config.test_dataset
    folder, split = layouts.dataset_dir(data.data_dir, name), layouts.bop_test_split(data.data_dir, name)
    return TestedSet(
        name=name,
        csv=run_dir / csv_name(method, name, split),
        dataset_dir=folder,
        split_dir=folder / split,
        targets=Path(data.targets or folder / "test_targets_bop19.json"),
        templates=templates_root(config, name),
    )


def open_dataset(tested: TestedSet, config: Config) -> BopTestSet:
    detections = detections_of(config, tested.name)
    return BopTestSet(
        config.test_dataset.data_dir, tested.name, detections=detections, targets=tested.targets
    )


def run_dataset(
    tested: TestedSet,
    dataset: BopTestSet,
    source: TemplateSet,
    config: Config,
    network: PicoPose,
    run_dir: Path,
    *,
    world: World,
    stopwatch: Stopwatch,
) -> None:
    """Runs one data set, or what an interrupted run left of it, and writes its CSV."""
    fingerprint = fingerprint_of(config, dataset)
    journals = run_dir / f"{tested.name}_journal"
    done = read_journals(journals, fingerprint)
    # Images are dealt out before the finished ones are left out, so that every process deals alike.
    own = range(world.rank, len(dataset), world.size)
    missing = [i for i in own if (dataset.images[i].scene_id, dataset.images[i].im_id) not in done]
    stages = [make_stage(network, source, config, stopwatch)]
    with Journal(journals, fingerprint, rank=world.rank) as journal:
        run_images(dataset, missing, stages, journal.append, stopwatch, last=config.test.stage)
    world.barrier()
    if world.rank == 0:
        results = read_journals(journals, fingerprint)
        ordered = [results[image.scene_id, image.im_id] for image in dataset.images]
        write_csv(tested.csv, ordered)
        write_details(tested.csv.with_suffix(".json"), ordered)
        with write_atomically(run_dir / "config.yaml") as temporary:
            temporary.write_text(to_yaml(config), encoding="utf-8")


def run_images(
    dataset: BopTestSet,
    indices: list[int],
    stages: list[Stage],
    finished: Callable[[ImageResult], None],
    stopwatch: Stopwatch,
    *,
    last: int,
) -> None:
    """Sends images through the stages, one at a time; time spent on preparing an object is not an image's."""
    with tqdm(total=len(indices), desc=dataset.name, unit="image") as progress:
        for observation in stopwatch.over("wait for the photo", prefetch(dataset.__getitem__, indices)):
            with stopwatch("prepare objects"):
                for stage in stages:
                    stage.onboard(observation.obj_ids.unique().tolist())
            start, poses = time.perf_counter(), None
            for stage in stages:
                poses = stage.predict(observation, poses)
            poses = poses.to("cpu")
            seconds = time.perf_counter() - start
            with stopwatch("write"):
                finished(ImageResult.of(observation, poses, seconds=seconds, stage=last))
            progress.set_postfix_str(f"{seconds:.2f} s/image")
            progress.update()


def check_detections(config: Config, names: Sequence[str]) -> None:
    """Raises an `InputError` where one file of detections is given for several data sets."""
    given = config.test_dataset.detections
    if given is not None and len(names) > 1 and not Path(given).is_dir():
        raise InputError(
            f"test_dataset.detections={given} is no folder with a file for each of {', '.join(names)}: "
            "give one, or run a single data set with --dataset"
        )


def detections_of(config: Config, name: str) -> Path:
    """The detection file of a data set."""
    given = config.test_dataset.detections
    if given is None or Path(given).is_dir():
        return layouts.find_detections(given or config.test_dataset.data_dir, name)
    return Path(given)


def template_set(config: Config, dataset: BopTestSet, world: World) -> TemplateSet:
    """The templates of a data set's objects; those below `log_dir` are rendered if they are not there yet.

    Raises an `InputError` for templates that are incomplete or of another number than `test.views`.
    """
    name, root = dataset.name, templates_root(config, dataset.name)
    if root == Path(config.log_dir):
        if world.rank == 0:
            jobs = template_jobs(config, dataset, layouts.templates_dir(root, name))
            render_all(jobs, len(os.sched_getaffinity(0)))
        world.barrier()
    templates = {obj_id: Templates(root, name, f"{obj_id:06d}") for obj_id in dataset.objects}
    for obj_id, found in templates.items():
        if len(found) != config.test.views:
            folder = layouts.templates_dir(root, name)
            raise InputError(
                f"{folder} has {len(found)} templates of object {obj_id}, but test.views is "
                f"{config.test.views}: pass --view {len(found)}, or render them again with "
                f"python -m rendering.render_templates --dataset {name} --data_dir {root} "
                f"--views {config.test.views}"
            )
    return TemplateSet(templates, config.model.size)


def templates_root(config: Config, name: str) -> Path:
    """The data folder of a data set's templates: its own if there are any, else `log_dir`."""
    beside = Path(config.test_dataset.data_dir)
    return beside if layouts.templates_dir(beside, name).is_dir() else Path(config.log_dir)


def template_jobs(config: Config, dataset: BopTestSet, folder: Path) -> list[Job]:
    meshes = layouts.find_meshes(config.test_dataset.data_dir, dataset.name)
    names = [f"{obj_id:06d}" for obj_id in dataset.objects]
    unit = layouts.template_depth_unit(dataset.name)
    return [Job(meshes[name], folder, name, config.test.views, unit) for name in names]


def fingerprint_of(config: Config, dataset: BopTestSet) -> dict[str, str]:
    """Everything that the poses of a run depend on, by name; the templates must be there."""
    folder = layouts.templates_dir(templates_root(config, dataset.name), dataset.name)
    names = [f"{obj_id:06d}" for obj_id in dataset.objects]
    templates = [path(folder, name) for name in names for path in TEMPLATE_RECORDS]
    files = {"checkpoint": config.checkpoint, "detections": dataset.detections.path}
    return {
        "dataset": dataset.name,
        "images": _digest(json.dumps([(i.scene_id, i.im_id, i.instances) for i in dataset.images]).encode()),
        "model": json.dumps(asdict(config.model)),
        "test": json.dumps(asdict(config.test)),
        "templates": _digest(b"".join(path.read_bytes() for path in templates if path.is_file())),
        **{key: _digest(Path(path).read_bytes()) if path else "none" for key, path in files.items()},
    }


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


if __name__ == "__main__":
    main()
