"""Fits the detector's scores, and checks them.

python -m benchmarks.detection collect DATA_SET [--degraded] --out CASES.npz
python -m benchmarks.detection fit CASES.npz [CASES.npz ...]          writes data/weights/detect.json
python -m benchmarks.detection check CASES.npz
python -m benchmarks.detection absent DATA_SET --meshes FOLDER        objects that are not in the photos

A case is a candidate, a place where an object may be. It is right if the box about its silhouette overlaps
that of an instance (the whole one, hidden parts too) by half of their union.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torchvision.ops import box_iou
from tqdm import tqdm

from benchmarks.case_files import read_arrays
from benchmarks.levels import markdown
from benchmarks.logistic import auroc, fit_logistic
from benchmarks.true_boxes import true_boxes
from picopose.datasets.bop.test_set import BopTestSet
from picopose.datasets.training.degradation import photographed
from picopose.evaluation.detection import MIN_VISIBILITY
from picopose.model.detect.stage import Detector, Evidence, make_stage, read_calibration
from picopose.model.pretrained import DETECTION
from picopose.model.stage import Setup
from picopose.pipeline.bop_run import things_of
from picopose.pipeline.estimator import PoseEstimator
from picopose.utils.config_files import load_config
from picopose.utils.distributed import join
from picopose.utils.errors import exits_cleanly
from picopose.utils.files import write_atomically
from picopose.utils.stopwatch import Stopwatch

RIGHT = 0.5  # overlap of boxes


def make_detector(data_set: Path, dataset: BopTestSet) -> Detector:
    overrides = [f"test_dataset.data_dir={data_set.parent}", "stages=[detect]"]
    config = load_config("config/default.yaml", overrides)
    detector = make_stage(Setup(config, torch.device("cpu"), Stopwatch(running=True)))
    detector.prepare(things_of(config, dataset, join()))
    return detector


def collect(data_set: Path, *, absent: int, degraded: bool, seed: int) -> dict[str, np.ndarray]:
    """Evidence (N, F) of candidates, and which are right (N,): of a photo's objects and some others."""
    dataset = BopTestSet(data_set.parent, data_set.name, detected=False)
    detector = make_detector(data_set, dataset)
    tables, right = [], []
    for index in tqdm(range(len(dataset)), unit="image"):
        rng, frame = np.random.default_rng([seed, index]), dataset[index]
        if degraded:
            seen = photographed(frame.rgb.permute(1, 2, 0).numpy(), rng)
            frame = replace(frame, rgb=torch.from_numpy(seen).permute(2, 0, 1))
        boxes = true_boxes(dataset, frame, "bbox_obj", visible=MIN_VISIBILITY)
        others = sorted(dataset.objects.keys() - boxes.keys())
        wanted = [*boxes, *map(int, rng.permutation(others)[:absent])]
        places, evidence = detector.candidates(frame, wanted)
        tables.append(evidence.table())
        right += [
            obj_id in boxes and bool((box_iou(box[None].float(), boxes[obj_id]) >= RIGHT).any())
            for obj_id, box in zip(places.obj_id.tolist(), places.box, strict=True)
        ]
    print(detector.stopwatch.table())
    return {"evidence": torch.cat(tables).numpy(), "right": np.array(right)}


def fit(evidence: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """A logistic regression as `model.detect.stage.read_calibration` reads it."""
    weights, bias = fit_logistic(evidence, right)
    return dict(zip(Evidence.__dataclass_fields__, weights.round(4).tolist(), strict=True)) | {
        "bias": round(bias, 4)
    }


def report(evidence: np.ndarray, right: np.ndarray) -> str:
    """How well each kind of evidence, and the score, tell right candidates from wrong ones."""
    score = read_calibration()(Evidence(*torch.from_numpy(evidence).unbind(1))).numpy()
    columns = dict(zip(Evidence.__dataclass_fields__, evidence.T, strict=True)) | {"score": score}
    rows = [[name, f"{auroc(values, right):.3f}"] for name, values in columns.items()]
    bins = np.digitize(score, (0.05, 0.2, 0.5, 0.8))
    for chosen in (bins == b for b in np.unique(bins)):
        rows.append(
            [f"{chosen.sum()} scored {score[chosen].mean():.2f}", f"{right[chosen].mean():.2f} right"]
        )
    return markdown((f"{len(right)} candidates, {right.sum()} right", "AUROC"), rows)


def absent(data_set: Path, meshes: Path, *, trials: int, seed: int) -> str:
    """How often an object that no photo shows is found in one."""
    dataset = BopTestSet(data_set.parent, data_set.name, detected=False)
    files = sorted(path for path in meshes.iterdir() if path.suffix in (".glb", ".ply", ".obj"))
    rng = np.random.default_rng(seed)
    found: list[bool] = []
    for trial in tqdm(range(trials), unit="photo"):
        mesh, frame = files[trial % len(files)], dataset[int(rng.integers(len(dataset)))]
        # What finds poses has no say in whether something is there, so the quickest does.
        estimator = PoseEstimator(device="cpu", overrides=["stages=[rendermatch,best,confidence]"])
        poses = estimator.add_object(mesh).estimate(frame.rgb, frame.K)
        found += [len(poses) > 0]
        if poses:
            print(f"{mesh.name} in photo {frame.im_id}: {poses[0]}")
    return f"{len(found)} objects in photos without them: {sum(found)} found"


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser("collect", help="candidates in a data set")
    collecting.add_argument("data_set", type=Path, help="folder in BOP's layout")
    collecting.add_argument("--absent", type=int, default=1, help="objects to a photo that it does not show")
    collecting.add_argument("--degraded", action="store_true", help="as cheap cameras take the photos")
    collecting.add_argument("--out", type=Path, required=True)
    fitting = commands.add_parser("fit", help="writes the calibration")
    fitting.add_argument("cases", type=Path, nargs="+")
    checking = commands.add_parser("check", help="tells how good it is")
    checking.add_argument("cases", type=Path, nargs="+")
    missing = commands.add_parser("absent", help="looks for objects that are not there")
    missing.add_argument("data_set", type=Path, help="folder in BOP's layout")
    missing.add_argument("--meshes", type=Path, required=True, help="of objects that it does not show")
    missing.add_argument("--trials", type=int, default=100)
    options = parser.parse_args()
    if options.command == "collect":
        cases = collect(options.data_set, absent=options.absent, degraded=options.degraded, seed=0)
        with write_atomically(options.out) as temporary, temporary.open("wb") as file:
            np.savez(file, **cases)
        return
    if options.command == "absent":
        print(absent(options.data_set, options.meshes, trials=options.trials, seed=0))
        return
    names = "evidence", "right"
    tables = [read_arrays(path, names) for path in options.cases]
    cases = {name: np.concatenate([table[name] for table in tables]) for name in names}
    if options.command == "fit":
        with write_atomically(DETECTION) as temporary:
            temporary.write_text(json.dumps(fit(**cases), indent=1) + "\n", encoding="utf-8")
    print(report(**cases))


if __name__ == "__main__":
    main()
