"""COCO's average precision of 2D detections, by its own program."""

import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools.cocoeval import COCOeval

MOST = 100  # detections of an object in an image, those of the best scores
FEW = 5  # of which the recall is told


@dataclass(frozen=True)
class Precision:
    """How well detections fit the truth; every object with an instance that counts has an equal share."""

    AP: float  # mean over the IoUs 0.50, 0.55, ..., 0.95
    AP50: float  # IoU 0.50
    recall: float  # IoU 0.50, of the best `FEW` detections of an object in an image
    objects: dict[int, float]  # AP of each


def precision(truths: Sequence[dict], found: Sequence[dict], n_images: int, *, masks: bool) -> Precision:
    """The precision of entries as COCO has them, of images whose `image_id` go from 0 on.

    truths: at least one of them counts, which is one whose `ignore` is false. masks: whether these are
    compared, run lengths in `segmentation`, or boxes.
    """
    evaluation = _Evaluation(truths, found, n_images, "segm" if masks else "bbox")
    with contextlib.redirect_stdout(io.StringIO()):  # it talks
        evaluation.evaluate()
        evaluation.accumulate()
    # (IoU, level of recall, object, number) and (IoU, object, number); -1 where nothing counts.
    levels, recall = (evaluation.eval[name][..., 0, :] for name in ("precision", "recall"))
    counted = recall[0, :, 0] > -1
    levels, recall = levels[:, :, counted, 1], recall[0, counted, 0]
    objects = np.array(evaluation.params.catIds)[counted].tolist()
    return Precision(
        AP=float(levels.mean()),
        AP50=float(levels[0].mean()),
        recall=float(recall.mean()),
        objects=dict(zip(objects, levels.mean(axis=(0, 1)).tolist(), strict=True)),
    )


class _Evaluation(COCOeval):
    """Heeds the `ignore` of an instance, as the rules of the BOP challenge ask.

    The original replaces it by `iscrowd`, which lets one instance take any number of detections.
    """

    def __init__(self, truths: Sequence[dict], found: Sequence[dict], n_images: int, kind: str):
        super().__init__(iouType=kind)
        self.params.imgIds = list(range(n_images))
        self.params.catIds = sorted({truth["category_id"] for truth in truths})
        self.params.maxDets = [FEW, MOST]
        self.params.areaRng, self.params.areaRngLbl = [[0, math.inf]], ["all"]
        for entries, by_place in ((truths, self._gts), (found, self._dts)):
            for number, entry in enumerate(entries, start=1):  # to COCO a match with number 0 is none
                by_place[entry["image_id"], entry["category_id"]].append(entry | {"id": number})

    def _prepare(self) -> None:
        """All is there already."""
