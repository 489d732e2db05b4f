"""Fits the confidence of DualPoseNet's poses, and checks it: does it tell right from wrong, is it calibrated?

python -m tools.category_set data/calibration --train 0 --val 400 --seed 7
python -m benchmarks.category_confidence collect data/calibration CHECKPOINT --out CASES.npz
python -m benchmarks.category_confidence fit CASES.npz CHECKPOINT     writes a .json beside the checkpoint
python -m benchmarks.category_confidence check CASES.npz CHECKPOINT

A case is a detection of a data set in NOCS's layout, other than the one to test on. Its pose is right if it
is within 10 degrees, or of round objects their axis is, and within 5 cm of an object of its category.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.levels import markdown
from benchmarks.logistic import auroc, fit_logistic
from picopose.datasets.nocs.test_set import NocsTestSet
from picopose.evaluation.categories.pairs import measured_groups
from picopose.evaluation.categories.results import joined
from picopose.model.dualposenet.confidence import Evidence, confidence_file, read_confidence
from picopose.model.dualposenet.stage import DualPoseNetStage, make_stage
from picopose.model.stage import Setup
from picopose.pipeline.category_run import THINGS, result_of
from picopose.utils.config import load_config
from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.files import write_atomically
from picopose.utils.records import Estimates, Frame
from picopose.utils.stopwatch import Stopwatch

DEGREES, CENTIMETRES = 10.0, 5.0
BINS = 5


@dataclass(frozen=True, eq=False)
class Cases:
    """N poses: what speaks for them, and whether they are right."""

    evidence: np.ndarray  # (N, F), see `model.dualposenet.confidence.Evidence`
    right: np.ndarray  # (N,) bool


def read_cases(path: Path) -> Cases:
    with np.load(path, allow_pickle=False) as content:
        return Cases(**content)


def collect(dataset: NocsTestSet, stage: DualPoseNetStage) -> Cases:
    """The cases of a data set; detections with too few points are none."""
    evidence, right = [], []
    stage.prepare(THINGS)
    for index in tqdm(range(len(dataset)), unit="image"):
        frame = dataset[index]
        start = dataset.start(frame)
        passes = [done for _, done in stage.look(frame, start)]
        solved = [row for row, done in enumerate(passes) if done]
        evidence.append(Evidence.of([passes[row] for row in solved], start.obj_id[solved]).table().numpy())
        right.append(are_right(dataset, frame, stage(frame, start)[solved]))
    return Cases(np.concatenate(evidence), np.concatenate(right))


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
    """How often poses of each range of confidences are right, as a Markdown table."""
    place = np.minimum((BINS * confidence).astype(int), BINS - 1)
    rows = []
    for number in np.unique(place):
        chosen = place == number
        low, high = 100 * number // BINS, 100 * (number + 1) // BINS
        shares = confidence[chosen].mean(), cases.right[chosen].mean()
        rows.append([f"{low} to {high} %", str(chosen.sum()), *(f"{100 * share:.1f} %" for share in shares)])
    head = f"{len(cases.right)} poses, AUROC {auroc(confidence, cases.right):.3f}"
    return f"{head}\n\n" + markdown(("confidence", "poses", "mean", "right"), rows)


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
