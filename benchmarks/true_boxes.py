"""Where the annotated instances of an image are."""

from collections import defaultdict
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from picopose.datasets.bop.scenes import Scene, open_scenes
from picopose.datasets.bop.test_set import BopTestSet
from picopose.utils.records import Frame


def true_boxes(dataset: BopTestSet, frame: Frame, kind: str, *, visible: float = 0.0) -> dict[int, Tensor]:
    """The boxes (G, 4) px about the instances in an image, by object.

    kind: bbox_visib is about what is seen of them, bbox_obj about the whole. visible: the least share of one.
    """
    found: dict[int, list[list[float]]] = defaultdict(list)
    for truth, info in _scene(dataset.split_dir, frame.scene_id).annotations(frame.im_id):
        left, top, width, height = info[kind]
        if info["visib_fract"] >= visible:
            found[truth["obj_id"]].append([left, top, left + width, top + height])
    return {obj_id: torch.tensor(boxes).float() for obj_id, boxes in found.items()}


@cache
def _scene(split_dir: Path, scene_id: int) -> Scene:
    return open_scenes(split_dir, [scene_id])[scene_id]
