"""One run on a BOP data set: its images through the stages, their poses into the CSV that BOP accepts.

A run that is interrupted can be continued: every image is in a journal as soon as it is done, with digests of
what its poses were made from. Images of which anything has changed since are done again.
"""

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from picopose.datasets import layouts
from picopose.datasets.bop.image_result import ImageResult
from picopose.datasets.bop.results import csv_name, write_csv
from picopose.datasets.bop.side_file import write_details
from picopose.datasets.bop.targets import find_targets
from picopose.datasets.bop.test_set import BopTestSet
from picopose.datasets.templates import StoredTemplates, StoredViews
from picopose.model.methods import find, needs_of, stage_names
from picopose.model.stage import Setup, Stage, Thing, Things
from picopose.pipeline.input_digests import digest, inputs_of, inputs_of_all
from picopose.pipeline.journal import Fingerprint, Journal, read_journals, write_journal
from picopose.pipeline.prefetch import prefetch
from picopose.pipeline.run import run
from picopose.pipeline.starts import DatasetStart
from picopose.pipeline.tested_set import SCORE_FILES, TestedSet
from picopose.rendering.mesh_digest import mesh_digest
from picopose.rendering.mesh_files import MeshFiles
from picopose.rendering.mesh_views import MeshViews
from picopose.rendering.render_templates import Job, render_all
from picopose.utils import template_files
from picopose.utils.config import Config, to_yaml
from picopose.utils.distributed import World
from picopose.utils.errors import InputError
from picopose.utils.files import locked, write_atomically
from picopose.utils.mesh_file import MeshFile
from picopose.utils.records import Estimates, Frame
from picopose.utils.stopwatch import Stopwatch

LOG = logging.getLogger(__name__)


def tested_set(name: str, config: Config, run_dir: Path) -> TestedSet:
    """Where a data set's files are and those of a run on it will be."""
    data = config.test_dataset
    folder, split = layouts.dataset_dir(data.data_dir, name), layouts.bop_test_split(data.data_dir, name)
    return TestedSet(
        name=name,
        csv=run_dir / csv_name(config.method, name, split),
        dataset_dir=folder,
        split_dir=folder / split,
        targets=Path(data.targets) if data.targets else find_targets(folder),
        templates=templates_root(config, name) if "templates" in needs_of(config) else None,
        camera=data.camera,
    )


def open_dataset(tested: TestedSet, config: Config, *, detected: bool = True) -> BopTestSet:
    """A data set with its detections, or without."""
    return BopTestSet(
        config.test_dataset.data_dir,
        tested.name,
        detections=detections_of(config, tested.name) if detected else None,
        targets=tested.targets,
        camera=tested.camera,
        detected=detected,
    )


def things_of(config: Config, dataset: BopTestSet, world: World) -> Things:
    """The objects of a data set; an `InputError` where a stage lacks something of them."""
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
    """Runs one data set, or what an interrupted run left of it, and writes its CSV.

    Raises an `InputError` where another program is at it, or has been with other options or weights.
    """
    config, run_dir = setup.config, tested.csv.parent
    fingerprint, journals = fingerprint_of(config, dataset, start), run_dir / f"{tested.name}_journal"
    refusal = "another run is at work in it: wait for its end, or name another log_dir or version_id"
    with locked(journals, refusal) if world.rank == 0 else nullcontext():
        if world.rank == 0:
            take_over(journals, fingerprint, tested, dataset, start)
        world.barrier()
        done = read_journals(journals, fingerprint)
        # Images are dealt out before the finished ones are left out, so that every process deals alike.
        own = range(world.rank, len(dataset), world.size)
        missing = [i for i in own if dataset.places[i] not in done]
        with Journal(journals, fingerprint, rank=world.rank) as journal:
            if missing:
                run_images(dataset, missing, things, stages, start, journal.append, setup.stopwatch)
        world.barrier()
        if world.rank == 0:
            _write_results(tested, dataset, read_journals(journals, fingerprint), config)


def take_over(
    journals: Path, fingerprint: Fingerprint, tested: TestedSet, dataset: BopTestSet, start: DatasetStart
) -> None:
    """Keeps those finished images of earlier runs that would come out alike now, and says how many they are.

    Results that the run is about to make anew are removed at once, so that none outlive their inputs.
    """
    found = read_journals(journals, fingerprint)
    indices = [i for i in range(len(dataset)) if dataset.places[i] in found]
    kept, changes = [], Counter()
    for i, inputs in zip(indices, inputs_of_all(dataset, start, indices), strict=True):
        result = found[dataset.places[i]]
        if inputs == result.inputs:
            kept.append(result)
        changes.update(name for name in inputs if inputs[name] != result.inputs.get(name))
    if changes:
        told = ", ".join(f"{name} of {count}" for name, count in sorted(changes.items()))
        again = len(indices) - len(kept)
        LOG.info("%s: %d images are not as they were and are done again: other %s", tested.name, again, told)
    if kept:
        share = f"{len(kept)} of {len(dataset)}" if len(kept) < len(dataset) else f"all {len(dataset)}"
        LOG.info("%s: %s images are taken from an earlier run", tested.name, share)
    if found:
        write_journal(journals, fingerprint, kept)
    if len(kept) < len(dataset):
        for path in (*tested.files, *(journals.parent / name for name in SCORE_FILES)):
            path.unlink(missing_ok=True)


def _write_results(
    tested: TestedSet, dataset: BopTestSet, results: dict[tuple[int, int], ImageResult], config: Config
) -> None:
    ordered = [results.get(place) for place in dataset.places]
    if None in ordered:
        raise InputError(
            f"{tested.csv.parent}: images of other processes are missing; all must share log_dir"
        )
    write_csv(tested.csv, ordered)
    write_details(tested.csv.with_suffix(".json"), ordered)
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
    """Sends images through the stages; time spent on preparing objects is not theirs."""
    inputs: dict[tuple[int, int], dict[str, str]] = {}

    def load(index: int) -> Frame:
        inputs[dataset.places[index]] = inputs_of(dataset, start, index)  # before the photo can change
        return dataset[index]

    with tqdm(total=len(indices), desc=dataset.name, unit="image") as progress:

        def sink(frame: Frame, found: Estimates, seconds: float) -> None:
            own = inputs.pop((frame.scene_id, frame.im_id))
            finished(ImageResult.of(frame, found, seconds=seconds, inputs=own))
            progress.set_postfix_str(f"{seconds:.2f} s/image")
            progress.update()

        frames = stopwatch.over("wait for the photo", prefetch(load, indices))
        run(frames, things, stages, start, sink)


def detections_of(config: Config, name: str) -> Path:
    """The detection file of a data set."""
    given = config.test_dataset.detections
    if given is None or Path(given).is_dir():
        return layouts.find_detections(given or config.test_dataset.data_dir, name)
    return Path(given)


def template_set(config: Config, dataset: BopTestSet, world: World) -> StoredTemplates:
    """The templates of a data set's objects; those below `log_dir` are rendered if they are not there yet.

    Raises an `InputError` for templates that are incomplete or of another number than `test.views`.
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
    """The data folder of a data set's templates: its own if there are any, else `log_dir`."""
    beside = Path(config.test_dataset.data_dir)
    return beside if layouts.templates_dir(beside, name).is_dir() else Path(config.log_dir)


def template_jobs(config: Config, dataset: BopTestSet, folder: Path) -> list[Job]:
    unit = layouts.template_depth_unit(dataset.name)
    return [
        Job(file, folder, f"{obj_id:06d}", config.test.views, unit)
        for obj_id, file in mesh_files(config, dataset).items()
    ]


def fingerprint_of(config: Config, dataset: BopTestSet, start: DatasetStart) -> dict[str, str]:
    """What a run is about, by name: another one's poses are not to be replaced by its own.

    Targets and detections count by their names here; by what they say of an image they are its inputs.
    """
    targets = config.test_dataset.targets
    weights = {"checkpoint": config.checkpoint, "backbone": config.model.pretrained}
    weights |= {
        f"{name}'s weights": own["weights"] for name, own in config.options.items() if "weights" in own
    }
    return {
        "method": config.method,
        "stages": json.dumps([stage_names(config), [module_digest(name) for name in stage_names(config)]]),
        "options": json.dumps(config.options, sort_keys=True),
        "dataset": dataset.name,
        "targets file": Path(targets).name if targets else "the data set's",
        "detections file": start.path.name,
        "model": json.dumps(asdict(config.model)),
        "test": json.dumps(asdict(config.test)),
        "meshes or templates": digest(_objects_digest(config, dataset).encode()),
        **{key: _file_digest(path) for key, path in weights.items()},
    }


def module_digest(name: str) -> str:
    """Of the code of a stage from outside; the program's own is counted by its version."""
    return _file_digest(find(name).__file__) if "." in name else ""


def _file_digest(path: str | None) -> str:
    """Of a file's content, or of those in a folder with their names."""
    if path and Path(path).is_dir():
        files = sorted(file for file in Path(path).iterdir() if file.is_file())
        return digest(" ".join(f"{file.name} {_file_digest(file)}" for file in files).encode())
    return digest(Path(path).read_bytes()) if path and Path(path).is_file() else str(path)


def _objects_digest(config: Config, dataset: BopTestSet) -> str:
    """Tells the templates that are used and the meshes that there are."""
    parts = []
    if "templates" in needs_of(config):  # they must be there
        root = templates_root(config, dataset.name)
        folder = layouts.templates_dir(root, dataset.name)
        names = [f"{obj_id:06d}" for obj_id in dataset.objects]
        parts += [StoredViews(root, dataset.name, name).digest() for name in names]
        parts += [digest(template_files.poses_file(folder, name).read_bytes()) for name in names]
    try:
        # Without the version of the way of drawing, which is the program's and so among the images' inputs.
        parts += [mesh_digest(file.path).split()[-1] for file in mesh_files(config, dataset).values()]
    except InputError:  # `things_of` has told what follows
        parts.append("no meshes")
    return " ".join(parts)
