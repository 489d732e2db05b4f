"""Fits the confidence of DualPoseNet's poses, and checks it: does it tell right from wrong, is it calibrated?

python -m tools.category_set data/calibration --train 0 --val 400 --seed 7
python -m benchmarks.category_confidence collect data/calibration CHECKPOINT --out CASES.npz
python -m benchmarks.category_confidence fit CASES.npz CHECKPOINT     writes a .json beside the checkpoint
python -m benchmarks.category_confidence check CASES.npz CHECKPOINT

A case is a detection of a data set in NOCS's layout, other than the one to test on; every fourth image gives
cases too whose masks are moved beside their objects. A pose is right if it is within 10 degrees, or of round
objects their axis is, and within 5 cm of an object of its category.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.case_files import read_arrays
from benchmarks.levels import markdown
from benchmarks.logistic import auroc, fit_logistic
from picopose.datasets.nocs.test_set import NocsTestSet
from picopose.evaluation.categories.pairs import measured_groups
from picopose.evaluation.categories.results import joined
from picopose.model.dualposenet.confidence import Evidence, confidence_file, read_confidence
from picopose.model.dualposenet.stage import DualPoseNetStage, make_stage
from picopose.model.stage import Setup
from picopose.pipeline.category_run import THINGS, result_of
from picopose.pipeline.verdict import GOOD, WRONG
from picopose.utils.config_files import load_config
from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.files import write_atomically
from picopose.utils.records import Estimates, Frame
from picopose.utils.stopwatch import Stopwatch

DEGREES, CENTIMETRES = 10.0, 5.0
BINS = 5
STRIDE = 4  # images for each whose masks are moved as well
MOVED = 0.5, 1.5  # by how much, in longer sides of the mask's box


@dataclass(frozen=True, eq=False)
class Cases:
    """N poses: what speaks for them, and whether they are right."""

    evidence: np.ndarray  # (N, F), see `model.dualposenet.confidence.Evidence`
    right: np.ndarray  # (N,) bool
    moved: np.ndarray  # (N,) bool: the mask lies beside its object

    def __getitem__(self, index: np.ndarray) -> "Cases":
        return Cases(**{name: values[index] for name, values in vars(self).items()})


def read_cases(path: Path) -> Cases:
    return Cases(**read_arrays(path, Cases.__annotations__))


def collect(dataset: NocsTestSet, stage: DualPoseNetStage, seed: int = 0) -> Cases:
    """The cases of a data set; detections with too few points are none."""
    parts = []
    stage.prepare(THINGS)
    for index in tqdm(range(len(dataset)), unit="image"):
        frame = dataset[index]
        start = dataset.start(frame)
        variants = [start]
        if index % STRIDE == 0:
            variants.append(moved(start, np.random.default_rng([seed, index])))
        for found in variants:
            passes = [done for _, done in stage.look(frame, found)]
            solved = [row for row, done in enumerate(passes) if done]
            evidence = Evidence.of([passes[row] for row in solved], found.obj_id[solved])
            right = are_right(dataset, frame, stage(frame, found)[solved])
            beside = np.full(len(solved), found is not start)
            parts.append(vars(Cases(evidence.table().numpy(), right, beside)))
    return Cases(**{name: np.concatenate([part[name] for part in parts]) for name in Cases.__annotations__})


def moved(found: Estimates, rng: np.random.Generator) -> Estimates:
    """The detections with their masks moved in random directions."""
    masks = []
    for mask in found.mask:
        angle, side = rng.uniform(0, 2 * np.pi), (mask.box[2:] - mask.box[:2]).max().item()
        shift = rng.uniform(*MOVED) * side * np.array([np.cos(angle), np.sin(angle)])
        masks.append(replace(mask, box=mask.box + torch.from_numpy(np.tile(shift, 2)).round().long()))
    return replace(found, mask=tuple(masks))


def are_right(dataset: NocsTestSet, frame: Frame, found: Estimates) -> np.ndarray:
    """(N,) bool of the poses found in a frame."""
    rows = [joined([result_of(dataset, frame, found[[row]])]) for row in range(len(found))]
    return np.array([_is_right(row.estimates, row.truths) for row in rows], bool)


def _is_right(estimates, truths) -> bool:
    groups = measured_groups(estimates, truths, "oriented")
    return any(((g.degrees <= DEGREES) & (g.centimetres <= CENTIMETRES)).any() for g in groups)


def fit(cases: Cases) -> dict[str, float]:
    """A logistic regression as `model.dualposenet.confidence.read_confidence` reads it."""
    if not 0 < cases.right.sum() < len(cases.right):
        raise InputError("right and wrong poses are needed, to fit their confidence: collect more")
    weights, bias = fit_logistic(cases.evidence, cases.right)
    names = Evidence.__dataclass_fields__
    return dict(zip(names, weights.round(4).tolist(), strict=True)) | {"bias": round(bias, 4)}


def report(cases: Cases, confidence: np.ndarray) -> str:
    """How often poses of each range of confidences are right, as Markdown tables."""
    parts = []
    for name, chosen in (("detections", ~cases.moved), ("masks beside their objects", cases.moved)):
        if chosen.any():
            parts.append(f"{name}: {_table(cases[chosen], confidence[chosen])}")
    return "\n\n".join(parts)


def _table(cases: Cases, confidence: np.ndarray) -> str:
    place = np.minimum((BINS * confidence).astype(int), BINS - 1)
    rows = []
    for number in np.unique(place):
        chosen = place == number
        low, high = 100 * number // BINS, 100 * (number + 1) // BINS
        shares = confidence[chosen].mean(), cases.right[chosen].mean()
        rows.append([f"{low} to {high} %", str(chosen.sum()), *(f"{100 * share:.1f} %" for share in shares)])
    area = f", AUROC {auroc(confidence, cases.right):.3f}" if len(set(cases.right.tolist())) == 2 else ""
    good, wrong = (100 * chosen.mean() for chosen in (confidence >= GOOD, confidence < WRONG))
    called = f"{good:.1f} % called good, {wrong:.1f} % wrong"
    return f"{len(confidence)}, {called}{area}\n\n" + markdown(("confidence", "poses", "mean", "right"), rows)


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser("collect", help="poses of a data set")
    collecting.add_argument("data_set", type=Path, help="folder in NOCS's layout")
    collecting.add_argument("checkpoint", type=Path)
    collecting.add_argument("--config", default="config/dualposenet_small.yaml")
    collecting.add_argument("--out", type=Path, required=True)
    for name, text in (("fit", "writes the file beside the checkpoint"), ("check", "tells how good it is")):
        command = commands.add_parser(name, help=text)
        command.add_argument("cases", type=Path)
        command.add_argument("checkpoint", type=Path)
    options = parser.parse_args()
    if options.command == "collect":
        config = load_config(options.config, [], {"checkpoint": str(options.checkpoint)})
        stage = make_stage(Setup(config, torch.device("cpu"), Stopwatch(running=False)))
        cases = collect(NocsTestSet(options.data_set.parent, options.data_set.name), stage)
        with write_atomically(options.out) as temporary, temporary.open("wb") as file:
            np.savez(file, **vars(cases))
        return
    cases = read_cases(options.cases)
    if options.command == "fit":
        with write_atomically(confidence_file(options.checkpoint)) as temporary:
            temporary.write_text(json.dumps(fit(cases), indent=1) + "\n", encoding="utf-8")
    calibration = read_confidence(options.checkpoint)
    if calibration is None:
        raise InputError(f"{confidence_file(options.checkpoint)} not found: fit it first")
    evidence = Evidence(*torch.from_numpy(cases.evidence).unbind(1))
    print(report(cases, calibration(evidence).numpy()))


if __name__ == "__main__":
    main()
