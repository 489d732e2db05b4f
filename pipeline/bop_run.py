"""A run on a BOP data set: its images go through the stages, and the results into the files that BOP accepts.

An interrupted run can be continued, see `pipeline.resuming`.
"""

import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from picopose.datasets import layouts
from picopose.datasets.bop.detections import write_detections
from picopose.datasets.bop.image_result import ImageResult
from picopose.datasets.bop.results import csv_name, write_csv
from picopose.datasets.bop.side_file import write_details
from picopose.datasets.bop.targets import find_targets, read_targets
from picopose.datasets.bop.test_set import BopTestSet
from picopose.datasets.templates import StoredTemplates, StoredViews
from picopose.model.methods import detects, needs_of, only_detects, stage_names
from picopose.model.stage import Setup, Stage, Thing, Things
from picopose.pipeline.input_digests import (
    digest,
    file_digest,
    inputs_of,
    inputs_of_all,
    module_digest,
    weights_digests,
)
from picopose.pipeline.prefetch import prefetch
from picopose.pipeline.resuming import Work, run_resumably
from picopose.pipeline.run import run
from picopose.pipeline.starts import DatasetStart, StageDetections, regions_of
from picopose.pipeline.tested_set import SCORE_FILES, TestedSet
from picopose.rendering.mesh_digest import mesh_digest
from picopose.rendering.mesh_files import MeshFiles
from picopose.rendering.mesh_views import MeshViews
from picopose.rendering.render_templates import Job, render_all
from picopose.utils import template_files
from picopose.utils.config import Config
from picopose.utils.config_files import to_yaml
from picopose.utils.distributed import World
from picopose.utils.errors import InputError
from picopose.utils.files import write_atomically
from picopose.utils.mesh_file import MeshFile
from picopose.utils.records import Estimates, Frame
from picopose.utils.stopwatch import Stopwatch

LOG = logging.getLogger(__name__)


def tested_set(name: str, config: Config, run_dir: Path, task: str | None = None) -> TestedSet:
    """Where a data set's files are, and where a run on it will write its results.

    task: a key of `datasets.bop.targets.TARGETS`; None: that of the target list. Raises an `InputError` where
    it contradicts a list that the configuration names.
    """
    data = config.test_dataset
    if data.targets and task not in (None, own := read_targets(Path(data.targets)).task):
        raise InputError(
            f"test_dataset.targets={data.targets} is a list of {own}, the task {task}: drop one of the two"
        )
    folder, split = layouts.dataset_dir(data.data_dir, name), layouts.bop_test_split(data.data_dir, name)
    return TestedSet(
        name=name,
        csv=run_dir / csv_name(config.method, name, split),
        dataset_dir=folder,
        split_dir=folder / split,
        targets=Path(data.targets) if data.targets else find_targets(folder, task),
        templates=templates_root(config, name) if "templates" in needs_of(config) else None,
        camera=data.camera,
        task=task,
        estimates_poses=not only_detects(stage_names(config)),
        detects=detects(config),
    )


def open_dataset(tested: TestedSet, config: Config, *, detected: bool = True) -> BopTestSet:
    """A data set; `detected` says whether it is read with its detections."""
    return BopTestSet(
        config.test_dataset.data_dir,
        tested.name,
        detections=detections_of(config, tested.name) if detected else None,
        targets=tested.targets,
        task=tested.task,
        camera=tested.camera,
        detected=detected,
    )


def things_of(config: Config, dataset: BopTestSet, world: World) -> Things:
    """The objects of a data set; an `InputError` where something is missing that a stage needs."""
    needs = needs_of(config)
    things = {obj_id: Thing(obj_id, info.name, info.diameter) for obj_id, info in dataset.objects.items()}
    templates = template_set(config, dataset, world) if "templates" in needs else None
    try:
        drawings = MeshViews(MeshFiles(mesh_files(config, dataset)))
    except InputError as error:
        if "meshes" in needs:
            raise
        LOG.warning("the poses in %s get no confidence, for which meshes are needed: %s", dataset.name, error)
        drawings = None
    return Things(things, drawings, templates)


def mesh_files(config: Config, dataset: BopTestSet) -> dict[int, MeshFile]:
    """The mesh of each object of a data set; an `InputError` where one is missing."""
    meshes = layouts.find_meshes(config.test_dataset.data_dir, dataset.name)
    if missing := [obj_id for obj_id in dataset.objects if f"{obj_id:06d}" not in meshes]:
        folder = next(iter(meshes.values())).path.parent
        raise InputError(f"{folder}/obj_{missing[0]:06d}.ply not found: download the models again")
    return {obj_id: meshes[f"{obj_id:06d}"] for obj_id in dataset.objects}


def run_dataset(
    tested: TestedSet,
    dataset: BopTestSet,
    things: Things,
    stages: list[Stage],
    start: DatasetStart,
    setup: Setup,
    *,
    world: World,
) -> None:
    """Runs one data set, or what an interrupted run left undone, and writes its result files.

    Raises an `InputError` where another program is running it, or where it was begun with other options or
    weights.
    """
    config, run_dir = setup.config, tested.csv.parent
    work = Work(
        name=tested.name,
        journals=run_dir / f"{tested.name}_journal",
        fingerprint=fingerprint_of(config, dataset, start),
        places=dataset.places,
        inputs=lambda indices: inputs_of_all(dataset, start, indices),
        outdated=[*tested.files, *(run_dir / name for name in SCORE_FILES)],
    )
    run_resumably(
        work,
        lambda indices, done: run_images(dataset, indices, things, stages, start, done, setup.stopwatch),
        lambda results: _write_results(tested, results, config),
        world,
    )


def _write_results(tested: TestedSet, results: list[ImageResult], config: Config) -> None:
    if tested.estimates_poses:
        write_csv(tested.csv, results)
        write_details(tested.csv.with_suffix(".json"), results)
    if tested.detects:
        write_detections(tested.detections, results)
    with write_atomically(tested.csv.with_suffix(".yaml")) as temporary:
        temporary.write_text(to_yaml(config), encoding="utf-8")


def run_images(
    dataset: BopTestSet,
    indices: Sequence[int],
    things: Things,
    stages: list[Stage],
    start: DatasetStart,
    finished: Callable[[ImageResult], None],
    stopwatch: Stopwatch,
) -> None:
    """Sends images through the stages; their times do not include preparing the objects."""
    inputs: dict[tuple[int, int], dict[str, str]] = {}
    detected: dict[tuple[int, int], Estimates] = {}

    def load(index: int) -> Frame:
        inputs[dataset.places[index]] = inputs_of(dataset, start, index)  # before the photo can change
        return dataset[index]

    def begin(frame: Frame, before: Estimates | None) -> Estimates:
        found = start(frame, before)
        if isinstance(start, StageDetections):
            detected[frame.scene_id, frame.im_id] = found
            found = regions_of(found, start.stage)
        return found

    with tqdm(total=len(indices), desc=dataset.name, unit="image") as progress:

        def sink(frame: Frame, found: Estimates, seconds: float) -> None:
            place = frame.scene_id, frame.im_id
            own = {"inputs": inputs.pop(place), "detected": detected.pop(place, None)}
            finished(ImageResult.of(frame, found, seconds=seconds, most=dataset.most_poses, **own))
            progress.set_postfix_str(f"{seconds:.2f} s/image")
            progress.update()

        frames = stopwatch.over("wait for the photo", prefetch(load, indices))
        run(frames, things, stages, begin, sink)


def detections_of(config: Config, name: str) -> Path:
    """The detection file of a data set."""
    given = config.test_dataset.detections
    if given is None or Path(given).is_dir():
        return layouts.find_detections(given or config.test_dataset.data_dir, name)
    return Path(given)


def template_set(config: Config, dataset: BopTestSet, world: World) -> StoredTemplates:
    """The templates of a data set's objects; those below `log_dir` are rendered if they are missing.

    Raises an `InputError` for templates that are incomplete or whose number is not `test.views`.
    """
    name, root = dataset.name, templates_root(config, dataset.name)
    if root == Path(config.log_dir):
        if world.rank == 0:
            jobs = template_jobs(config, dataset, layouts.templates_dir(root, name))
            render_all(jobs, len(os.sched_getaffinity(0)))
        world.barrier()
    templates = {
        obj_id: StoredViews(root, name, f"{obj_id:06d}", diameter=info.diameter)
        for obj_id, info in dataset.objects.items()
    }
    for obj_id, found in templates.items():
        if len(found) != config.test.views:
            folder = layouts.templates_dir(root, name)
            raise InputError(
                f"{folder} has {len(found)} templates of object {obj_id}, but test.views is "
                f"{config.test.views}: set test.views={len(found)}, or render them again with "
                f"python -m picopose templates --dataset {name} --data_dir {root} "
                f"--views {config.test.views}"
            )
    return StoredTemplates(templates, config.model.size)


def templates_root(config: Config, name: str) -> Path:
    """The data folder with a data set's templates: the data set's own if it has templates, else `log_dir`."""
    beside = Path(config.test_dataset.data_dir)
    return beside if layouts.templates_dir(beside, name).is_dir() else Path(config.log_dir)


def template_jobs(config: Config, dataset: BopTestSet, folder: Path) -> list[Job]:
    unit = layouts.template_depth_unit(dataset.name)
    return [
        Job(file, folder, f"{obj_id:06d}", config.test.views, unit)
        for obj_id, file in mesh_files(config, dataset).items()
    ]


def fingerprint_of(config: Config, dataset: BopTestSet, start: DatasetStart) -> dict[str, str]:
    """What identifies a run, by name, so that it never replaces the results of a different one.

    Only the names of the target and detection files count here; what they say about an image is among that
    image's inputs.
    """
    targets = config.test_dataset.targets
    return {
        "method": config.method,
        "stages": json.dumps([stage_names(config), [module_digest(name) for name in stage_names(config)]]),
        "options": json.dumps(config.options, sort_keys=True),
        "dataset": dataset.name,
        "targets file": Path(targets).name if targets else "the data set's",
        "task": dataset.task,
        "detections file": start.path.name,
        "model": json.dumps(asdict(config.model)),
        "test": json.dumps(asdict(config.test)),
        "meshes or templates": digest(_objects_digest(config, dataset).encode()),
        "backbone": file_digest(config.model.pretrained),
        **weights_digests(config),
    }


def _objects_digest(config: Config, dataset: BopTestSet) -> str:
    """Identifies the templates that are used and the meshes that are there."""
    parts = []
    if "templates" in needs_of(config):  # they must be there
        root = templates_root(config, dataset.name)
        folder = layouts.templates_dir(root, dataset.name)
        names = [f"{obj_id:06d}" for obj_id in dataset.objects]
        parts += [StoredViews(root, dataset.name, name).digest() for name in names]
        parts += [digest(template_files.poses_file(folder, name).read_bytes()) for name in names]
    try:
        # Without the renderer's version: it belongs to the program, which is among the images' inputs.
        parts += [mesh_digest(file.path).split()[-1] for file in mesh_files(config, dataset).values()]
    except InputError:  # `things_of` has logged a warning about it
        parts.append("no meshes")
    return " ".join(parts)
