"""A run of a method of categories on a data set in NOCS's layout, with one result file per image.

An interrupted run can be continued, see `pipeline.resuming`; result files that were changed are made again.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from picopose.datasets.bop.image_result import ImageResult
from picopose.datasets.nocs import detections as nocs
from picopose.datasets.nocs.layout import CLASSES
from picopose.datasets.nocs.test_set import NocsTestSet
from picopose.model.methods import stage_names
from picopose.model.stage import Setup, Stage, Thing, Things
from picopose.pipeline.input_digests import content_of, digest, module_digest, program_digest, weights_digests
from picopose.pipeline.prefetch import prefetch
from picopose.pipeline.resuming import Work, run_resumably
from picopose.pipeline.run import run
from picopose.pipeline.tested_set import SCORE_FILES
from picopose.utils.config import Config
from picopose.utils.config_files import to_yaml
from picopose.utils.distributed import World
from picopose.utils.files import make_folder, write_atomically
from picopose.utils.records import Estimates, Frame

THINGS = Things({number: Thing(number, name, None) for number, name in enumerate(CLASSES, start=1)})
_READERS = 8  # threads


def results_folder(dataset: NocsTestSet, run_dir: Path) -> Path:
    return run_dir / f"{dataset.name}_results"


def run_categories(
    dataset: NocsTestSet, stages: list[Stage], setup: Setup, run_dir: Path, world: World
) -> list[ImageResult]:
    """Runs a data set, or what an interrupted run left undone; returns the results of all its images.

    Only the first process gets them. Raises an `InputError` where another program is running it, or where it
    was begun with other options or weights.
    """
    folder, told = results_folder(dataset, run_dir), []
    work = Work(
        name=dataset.name,
        journals=run_dir / f"{dataset.name}_journal",
        fingerprint=fingerprint_of(setup.config, dataset),
        places=dataset.places,
        inputs=lambda indices: _inputs_of_all(dataset, folder, indices),
        outdated=[run_dir / name for name in SCORE_FILES],
    )

    def finish(results: list[ImageResult]) -> None:
        told.extend(results)
        _remove_others(folder, dataset)
        with write_atomically(run_dir / f"{dataset.name}.yaml") as temporary:
            temporary.write_text(to_yaml(setup.config), encoding="utf-8")

    run_resumably(
        work, lambda indices, done: _run_images(dataset, indices, stages, setup, folder, done), finish, world
    )
    return told


def _run_images(
    dataset: NocsTestSet,
    indices: Sequence[int],
    stages: list[Stage],
    setup: Setup,
    folder: Path,
    finished: Callable[[ImageResult], None],
) -> None:
    """Sends images through the stages and writes their results."""
    inputs: dict[tuple[int, int], dict[str, str]] = {}
    make_folder(folder)

    def load(index: int) -> Frame:
        inputs[dataset.places[index]] = _inputs_of(dataset, index)  # before a file can change
        return dataset[index]

    with tqdm(total=len(indices), desc=dataset.name, unit="image") as progress:

        def sink(frame: Frame, found: Estimates, seconds: float) -> None:
            path = folder / dataset.files(frame).result
            nocs.write_result(path, result_of(dataset, frame, found))
            own = inputs.pop((frame.scene_id, frame.im_id)) | {"result": _digest_of(path)}
            phases = {"detection": found.seconds, "poses": seconds}
            finished(
                ImageResult(frame.scene_id, frame.im_id, sum(phases.values()), (), phases=phases, inputs=own)
            )
            progress.set_postfix_str(f"{seconds:.2f} s/image")
            progress.update()

        frames = setup.stopwatch.over("wait for the photo", prefetch(load, indices))
        run(frames, THINGS, stages, dataset.start, sink)


def result_of(dataset: NocsTestSet, frame: Frame, found: Estimates) -> nocs.ImageResult:
    """The truths of an image and what was found in it, in the original's form."""
    return nocs.ImageResult(
        image_path=dataset.files(frame).image_path,
        truths=dataset.truths(frame),
        class_ids=found.obj_id.numpy(),
        boxes=found.box.double().numpy()[:, [1, 0, 3, 2]],
        scores=found.score.double().numpy(),
        poses=scaled_poses(found),
    )


def scaled_poses(found: Estimates) -> nocs.Poses:
    """Poses (N, 4, 4) with the boxes' diagonals as their scales, and sides (N, 3) as shares of these.

    As in the original, what was not solved has the identity and sides of 1; so has what is not finite.
    """
    if len(found) == 0:
        return nocs.Poses(np.zeros((0, 4, 4)), np.zeros((0, 3)))
    RTs, sizes = found.cam_from_obj.double().numpy().copy(), found.size.double().numpy()
    diagonals = np.linalg.norm(sizes, axis=1)
    RTs[:, :3, :3] *= diagonals[:, None, None]
    solved = (found.inlier_ratio.numpy() > 0) & np.isfinite(RTs).all(axis=(1, 2)) & (diagonals > 0)
    RTs[~solved] = np.eye(4)
    scales = np.ones_like(sizes)
    scales[solved] = sizes[solved] / diagonals[solved, None]
    return nocs.Poses(RTs, scales)


def fingerprint_of(config: Config, dataset: NocsTestSet) -> dict[str, str]:
    """What a run is about, by name; detections count by their name here, by what they say as inputs."""
    names = stage_names(config)
    return {
        "method": config.method,
        "stages": json.dumps([names, [module_digest(name) for name in names]]),
        "options": json.dumps(config.options, sort_keys=True),
        "dataset": dataset.name,
        "detections": dataset.detections.name,
        **weights_digests(config),
    }


def _inputs_of_all(dataset: NocsTestSet, folder: Path, indices: Sequence[int]) -> list[dict[str, str]]:
    """What images depend on, and their result files as they are, as digests by name."""

    def one(index: int) -> dict[str, str]:
        path = folder / dataset.frames[index].result
        return _inputs_of(dataset, index) | {"result": _digest_of(path)}

    with ThreadPoolExecutor(_READERS) as executor:
        return list(executor.map(one, indices))


def _inputs_of(dataset: NocsTestSet, index: int) -> dict[str, str]:
    files = dataset.frames[index]
    return {
        "camera": _digest_of(files.split.K),
        "detections": _digest_of(dataset.detections.given(files)),
        "program": program_digest(),
        "photo": _digest_of(files.path("color.png")),
        "depth": _digest_of(files.path("depth.png")),
    }


def _digest_of(value: object) -> str:
    return digest(content_of(value))


def _remove_others(folder: Path, dataset: NocsTestSet) -> None:
    """Removes results of images that the data set has no more, which would be scored with the others."""
    names = {files.result for files in dataset.frames}
    for path in folder.glob("results_*.pkl"):
        if path.name not in names:
            path.unlink()
