"""What a refiner makes of the project's own poses and of disturbed true ones; its bias, and what it costs.

python -m benchmarks.refine --dataset mini [--after redraw,best refine,best] [key=value ...]

Four tables. AR of the first poses, the best of each detection, and after each list of stages that goes on
from all of them. Then true poses, turned by 15 degrees about each axis and shifted by a tenth of the diameter
along each (standard deviations), before and after the refiner. What the flow says at the true poses, where it
should say nothing. And the time of its parts.
"""

import argparse
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.levels import ERRORS, HEADS, markdown
from benchmarks.noisy_starts import disturbed
from picopose.datasets.bop.image_result import FoundPose, ImageResult
from picopose.datasets.bop.results import csv_name, write_csv
from picopose.datasets.bop.test_set import BopTestSet
from picopose.evaluation.eval_models import EvalModel, load_models
from picopose.evaluation.ground_truth import GroundTruth, load_ground_truth
from picopose.evaluation.scoring import Scores, score_csv
from picopose.model.methods import make_stages
from picopose.model.refine.compare import compare
from picopose.model.refine.stage import RefineStage
from picopose.model.solve.pnp import improve_pose
from picopose.model.stage import Setup, Stage
from picopose.pipeline.bop_run import open_dataset, tested_set, things_of
from picopose.pipeline.starts import Detected, InitialPoses
from picopose.pipeline.tested_set import TestedSet
from picopose.utils.config import Config
from picopose.utils.config_files import load_config
from picopose.utils.device import choose_device
from picopose.utils.distributed import join
from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.files import make_folder
from picopose.utils.geometry import project, rotation_angle, transform
from picopose.utils.records import Estimates, Frame
from picopose.utils.stopwatch import Stopwatch

FIRST = "rendermatch"
AFTER = ["best,redraw", "refine,best"]
DEGREES, SHIFT = 15.0, 0.1  # of each axis; the latter in diameters


class Experiment:
    """A data set with what its poses are to be compared with; CSV files are left in `out`."""

    def __init__(self, tested: TestedSet, dataset: BopTestSet, setup: Setup, out: Path):
        self.tested, self.dataset, self.setup, self.out = tested, dataset, setup, out
        self.things = things_of(setup.config, dataset, join())
        self.truth = load_ground_truth(
            tested.split_dir, tested.targets, per_object=True, camera=tested.camera
        )
        self.models = load_models(tested.dataset_dir, dataset.objects)
        names = setup.config.stages
        self.stages: dict[str, Stage] = dict(zip(names, make_stages(names, setup), strict=True))
        for stage in self.stages.values():
            stage.prepare(self.things)

    def scores(self, name: str, results: Sequence[ImageResult]) -> Scores:
        csv = self.out / csv_name(name, self.tested.name, self.tested.split_dir.name)
        write_csv(csv, results)
        where = {"targets": self.tested.targets, "camera": self.tested.camera}
        return score_csv(csv, self.tested.dataset_dir, **where, measures=True)

    def frames(self, start: Detected | InitialPoses) -> Iterator[tuple[Frame, Estimates]]:
        for index in range(len(self.dataset)):
            frame = self.dataset[index]
            found = start(frame)
            if len(found):
                yield frame, found

    def at_truth(self, noise: bool) -> InitialPoses:
        """The targets' true poses, or disturbed ones, to start from."""
        csv = self.out / ("disturbed.csv" if noise else "true.csv")
        write_csv(csv, list(true_poses(self.truth, self.models, noise)))
        return InitialPoses(csv, self.things, self.dataset)


def true_poses(truth: GroundTruth, models: dict[int, EvalModel], noise: bool) -> Iterator[ImageResult]:
    """The targets' poses as a result of each image, turned and shifted if there is to be noise."""
    for image, targets in zip(truth.images, truth.targets, strict=True):
        poses = []
        for obj_id, count in targets.items():
            for gt_id in image.most_visible(obj_id, count).tolist():
                pose = image.cam_from_obj[gt_id]
                if noise:
                    unit = np.random.default_rng([image.scene_id, image.im_id, gt_id]).standard_normal(6)
                    centre, shift = models[obj_id].box_corners.mean(axis=0), SHIFT * models[obj_id].diameter
                    pose = disturbed(pose, centre, np.append(unit[:3], 0 * unit[3:]), DEGREES)
                    pose[:, 3] += shift * unit[3:]
                rotation, translation = tuple(pose[:, :3].ravel().tolist()), tuple(pose[:, 3].tolist())
                poses.append(FoundPose(None, 1.0, 0.0, 0, (), obj_id, 1.0, rotation, translation))
        yield ImageResult(image.scene_id, image.im_id, 0.0, tuple(poses))


def own_poses(experiment: Experiment, first: str, after: Sequence[str]) -> str:
    """A table: the best poses of a method, and what lists of stages make of all of them."""
    chains = {chain: [experiment.stages[name] for name in chain.split(",")] for chain in ("best", *after)}
    results = {chain: [] for chain in chains}
    for frame, found in experiment.frames(Detected(experiment.dataset)):
        found = experiment.stages[first](frame, found)
        for chain, stages in chains.items():
            began, refined = time.perf_counter(), found
            for stage in stages:
                refined = stage(frame, refined)
            seconds = time.perf_counter() - began
            results[chain].append(ImageResult.of(frame, refined.to("cpu"), seconds=seconds))
    rows = []
    for chain, of_chain in results.items():
        scores = experiment.scores(chain.replace(",", "-"), of_chain)
        poses = max(1, sum(len(result.estimates) for result in of_chain))
        seconds = sum(result.seconds for result in of_chain) / poses
        rows.append([f"{first},{chain}", *_recalls(scores), *_errors(scores), f"{seconds:.2f}"])
    return markdown(("stages", *HEADS, *MEASURES, "s/detection after the first"), rows)


MEASURES = ("ADD(-S) 0.1 d", "median rotation", "median translation")


def _recalls(scores: Scores) -> list[str]:
    parts = (f"{scores.average(error):.3f}" if error in scores.errors else "-" for error in ERRORS)
    return [f"{scores.mean:.3f}", *parts]


def _errors(scores: Scores) -> list[str]:
    overall, _ = scores.measures
    return [
        f"{100 * overall.add_s_10:.1f} %",
        f"{overall.median_rotation_deg:.1f} degrees",
        f"{overall.median_translation_mm:.1f} mm",
    ]


def disturbed_poses(experiment: Experiment, refiner: Stage) -> str:
    """A table: true poses that were disturbed, before and after."""
    start = experiment.at_truth(noise=True)
    before, after = [], []
    for frame, found in experiment.frames(start):
        before.append(ImageResult.of(frame, found, seconds=0.0))
        after.append(ImageResult.of(frame, refiner(frame, found).to("cpu"), seconds=0.0))
    rows = []
    for name, results in (("disturbed", before), ("refined", after)):
        scores = experiment.scores(name, results)
        rows.append([name, *_recalls(scores), *_errors(scores)])
    return markdown(("poses", *HEADS, *MEASURES), rows)


def bias(experiment: Experiment, refiner: RefineStage) -> str:
    """A table: medians and quartiles of what is said of objects that are drawn at their true poses."""
    said = []
    for frame, found in experiment.frames(experiment.at_truth(noise=False)):
        frame, found = frame.to(refiner.device), found.to(refiner.device)
        said.append(said_of(refiner, frame, found))
    rows = []
    for name, unit, values in zip(SAID, UNITS, torch.cat(said, dim=1), strict=True):
        known = values[values.isfinite()].numpy()
        low, middle, high = np.quantile(known, [0.25, 0.5, 0.75]) if len(known) else [np.nan] * 3
        rows.append([f"{name}, {unit}", f"{middle:+.2f}", f"{low:+.2f} to {high:+.2f}"])
    return markdown(("at the true pose", "median", "quartiles"), rows)


SAID = "scale of the flow", "turn of the flow", "shift to the right", "shift down", "depth", "rotation"
UNITS = "%", "degrees", "px of the crop", "px of the crop", "%", "degrees"


@torch.inference_mode()
def said_of(refiner: RefineStage, frame: Frame, found: Estimates) -> Tensor:
    """(6, N): see `SAID`, of which the last two are those of the pose that the flow leads to."""
    seen = compare(refiner.network, frame, found, refiner.things.drawings, bf16=refiner.bf16)
    matches, K, pose = seen.matches, seen.drawn.K.double(), found.cam_from_obj.double()
    drawn = project(K, transform(pose, matches.xyz.double()))
    share = matches.weight.double() / matches.weight.sum(1, keepdim=True).double()
    off = torch.where(share[..., None] > 0, matches.xy - drawn, 0.0)
    drawn = torch.where(share[..., None] > 0, drawn, 0.0)
    arm = drawn - (share[..., None] * drawn).sum(1, keepdim=True)
    spread = (share * arm.square().sum(-1)).sum(1)
    scale = (share * (arm * off).sum(-1)).sum(1) / spread
    turn = (share * (arm[..., 0] * off[..., 1] - arm[..., 1] * off[..., 0])).sum(1) / spread
    shift = (share[..., None] * off).sum(1)
    moved = improve_pose(matches, K, pose, threshold_px=refiner.threshold)
    depth = moved[:, 2, 3] / pose[:, 2, 3] - 1
    rotation = rotation_angle(moved[:, :3, :3] @ pose[:, :3, :3].mT)
    rows = [100 * scale, turn.rad2deg(), *shift.mT, 100 * depth, rotation.rad2deg()]
    return torch.stack(rows).cpu()


def cost(experiment: Experiment, stopwatch: Stopwatch, refiner: RefineStage) -> str:
    """A table: milliseconds of the parts for one pose and pass, and in units of the backbone's pass."""
    network, passes = refiner.network, refiner.times + 1
    stopwatch.seconds.clear()
    stopwatch.running, poses = True, 0
    for frame, found in experiment.frames(experiment.at_truth(noise=True)):
        poses += len(refiner(frame, found))
    stopwatch.running = False
    crops = torch.rand(refiner.batches.size, 3, network.size, network.size, device=refiner.device)
    crops, seconds = crops.to(memory_format=torch.channels_last), []
    with torch.inference_mode():
        for _ in range(5):
            began = time.perf_counter()
            network.features(crops, bf16=refiner.bf16)
            seconds.append((time.perf_counter() - began) / len(crops))
    backbone = 1000 * float(np.median(seconds))
    parts = {"backbone, one image": backbone}
    parts |= {name: 1000 * value / (poses * passes) for name, value in stopwatch.seconds.items()}
    parts["one pass of one pose"] = sum(list(parts.values())[1:])
    rows = [[name, f"{value:.1f}", f"{value / backbone:.1f}"] for name, value in parts.items()]
    return markdown(("part", "ms", "backbone's passes"), rows)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="mini", help="folder below test_dataset.data_dir")
    parser.add_argument("--config", default="config/default.yaml", help="YAML file")
    parser.add_argument("--first", default=FIRST, help=f"method whose poses are refined (default: {FIRST})")
    parser.add_argument(
        "--after", nargs="*", default=AFTER, metavar="STAGE,...", help="what goes on from them"
    )
    parser.add_argument("--checkpoint_path", help="the refiner's weights")
    parser.add_argument("--gpus", help="index of the GPU, or cpu")
    parser.add_argument("--out", type=Path, default=Path("log/refine"), help="folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="entries of the config")
    return parser.parse_intermixed_args()


def configured(options: argparse.Namespace) -> Config:
    """The run's configuration with all stages that are measured."""
    config = load_config(options.config, options.overrides)
    if options.checkpoint_path:
        refine = config.options.get("refine", {}) | {"weights": options.checkpoint_path}
        config = replace(config, options=config.options | {"refine": refine})
    names = [options.first, "best", *(name for chain in options.after for name in chain.split(","))]
    return replace(config, stages=list(dict.fromkeys([*names, "refine"])))


@exits_cleanly
def main() -> None:
    options = parse_arguments()
    if not all(options.after):
        raise InputError("--after: an empty list of stages; name some")
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    config = configured(options)
    make_folder(options.out, "--out ")
    tested, stopwatch = tested_set(options.dataset, config, options.out), Stopwatch(running=False)
    setup = Setup(config, choose_device(options.gpus), stopwatch)
    experiment = Experiment(tested, open_dataset(tested, config), setup, options.out)
    refiner = experiment.stages["refine"]
    print(own_poses(experiment, options.first, options.after), "\n", flush=True)
    print(disturbed_poses(experiment, refiner), "\n", flush=True)
    print(bias(experiment, refiner), "\n", flush=True)
    print(cost(experiment, stopwatch, refiner))


if __name__ == "__main__":
    main()
