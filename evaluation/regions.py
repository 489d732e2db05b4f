"""Scores files of 2D detections by the rules of the BOP challenge: masks and boxes against annotated ones.

A mask is compared with what is seen of an object, a box with that about the object's whole silhouette inside
the photo, as in the challenge, and also with that about what is seen of it, which many detectors give.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.mask import encode, frPyObjects, merge, toBbox

from picopose.datasets.bop.detections import Detection, Detections
from picopose.datasets.bop.entries import visibility_of
from picopose.datasets.bop.masks import read_mask
from picopose.datasets.bop.scenes import TRUTH_REMEDY, Scene, open_scenes, tell_cameras
from picopose.datasets.bop.targets import find_targets, read_targets
from picopose.datasets.images import image_size
from picopose.datasets.layouts import bop_test_split
from picopose.evaluation.coco import Precision, precision
from picopose.evaluation.detection import MIN_VISIBILITY
from picopose.utils.errors import InputError
from picopose.utils.reading import finite_numbers, integer

_LOG = logging.getLogger(__name__)
KINDS = ("masks", "boxes", "visible boxes")


@dataclass(frozen=True)
class RegionScores:
    """The scores of one file of detections."""

    dataset: str
    kinds: dict[str, Precision]  # by `KINDS`; no masks where the data set has none
    instances: dict[int, int]  # that count, by object
    time_per_image: float  # s, of the images with detections; 0 where it is not known

    def as_json(self) -> dict[str, Any]:
        """The content of scores.json."""
        return {"task": "2D detection", **asdict(self)}


def table(scores: Mapping[str, RegionScores]) -> str:
    """All data sets' precisions, one line for each of `KINDS`."""
    first, second = (max(map(len, names)) for names in ((*scores, "data set"), KINDS))
    heads = ("AP", "AP50", "recall", "s/image")
    lines = [f"{'data set':<{first}}  {'2D':<{second}}" + "".join(f"{head:>9}" for head in heads)]
    for name, found in scores.items():
        seconds = f"{found.time_per_image:9.4f}" if found.time_per_image else f"{'-':>9}"
        for kind, one in found.kinds.items():
            lines.append(
                f"{name:<{first}}  {kind:<{second}}{one.AP:9.4f}{one.AP50:9.4f}{one.recall:9.4f}{seconds}"
            )
    return "\n".join(lines)


def score_detections(
    path: Path | str,
    dataset_dir: Path | str,
    *,
    targets: Path | str | None = None,
    camera: str | None = None,
) -> RegionScores:
    """Scores the detections of a file that `datasets.bop.detections.Detections` reads.

    Instances of which less than a tenth is seen count neither as found nor as missed.

    dataset_dir: folder with the target list, of whose images all detections count, and their annotations. Of
    these `mask_visib` and `mask` may be missing: then masks are not scored, and boxes are those of
    `scene_gt_info`. targets: another target list. camera: of a data set with several, see
    `datasets.bop.scenes.open_scenes`.
    Raises an `InputError` for files that are missing or damaged.
    """
    folder = Path(dataset_dir)
    listed = read_targets(Path(targets) if targets else find_targets(folder))
    split_dir = folder / bop_test_split(folder.resolve().parent, folder.resolve().name)
    scenes = open_scenes(split_dir, (scene_id for scene_id, _ in listed.images), camera)
    if camera is None:
        tell_cameras(scenes.values())
    kinds = KINDS
    if bare := [s.mask_dir(visible=True) for s in scenes.values() if not s.mask_dir(visible=True).is_dir()]:
        _LOG.warning("%s is not there: boxes alone are scored", bare[0])
        kinds = KINDS[1:]
    detections = Detections(path, images=set(listed.images))
    truths: dict[str, list[dict]] = {kind: [] for kind in kinds}
    found: dict[str, list[dict]] = {kind: [] for kind in kinds}
    seconds = []
    for number, (scene_id, im_id) in enumerate(listed.images):
        scene, detected = scenes[scene_id], detections.of_image(scene_id, im_id)
        width, height = image_size(scene.photo_path(im_id))
        for kind in kinds:
            truths[kind] += [
                entry | {"image_id": number} for entry in _true(scene, im_id, (height, width), kind)
            ]
            found[kind] += [
                _found(detection, (height, width), kind) | {"image_id": number} for detection in detected
            ]
        seconds += [max(detection.seconds for detection in detected)] if detected else []
    instances = Counter(truth["category_id"] for truth in truths["boxes"] if not truth["ignore"])
    if not instances:
        raise InputError(f"{listed.path}: nothing is annotated in its images: pass another list")
    count = len(listed.images)
    return RegionScores(
        dataset=folder.resolve().name,
        kinds={kind: precision(truths[kind], found[kind], count, masks=kind == "masks") for kind in kinds},
        instances=dict(sorted(instances.items())),
        time_per_image=float(np.mean(seconds)) if seconds else 0.0,
    )


def _true(scene: Scene, im_id: int, size: tuple[int, int], kind: str) -> Iterator[dict]:
    """The annotated objects of an image of `size` (height, width) as COCO has them; none that is not seen."""
    visible = kind != "boxes"
    for index, (truth, info) in enumerate(scene.annotations(im_id)):
        where = f"{scene.table('gt')}: image {im_id}, object {index}"
        there = scene.mask_dir(visible=visible).is_dir()
        code = _code(read_mask(scene, im_id, index, size, visible=visible)) if there else None
        box = _listed_box(info, visible, size, where) if code is None else _box_of(code)
        if box is not None:
            ignored = visibility_of(info, where) < MIN_VISIBILITY
            entry = _entry(integer(truth.get("obj_id"), f"{where}: obj_id"), box, code)
            yield entry | {"iscrowd": 0, "ignore": ignored}


def _found(detection: Detection, size: tuple[int, int], kind: str) -> dict:
    """A detection in an image of `size` (height, width), as COCO has it: without a mask its box is one."""
    left, top, right, bottom = detection.box
    code = None
    if kind == "masks" and (pixels := detection.region.mask(size)) is not None:
        code = _code(pixels.numpy())
    elif kind == "masks":
        corners = [left, top, left, bottom, right, bottom, right, top]
        code = merge(frPyObjects([corners], *size))
    entry = _entry(detection.obj_id, [left, top, right - left, bottom - top], code)
    return entry | {"score": detection.score}


def _entry(obj_id: int, box: list[float], code: dict | None) -> dict:
    return {"category_id": obj_id, "bbox": box, "area": box[2] * box[3], "segmentation": code}


def _code(pixels: np.ndarray) -> dict:
    return encode(np.asfortranarray(pixels, dtype=np.uint8))


def _box_of(code: dict) -> list[float] | None:
    """x, y, width, height px of a mask; None of an empty one."""
    box = toBbox(code).tolist()
    return box if box[2] > 0 else None


def _listed_box(info: dict, visible: bool, size: tuple[int, int], where: str) -> list[float] | None:
    """x, y, width, height px of a box of `gt_info`, whose sides are a pixel short there, inside the photo."""
    key = "bbox_visib" if visible else "bbox_obj"
    if key not in info:
        raise InputError(f"{where} has no {key} in gt_info: {TRUTH_REMEDY}")
    left, top, width, height = finite_numbers(info[key], 4, f"{where}: {key}")
    right, bottom = min(left + width + 1, size[1]), min(top + height + 1, size[0])
    left, top = max(left, 0.0), max(top, 0.0)
    there = min(width, height) >= 0 and right > left and bottom > top  # of what is not seen, all are -1
    return [left, top, right - left, bottom - top] if there else None
