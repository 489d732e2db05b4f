"""Detections in test images of CAMERA25 and REAL275, from files of three kinds; and their truths."""

import logging
import re
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from picopose.datasets.bop.detections import Detection, Detections
from picopose.datasets.layouts import names_in
from picopose.datasets.nocs.detections import ImageResult, Truths, read_result, read_truths
from picopose.datasets.nocs.frames import read_mask, read_meta
from picopose.datasets.nocs.layout import CLASSES, SPLITS, FrameFiles, find_frame, list_frames
from picopose.utils.errors import InputError
from picopose.utils.masks import cut_out
from picopose.utils.records import Estimates

TRUTH = "truth"  # stands for the true masks in place of a file
_RESULT = re.compile(r"results_(?:val|test)_(\d+|scene_\d+)_(\d{4})\.pkl")
_FOLDERS = {"camera_val": "CAMERA25", "real_test": "REAL275"}  # of the original's detections
_LOG = logging.getLogger(__name__)


class TestDetections(Protocol):
    """Detections and truths of some frames."""

    __test__ = False  # not a test class

    frames: list[FrameFiles]
    name: str  # of the kind or the file

    def given(self, files: FrameFiles) -> tuple:
        """All that comes from files of a frame; a path stands for its content."""

    def truths(self, files: FrameFiles) -> Truths:
        """The annotated objects of a frame."""

    def detections(self, files: FrameFiles, size: tuple[int, int]) -> Estimates:
        """What is detected in a frame of size (height, width)."""


def open_detections(root: Path, split: str, given: str | None) -> TestDetections:
    """The detections of a split.

    Args:
        given: a folder of the original's `results_*.pkl`; a JSON file as of `datasets.bop.detections`, with
            the folder's number as `scene_id`; or `truth` for the true masks. None: `detections.json` of the
            root, else `segmentation_results/REAL275` or `CAMERA25` there.

    Raises:
        InputError: there are none.
    """
    own = root / "detections.json"
    shipped = own if own.is_file() else root / "segmentation_results" / _FOLDERS[split]
    path = shipped if given is None else Path(given)
    if given == TRUTH and not path.exists():
        _LOG.warning("the true masks stand for detections: results say nothing about detected ones")
        return TrueMasks(root, split)
    return ListedDetections(root, split, path) if path.is_file() else PickledDetections(root, split, path)


class PickledDetections:
    """The detections of the original, each file with the truths of its image."""

    def __init__(self, root: Path, split: str, folder: Path):
        self.name, self._root = folder.name, root
        found = [(match, path) for path in folder.glob("*.pkl") if (match := _RESULT.fullmatch(path.name))]
        self._paths = {FrameFiles(root, SPLITS[split], *match.groups()): path for match, path in found}
        if not found:
            raise InputError(
                f"{folder} has no detections, results_*.pkl (there: {names_in(folder)}): download them, or "
                f"set test_dataset.detections to another folder, a JSON file, or {TRUTH} for the true masks"
            )
        if len(self._paths) < len(found):
            raise InputError(f"{folder} has several files of one image: keep one of each")
        self.frames = sorted(self._paths, key=lambda files: files.place)

    def given(self, files: FrameFiles) -> tuple[Path]:
        return (self._paths[files],)

    def truths(self, files: FrameFiles) -> Truths:
        return self._read(files).truths

    def detections(self, files: FrameFiles, size: tuple[int, int]) -> Estimates:
        result, path = self._read(files), self._paths[files]
        if result.masks is None:
            raise InputError(f"{path} has no pred_masks: pass detections, not results")
        if len(result.class_ids) and result.masks.shape[:2] != size:
            sizes = ["{1}x{0} px".format(*shape) for shape in (result.masks.shape, size)]
            raise InputError(
                f"{path} has masks of {sizes[0]} for a photo of {sizes[1]}: make them on this photo"
            )
        return _estimates(result.class_ids, result.masks, result.scores, result.boxes)

    def _read(self, files: FrameFiles) -> ImageResult:
        result = read_result(self._paths[files])
        if find_frame(self._root, result.image_path) != files:
            raise InputError(f"{self._paths[files]} is of {result.image_path}: give it the name of its image")
        return result


class TrueMasks:
    """The masks of the annotated objects as if they were detections, with a score of 1."""

    name = TRUTH

    def __init__(self, root: Path, split: str):
        self.frames = list_frames(root, split).frames

    def given(self, files: FrameFiles) -> tuple[Path, ...]:
        return files.path("mask.png"), files.path("meta.txt"), files.truth

    def truths(self, files: FrameFiles) -> Truths:
        return read_truths(files.truth)

    def detections(self, files: FrameFiles, size: tuple[int, int]) -> Estimates:
        path = files.path("mask.png")
        numbers = read_mask(path)
        if numbers.shape != size:
            raise InputError(f"{path} is of another size than the photo: download it again")
        known = [each for each in read_meta(files.path("meta.txt")) if each.class_id > 0]
        seen = [each for each in known if (numbers == each.instance).any()]
        masks = numbers[:, :, None] == np.array([each.instance for each in seen], np.uint8)
        return _estimates(np.array([each.class_id for each in seen], np.int64), masks, np.ones(len(seen)))


class ListedDetections:
    """Those of a JSON file, with classes by `category_id`."""

    def __init__(self, root: Path, split: str, path: Path):
        self.name = path.name
        self.frames = list_frames(root, split).frames
        self._detections = Detections(path, images={files.place for files in self.frames})

    def given(self, files: FrameFiles) -> tuple[tuple[Detection, ...], Path]:
        return self._detections.of_image(*files.place), files.truth

    def truths(self, files: FrameFiles) -> Truths:
        return read_truths(files.truth)

    def detections(self, files: FrameFiles, size: tuple[int, int]) -> Estimates:
        found = self._detections.of_image(*files.place)
        for detection in found:
            if not 1 <= detection.obj_id <= len(CLASSES):
                raise InputError(
                    f"{detection.region.where}: category_id {detection.obj_id} is no class of NOCS: give 1 "
                    f"to {len(CLASSES)} ({', '.join(CLASSES)})"
                )
        return Estimates.of(
            [detection.obj_id for detection in found],
            self._detections.masks(found, size=size),
            score=torch.tensor([detection.score for detection in found], dtype=torch.float64),
            box=torch.tensor([detection.box for detection in found]).reshape(-1, 4),
            seconds=max((detection.seconds for detection in found), default=0.0),
        )


def _estimates(
    class_ids: np.ndarray, masks: np.ndarray, scores: np.ndarray, boxes: np.ndarray | None = None
) -> Estimates:
    """Detections with masks (H, W, N) and boxes (N, 4) top, left, bottom, right."""
    cut = [cut_out(torch.from_numpy(masks[..., i].copy())) for i in range(len(class_ids))]
    box = None if boxes is None else torch.from_numpy(boxes)[:, [1, 0, 3, 2]]
    return Estimates.of(class_ids.tolist(), cut, score=torch.from_numpy(scores), box=box)
