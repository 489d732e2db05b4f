"""Fits the confidence of poses, and checks it: does it tell right from wrong, and is it calibrated?

python -m benchmarks.confidence collect DATA_SET [--detections FILE] --out CASES.npz
python -m benchmarks.confidence fit CASES.npz [CASES.npz ...] [--out FILE]
python -m benchmarks.confidence check CASES.npz

A case is a pose by the default method in a region of a photo: in a detection's mask, in its box, with the
mesh of another object ("swapped"), or in a box where none of the objects is ("empty"). It is right if its
ADD, for symmetric objects ADD-S, lies below a tenth of the diameter.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.case_files import read_arrays
from benchmarks.levels import markdown
from benchmarks.logistic import auroc, fit_logistic
from picopose.datasets.bop.test_set import BopTestSet
from picopose.datasets.masks.regions import box_mask
from picopose.datasets.training.augment import augment
from picopose.evaluation.eval_models import EvalModel, load_models
from picopose.evaluation.ground_truth import ImageTruth, load_ground_truth
from picopose.evaluation.pose_measures import LINEMOD_SHARE, add_s_share
from picopose.model.confidence import CALIBRATION, Calibration, Evidence, read_calibration
from picopose.model.methods import make_stages, stage_names
from picopose.model.stage import Setup
from picopose.pipeline.bop_run import things_of
from picopose.pipeline.verdict import GOOD, WRONG
from picopose.utils.config_files import load_config
from picopose.utils.distributed import join
from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.files import write_atomically
from picopose.utils.masks import boxes_of
from picopose.utils.records import Estimates, Frame
from picopose.utils.stopwatch import Stopwatch

ATTEMPTS = 100  # at placing an empty box


@dataclass(frozen=True, eq=False)
class Cases:
    """N poses, what speaks for them, and whether they are right."""

    evidence: np.ndarray  # (N, F), see `model.confidence.Evidence`
    is_box: np.ndarray  # (N,) bool
    kind: np.ndarray  # (N,) str: mask, box, swapped mask, swapped box or empty box
    error: np.ndarray  # (N,) ADD(-S) in diameters; infinite where the object is not there

    def __getitem__(self, index: np.ndarray) -> "Cases":
        return Cases(**{name: values[index] for name, values in vars(self).items()})

    @property
    def right(self) -> np.ndarray:
        """(N,) bool"""
        return self.error < LINEMOD_SHARE


def read_cases(paths: Sequence[Path]) -> Cases:
    """The cases of all files; an `InputError` for one that is missing or holds none."""
    return _joined([read_arrays(path, Cases.__annotations__) for path in paths])


def _joined(tables: Sequence[Mapping[str, np.ndarray]]) -> Cases:
    return Cases(**{name: np.concatenate([t[name] for t in tables]) for name in Cases.__annotations__})


# --- collecting


def collect(data_set: Path, detections: Path | None, *, seed: int, stride: int, share: float) -> Cases:
    """The cases of a data set in BOP's layout.

    Every `stride`-th image gives those without their object too; a share of the images has its colours
    changed and is blurred or noisy, as training pairs are.
    """
    config = load_config("config/default.yaml", [f"test_dataset.data_dir={data_set.parent}"])
    dataset = BopTestSet(data_set.parent, data_set.name, detections=detections)
    truths = load_ground_truth(dataset.split_dir, data_set / "test_targets_bop19.json", per_object=True)
    models = load_models(data_set, dataset.objects)
    setup = Setup(config, torch.device("cpu"), Stopwatch(running=False))
    stages, things = make_stages(stage_names(config), setup), things_of(config, dataset, join())
    for stage in stages:
        stage.prepare(things)
    *method, judge = stages
    parts = []
    for index in tqdm(range(len(dataset)), unit="image"):
        rng, truth = np.random.default_rng([seed, index]), truths.images[index]
        frame = _augmented(dataset[index], rng, share)
        start = dataset.start(frame)
        for kind, found in _variants(frame, start, truth, models, rng, negatives=index % stride == 0):
            for stage in method:
                found = stage(frame, found)
            evidence, is_box = judge.evidence(frame, found)
            error = np.full(len(found), np.inf) if "empty" in kind else _errors(found, truth, models)
            kinds = np.full(len(error), kind, dtype="U16")
            parts.append(vars(Cases(evidence.table().numpy(), is_box.numpy(), kinds, error)))
    return _joined(parts)


def _augmented(frame: Frame, rng: np.random.Generator, share: float) -> Frame:
    image = frame.rgb.permute(1, 2, 0).contiguous().numpy()
    changed = torch.from_numpy(augment(image, rng, share=share)).permute(2, 0, 1)
    return replace(frame, rgb=changed.contiguous())


def _variants(
    frame: Frame,
    found: Estimates,
    truth: ImageTruth,
    models: dict[int, EvalModel],
    rng: np.random.Generator,
    *,
    negatives: bool,
) -> Iterator[tuple[str, Estimates]]:
    """The detections of an image as they are and changed, those without a box left out."""
    found = found[[i for i, mask in enumerate(found.mask) if mask.box.any()]]
    boxes = boxes_of(found.mask).tolist()
    size = frame.rgb.shape[1:]
    boxed = replace(found, mask=tuple(box_mask(box, *size) for box in boxes))
    kinds = {"mask": found, "box": boxed}
    if negatives:
        others = torch.tensor([_other(rng, models, obj_id) for obj_id in found.obj_id.tolist()])
        kinds |= {f"swapped {kind}": replace(o, obj_id=others) for kind, o in list(kinds.items())}
        empty = _empty_boxes(rng, boxes, truth, models, size)
        clear = [i for i, box in enumerate(empty) if box is not None]
        away = tuple(box_mask(empty[i], *size) for i in clear)
        kinds["empty box"] = replace(found[clear], mask=away)
    return ((kind, o) for kind, o in kinds.items() if len(o))


def _other(rng: np.random.Generator, models: dict[int, EvalModel], obj_id: int) -> int:
    return int(rng.choice([other for other in models if other != obj_id]))


def _empty_boxes(
    rng: np.random.Generator,
    boxes: list[list[int]],
    truth: ImageTruth,
    models: dict[int, EvalModel],
    size: tuple[int, int],
) -> list[list[int] | None]:
    """Boxes of the same sizes, clear of all annotated objects; None where there is no room for one."""
    taken = np.array(
        [
            _projected_box(models[obj_id], pose, truth.K)
            for obj_id, pose in zip(truth.obj_id.tolist(), truth.cam_from_obj, strict=True)
            if obj_id in models
        ]
    ).reshape(-1, 4)
    found = []
    for left, top, right, bottom in boxes:
        width, height = right - left, bottom - top
        place = _place_apart(rng, (width, height), taken, size)
        found.append(None if place is None else [*place, place[0] + width, place[1] + height])
    return found


def _place_apart(
    rng: np.random.Generator, size: tuple[int, int], taken: np.ndarray, image: tuple[int, int]
) -> tuple[int, int] | None:
    """A random left, top px of a box that overlaps none of `taken`; None if no try succeeds.

    size: width and height of the box, at most those of the image (height, width); taken: (N, 4) px, left,
    top, right, bottom.
    """
    room = np.array(image[::-1]) - size
    places = rng.integers(0, room + 1, (ATTEMPTS, 2))
    behind = places[:, None] >= taken[:, 2:]  # (ATTEMPTS, N, 2)
    before = places[:, None] + size <= taken[:, :2]
    apart = (behind | before).any(axis=2).all(axis=1)
    return tuple(map(int, places[apart.argmax()])) if apart.any() else None


def _projected_box(model: EvalModel, pose: np.ndarray, K: np.ndarray) -> np.ndarray:
    xyz = (model.vertices @ pose[:, :3].T + pose[:, 3]) @ K.T
    xy = xyz[:, :2] / xyz[:, 2:]
    return np.concatenate([xy.min(axis=0), xy.max(axis=0)])


def _errors(found: Estimates, truth: ImageTruth, models: dict[int, EvalModel]) -> np.ndarray:
    """(B,) ADD(-S) in diameters against the nearest annotated instance; infinite where there is none."""
    errors = []
    for obj_id, pose in zip(found.obj_id.tolist(), found.cam_from_obj.double().numpy(), strict=True):
        true, model = truth.cam_from_obj[truth.obj_id == obj_id], models[obj_id]
        estimate = pose[None, :3].repeat(len(true), 0)
        errors.append(add_s_share(estimate, true, model).min(initial=np.inf))
    return np.array(errors)


# --- fitting


def fit(cases: Cases) -> dict[str, dict[str, float]]:
    """Logistic regressions as `model.confidence.read_calibration` reads them."""
    table = {}
    for kind, chosen in (("mask", ~cases.is_box), ("box", cases.is_box)):
        right = cases.right[chosen]
        if not 0 < right.sum() < len(right):
            raise InputError(
                f"right and wrong poses in a {kind} are needed, to fit its confidence: collect more"
            )
        weights, bias = fit_logistic(cases.evidence[chosen], right)
        names = Evidence.__dataclass_fields__
        table[kind] = dict(zip(names, weights.round(4).tolist(), strict=True)) | {"bias": round(bias, 4)}
    return table


# --- checking


def confidence_of(cases: Cases, calibration: Calibration) -> np.ndarray:
    """(N,)"""
    evidence = Evidence(*torch.from_numpy(cases.evidence).unbind(1))
    return calibration(evidence, torch.from_numpy(cases.is_box)).numpy()


def report(cases: Cases, confidence: np.ndarray) -> str:
    """What there is to say, as a Markdown table."""
    heads = ("cases", "number", "right", "AUROC")
    heads += ("called good", "good and right", "called wrong", "wrong and right")
    rows = []
    for kind in np.unique(cases.kind):
        chosen = cases.kind == kind
        score, right = confidence[chosen], cases.right[chosen]
        good, wrong = score >= GOOD, score < WRONG
        area = f"{auroc(score, right):.3f}" if 0 < right.sum() < len(right) else "-"
        shares = [right, good, right[good], wrong, right[wrong]]
        first, *rest = (f"{100 * share.mean():.1f} %" if len(share) else "-" for share in shares)
        rows.append([kind, str(chosen.sum()), first, area, *rest])
    return markdown(heads, rows)


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser("collect", help="poses of a data set")
    collecting.add_argument("data_set", type=Path, help="folder in BOP's layout")
    collecting.add_argument("--detections", type=Path, help="by default those beside the data set")
    collecting.add_argument(
        "--stride", type=int, default=1, metavar="N", help="every Nth image gives cases without their object"
    )
    collecting.add_argument("--augment", type=float, default=0.0, help="share of photos with changed colours")
    collecting.add_argument("--seed", type=int, default=0)
    collecting.add_argument("--out", type=Path, required=True)
    fitting = commands.add_parser("fit", help="writes how evidence is weighed")
    fitting.add_argument("cases", type=Path, nargs="+")
    shipped = "file (default: data/weights/confidence.json, which every program reads)"
    fitting.add_argument("--out", type=Path, default=CALIBRATION, help=shipped)
    checking = commands.add_parser("check", help="tells how good it is")
    checking.add_argument("cases", type=Path, nargs="+")
    options = parser.parse_args()
    if options.command == "collect":
        cases = collect(
            *(options.data_set, options.detections),
            seed=options.seed,
            stride=options.stride,
            share=options.augment,
        )
        with write_atomically(options.out) as temporary, temporary.open("wb") as file:
            np.savez(file, **vars(cases))
        return
    cases, calibration = read_cases(options.cases), CALIBRATION
    if options.command == "fit":
        table, calibration = fit(cases), options.out
        with write_atomically(calibration) as temporary:
            temporary.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        print(f"written: {calibration}")
    confidence = confidence_of(cases, read_calibration(calibration))
    print(report(cases, confidence))


if __name__ == "__main__":
    main()
