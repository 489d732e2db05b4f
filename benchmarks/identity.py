"""Which object is it? How often the right one of a data set's objects is found in its detections.

python -m benchmarks.identity DATA_SET [--boxes] [--every N] [--out PLACES.npz]

Detections that lie on no annotated instance of their object are left out. At every other place all objects of
the set compete, as they do in `PoseEstimator` where no name is given. Printed are the share that is right by
agreement, which is what the estimator goes by, and by other evidence; which objects are taken for which; and
the seconds that choosing by agreement takes at a place.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torchvision.ops import box_iou
from tqdm import tqdm

from benchmarks.levels import markdown
from benchmarks.true_boxes import true_boxes
from picopose.datasets.bop.test_set import BopTestSet
from picopose.datasets.masks.regions import box_mask
from picopose.model.best import Best
from picopose.model.confidence import Evidence, make_stage
from picopose.model.stage import Setup
from picopose.pipeline.bop_run import things_of
from picopose.pipeline.identity import identifying_stages
from picopose.utils.config_files import load_config
from picopose.utils.distributed import join
from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.files import write_atomically
from picopose.utils.records import Estimates, Frame, Mask
from picopose.utils.stopwatch import Stopwatch

OVERLAP = 0.5  # of the boxes of a detection and of the instance that it lies on


@dataclass(frozen=True, eq=False)
class Competitions:
    """P places at which O objects compete."""

    obj_id: np.ndarray  # (O,)
    true: np.ndarray  # (P,) id of the object that is there
    agreement: np.ndarray  # (P, O) of the best pose of each object
    evidence: np.ndarray  # (P, O, F) of that pose, see `model.confidence.Evidence`
    confidence: np.ndarray  # (P, O)
    seconds: np.ndarray  # (P,) for the poses of all objects and their agreement

    def chosen(self, score: np.ndarray) -> np.ndarray:
        """(P,) ids of the objects with the greatest score (P, O)."""
        return self.obj_id[score.argmax(axis=1)]


def collect(data_set: Path, *, boxes: bool, every: int) -> Competitions:
    """What speaks for each object of a data set in BOP's layout at each place, in every `every`-th image."""
    config = load_config("config/default.yaml", [f"test_dataset.data_dir={data_set.parent}"])
    dataset = BopTestSet(data_set.parent, data_set.name)
    setup = Setup(config, torch.device("cpu"), Stopwatch(running=False))
    (method, *_), judge = identifying_stages(setup), make_stage(setup)
    things, ids = things_of(config, dataset, join()), sorted(dataset.objects)
    for stage in (method, judge):
        stage.prepare(things)
    true, agreement, tables, confidence, seconds = [], [], [], [], []
    for index in tqdm(range(0, len(dataset), every), unit="image"):
        frame = dataset[index]
        for obj_id, mask in places(dataset, frame, boxes=boxes):
            group = torch.zeros(len(ids), dtype=torch.long)
            began = time.perf_counter()
            found = method(frame, replace(Estimates.of(ids, [mask] * len(ids)), group=group))
            seconds.append(time.perf_counter() - began)
            found = Best()(frame, replace(found, group=found.obj_id))
            evidence, _ = judge.evidence(frame, found)
            true.append(obj_id)
            agreement.append(found.support.numpy())
            tables.append(evidence.table().numpy())
            confidence.append(judge(frame, found).confidence.numpy())
    if not true:
        raise InputError(f"{data_set}: no detection lies on an instance of its object; take other detections")
    columns = (ids, true, agreement, tables, confidence, seconds)
    return Competitions(*(np.array(column) for column in columns))


def places(dataset: BopTestSet, frame: Frame, *, boxes: bool) -> Iterator[tuple[int, Mask]]:
    """The detections of an image that lie on an instance of their object: its id, and the mask or its box."""
    truth, found = true_boxes(dataset, frame, "bbox_visib"), dataset.start(frame)
    for obj_id, box, mask in zip(found.obj_id.tolist(), found.box, found.mask, strict=True):
        lies_on = box_iou(box[None].float(), truth.get(obj_id, torch.zeros(0, 4))) >= OVERLAP
        if mask.box.any() and lies_on.any():
            yield obj_id, box_mask(mask.box.tolist(), *frame.rgb.shape[1:]) if boxes else mask


def rules(places: Competitions) -> dict[str, np.ndarray]:
    """What objects may be chosen by: scores (P, O), greater is better."""
    agreement, columns = places.agreement, np.moveaxis(places.evidence, 2, 0)
    evidence = dict(zip(Evidence.__annotations__, columns, strict=True))
    return {
        "agreement": agreement,
        "confidence": places.confidence,
        "matched": evidence["matched"],
        "mask_iou": evidence["mask_iou"],
        "- log_error": -evidence["log_error"],
        "agreement x confidence": agreement * places.confidence,
        "agreement x matched": agreement * evidence["matched"],
        "agreement x mask_iou": agreement * evidence["mask_iou"],
    }


def report(places: Competitions) -> str:
    """Shares of places that are right by each rule, what agreement confuses, and its time."""
    rows = [
        [name, f"{100 * (places.chosen(score) == places.true).mean():.1f} %"]
        for name, score in rules(places).items()
    ]
    chosen = places.chosen(places.agreement)
    pairs = zip(places.true.tolist(), chosen.tolist(), strict=True)
    confused = Counter(pair for pair in pairs if pair[0] != pair[1])
    told = ", ".join(f"{true} for {taken}: {count}" for (true, taken), count in confused.most_common())
    return "\n".join(
        [
            markdown(("chosen by", f"right of {len(places.true)}"), rows),
            f"\nby agreement, true object and the one it is taken for: {told or 'none'}",
            f"{places.seconds.mean():.2f} s a place for {len(places.obj_id)} objects",
        ]
    )


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data_set", type=Path, help="folder in BOP's layout")
    parser.add_argument("--boxes", action="store_true", help="the boxes of the masks alone")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth image is looked at")
    parser.add_argument("--out", type=Path, help="file for the numbers of all places")
    options = parser.parse_args()
    found = collect(options.data_set, boxes=options.boxes, every=options.every)
    if options.out:
        with write_atomically(options.out) as temporary, temporary.open("wb") as file:
            np.savez(file, **vars(found))
    print(report(found))


if __name__ == "__main__":
    main()
