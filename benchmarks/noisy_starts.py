"""How much stages that refine mend of poses that are wrong on purpose, over the noise: a table and a curve.

python -m benchmarks.noisy_starts --dataset mini --stages redraw --noise 0,10,20,30 [key=value ...]

The true pose of each target is turned about the object's centre by three angles and shifted along the axes of
the camera, all normally distributed; with 15 degrees go 1, 1 and 5 cm, as RNNPose is trained. From one level
to the next the noise of a target only grows. Poses and curve are left in OUT.
"""

import argparse
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.spatial.transform import Rotation

from benchmarks.levels import markdown
from picopose.datasets.bop.image_result import FoundPose, ImageResult
from picopose.datasets.bop.results import write_csv
from picopose.datasets.bop.targets import read_targets
from picopose.datasets.bop.test_set import BopTestSet
from picopose.evaluation.eval_models import EvalModel, load_models
from picopose.evaluation.ground_truth import GroundTruth, load_ground_truth
from picopose.evaluation.pose_measures import PoseMeasures
from picopose.evaluation.scoring import score_csv
from picopose.model.methods import make_stages, stage_names
from picopose.model.stage import Setup, Stage, Things
from picopose.pipeline.bop_run import open_dataset, run_images, tested_set, things_of
from picopose.pipeline.starts import InitialPoses
from picopose.pipeline.tested_set import TestedSet
from picopose.utils.config_files import load_config
from picopose.utils.device import choose_device
from picopose.utils.distributed import join
from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.files import make_folder, write_atomically
from picopose.utils.stopwatch import Stopwatch

SHIFT = np.array([0.01, 0.01, 0.05]) / 15  # m for each degree of noise, camera's axes
NOISE = "0,5,10,15,20,25,30,35,40"  # degrees
NEAREST = 0.05  # m, in front of the camera


@dataclass(frozen=True)
class Level:
    """The measures of poses with some noise, and of what was made of them."""

    degrees: float
    before: PoseMeasures
    after: PoseMeasures


def disturbed(pose: np.ndarray, centre: np.ndarray, unit: np.ndarray, degrees: float) -> np.ndarray:
    """A pose (3, 4) m, turned about an object's centre (3,) and shifted.

    unit: (6,) normally distributed numbers, for the angles of turns about the camera's x, y and z, one after
    the other, and for the shift; degrees: the standard deviation of the former.
    """
    turn = Rotation.from_euler("xyz", degrees * unit[:3], degrees=True).as_matrix() @ pose[:, :3]
    middle = pose[:, :3] @ centre + pose[:, 3] + degrees * SHIFT * unit[3:]
    middle[2] = max(middle[2], NEAREST)
    return np.column_stack([turn, middle - turn @ centre])


def starts(
    truth: GroundTruth, models: dict[int, EvalModel], degrees: float, seed: int
) -> Iterator[ImageResult]:
    """The targets' true poses with noise, as a result of each image."""
    for image, targets in zip(truth.images, truth.targets, strict=True):
        poses = []
        for obj_id, count in targets.items():
            for gt_id in image.most_visible(obj_id, count).tolist():
                rng = np.random.default_rng([seed, image.scene_id, image.im_id, gt_id])
                centre = models[obj_id].box_corners.mean(axis=0)
                pose = disturbed(image.cam_from_obj[gt_id], centre, rng.standard_normal(6), degrees)
                poses.append(_found(obj_id, pose))
        yield ImageResult(image.scene_id, image.im_id, 0.0, tuple(poses))


def _found(obj_id: int, pose: np.ndarray) -> FoundPose:
    rotation, translation = tuple(pose[:, :3].ravel().tolist()), tuple(pose[:, 3].tolist())
    return FoundPose(None, 1.0, 0.0, 0, (), obj_id, 1.0, rotation, translation)


class Experiment:
    """Stages, and the targets of a data set whose poses they are given."""

    def __init__(
        self, tested: TestedSet, dataset: BopTestSet, things: Things, stages: Sequence[Stage], out: Path
    ):
        self._tested, self._dataset, self._things, self._stages = tested, dataset, things, stages
        self._out = out
        self._truth = load_ground_truth(
            tested.split_dir, tested.targets, per_object=True, camera=tested.camera
        )
        self._models = load_models(tested.dataset_dir, dataset.objects)

    def level(self, degrees: float, seed: int) -> Level:
        given, refined = (self._out / f"{name}-{degrees:g}deg.csv" for name in ("start", "refined"))
        write_csv(given, starts(self._truth, self._models, degrees, seed))
        start, results = InitialPoses(given, self._things, self._dataset), []
        run_images(
            *(self._dataset, range(len(self._dataset)), self._things, list(self._stages)),
            *(start, results.append, Stopwatch(running=False)),
        )
        write_csv(refined, results)
        return Level(degrees, self._measures(given), self._measures(refined))

    def _measures(self, csv: Path) -> PoseMeasures:
        where = {"targets": self._tested.targets, "camera": self._tested.camera}
        overall, _ = score_csv(
            csv, self._tested.dataset_dir, **where, errors=["mssd"], measures=True
        ).measures
        return overall


def write_targets(path: Path, source: Path, objects: Sequence[int], images: int | None) -> None:
    """The targets of some objects, all if none are named, in the first so many images that have one."""
    listed = read_targets(source)
    if not listed.per_object:
        raise InputError(f"{source} names no objects: give a list of targets that does")
    entries, chosen = [], 0
    for (scene_id, im_id), counts in listed.images.items():
        own = {obj_id: count for obj_id, count in counts.items() if not objects or obj_id in objects}
        chosen += bool(own)
        if images is None or chosen <= images:
            place = {"scene_id": scene_id, "im_id": im_id}
            entries += [place | {"obj_id": obj_id, "inst_count": count} for obj_id, count in own.items()]
    if not entries:
        raise InputError(f"{source} has no target of object {', '.join(map(str, objects))}: name others")
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(entries), encoding="utf-8")


def table(levels: Iterable[Level]) -> str:
    """A row for each level: before -> after."""
    heads = (
        "degrees per axis",
        "cm along x, y, z",
        "ADD(-S) below 0.1 d",
        "median rotation",
        "median translation",
    )
    rows = []
    for level in levels:
        shift = ", ".join(f"{100 * level.degrees * share:.1f}" for share in SHIFT)
        pair = level.before, level.after
        rows.append(
            [
                *(f"{level.degrees:g}", shift),
                " -> ".join(f"{100 * measures.add_s_10:.1f}" for measures in pair) + " %",
                " -> ".join(f"{measures.median_rotation_deg:.1f}" for measures in pair) + " degrees",
                " -> ".join(f"{measures.median_translation_mm:.1f}" for measures in pair) + " mm",
            ]
        )
    return markdown(heads, rows)


def curve(levels: Sequence[Level], title: str) -> Figure:
    """ADD(-S) and the median errors over the noise, before and after."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    figure.suptitle(title)
    noise = [level.degrees for level in levels]
    panels = (
        ("ADD(-S) below 0.1 d", "% of the targets", "add_s_10", 100),
        ("Median rotation", "degrees", "median_rotation_deg", 1),
        ("Median translation", "mm", "median_translation_mm", 1),
    )
    for axis, (name, unit, field, factor) in zip(figure.subplots(1, 3), panels, strict=True):
        for when, style in (
            ("before", {"color": "grey", "linestyle": "--"}),
            ("after", {"color": "tab:red"}),
        ):
            values = [factor * getattr(getattr(level, when), field) for level in levels]
            axis.plot(noise, values, marker="o", markersize=3, label=when, **style)
        axis.set(title=name, ylabel=unit, xlabel="noise, degrees per axis")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False)
    return figure


def degrees(text: str) -> list[float]:
    values = [float(word) for word in text.split(",")]
    if not all(0 <= value < 180 for value in values):
        raise ValueError
    return values


def ids(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="mini", help="folder below test_dataset.data_dir")
    parser.add_argument("--config", default="config/default.yaml", help="YAML file")
    parser.add_argument("--model", help="method (default: the config's)")
    parser.add_argument(
        "--stages", metavar="NAME,...", help="(default: those of the method that go on from poses)"
    )
    parser.add_argument("--checkpoint_path", help="weights")
    parser.add_argument("--noise", type=degrees, default=NOISE, help=f"per axis (default: {NOISE})")
    parser.add_argument("--objects", type=ids, default=[], help="only these, as in 1,5")
    parser.add_argument("--images", type=int, help="only the first so many that show one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gpus", help="index of the GPU, or cpu")
    parser.add_argument("--out", type=Path, default=Path("log/noisy_starts"), help="folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="entries of the config")
    return parser.parse_intermixed_args()


@exits_cleanly
def main() -> None:
    options = parse_arguments()
    if options.seed < 0:
        raise InputError(f"--seed {options.seed}: give 0 or more")
    if options.images is not None and options.images < 1:
        raise InputError(f"--images {options.images}: give at least 1, or leave it out for all")
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    flags = {"checkpoint": options.checkpoint_path, "method": options.model}
    flags["stages"] = options.stages and options.stages.split(",")
    config = load_config(options.config, options.overrides, flags)
    config = replace(config, stages=stage_names(config, from_poses=True))
    make_folder(options.out, "--out ")
    source = tested_set(options.dataset, config, options.out)
    targets = options.out / "targets.json"
    write_targets(targets, source.targets, options.objects, options.images)
    config = replace(config, test_dataset=replace(config.test_dataset, targets=str(targets)))
    tested = tested_set(options.dataset, config, options.out)
    dataset = open_dataset(tested, config, detected=False)
    setup = Setup(config, choose_device(options.gpus), Stopwatch(running=False))
    stages = make_stages(config.stages, setup)
    experiment = Experiment(tested, dataset, things_of(config, dataset, join()), stages, options.out)
    levels = [experiment.level(noise, options.seed) for noise in options.noise]
    print(table(levels))
    title = f"{', '.join(config.stages)} on {options.dataset}: {levels[0].before.targets} poses"
    with write_atomically(options.out / "curve.png") as temporary:
        curve(levels, title).savefig(temporary, dpi=110, format="png")


if __name__ == "__main__":
    main()
