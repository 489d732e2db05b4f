"""Where the files of CAMERA25 and REAL275 lie: frames by split, and the extents of their objects' models.

CAMERA/{train,val}/00000/0000_{color,coord,depth,mask}.png, 0000_meta.txt   ten frames a folder
Real/{train,test}/scene_1/0000_...                                          the same files
gts/{val,real_test}/results_*.pkl
obj_models/{train,val}/SYNSET/MODEL/bbox.txt, obj_models/real_{train,test}/MODEL.txt
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from picopose.datasets.layouts import names_in
from picopose.utils.errors import InputError

CLASSES = ("bottle", "bowl", "camera", "can", "laptop", "mug")  # of ids 1 to 6; 0 is background

_PARTS = ("color.png", "coord.png", "depth.png", "mask.png", "meta.txt")
_FILE = re.compile(rf"(\d{{4}})_(?:{'|'.join(map(re.escape, _PARTS))})")
_FOLDER = re.compile(r"(?:scene_)?(\d+)")
_CAMERA_K = np.array([[577.5, 0.0, 319.5], [0.0, 577.5, 239.5], [0.0, 0.0, 1.0]])
_REAL_K = np.array([[591.0125, 0.0, 322.525], [0.0, 590.16775, 244.11084], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Split:
    """One part of a set; paths are relative to the root of both sets."""

    images: str
    models: str
    K: np.ndarray = field(compare=False)  # (3, 3), of images of 640 x 480 px
    truths: str | None = None  # None: training images, whose truth is in their own files


SPLITS = {
    "camera_train": Split("CAMERA/train", "obj_models/train", _CAMERA_K),
    "camera_val": Split("CAMERA/val", "obj_models/val", _CAMERA_K, "gts/val"),
    "real_train": Split("Real/train", "obj_models/real_train", _REAL_K),
    "real_test": Split("Real/test", "obj_models/real_test", _REAL_K, "gts/real_test"),
}


@dataclass(frozen=True)
class FrameFiles:
    """The files of one frame."""

    root: Path
    split: Split
    folder: str  # such as 00000 or scene_1
    number: str  # such as 0000

    def path(self, part: str) -> Path:
        """Of `color.png`, `coord.png`, `depth.png`, `mask.png` or `meta.txt`."""
        return self.root / self.split.images / self.folder / f"{self.number}_{part}"

    @property
    def place(self) -> tuple[int, int]:
        """The numbers of its folder and its own."""
        return int(self.folder.removeprefix("scene_")), int(self.number)

    @property
    def result(self) -> str:
        """Name of the files of detections in it and of their poses, such as results_test_scene_1_0000.pkl."""
        return f"results_{PurePosixPath(self.split.images).name}_{self.folder}_{self.number}.pkl"

    @property
    def image_path(self) -> str:
        """As the original names it, see `find_frame`."""
        return f"data/{self.split.images}/{self.folder}/{self.number}"

    @property
    def truth(self) -> Path | None:
        """The file of the true poses and sizes; None for training images."""
        if self.split.truths is None:
            return None
        folder = self.root / self.split.truths
        return folder / f"results_{folder.name}_{self.folder}_{self.number}.pkl"


@dataclass(frozen=True)
class FrameList:
    """The frames of a split in their order, without those that lack a file, which are counted."""

    frames: list[FrameFiles]
    incomplete: int


def list_frames(root: Path | str, split: str) -> FrameList:
    """The frames of a split by folder and number; an `InputError` if there is none.

    Folders need not be numbered without gaps. In CAMERA's val 3792 frames lack a file.
    """
    root, part = Path(root), SPLITS[split]
    images = root / part.images
    frames, incomplete = [], 0
    for folder in _folders(images):
        files = Counter(found[1] for path in folder.iterdir() if (found := _FILE.fullmatch(path.name)))
        whole = sorted(number for number, count in files.items() if count == len(_PARTS))
        frames += [FrameFiles(root, part, folder.name, number) for number in whole]
        incomplete += len(files) - len(whole)
    if not frames:
        raise InputError(f"no frames in {images}: download the set (there: {names_in(images)})")
    return FrameList(frames, incomplete)


def _folders(images: Path) -> list[Path]:
    """The folders of frames by number, so that scene_10 follows scene_9."""
    if not images.is_dir():
        raise InputError(
            f"{images} not found: download the set (in {images.parent}: {names_in(images.parent)})"
        )
    found = [(match, path) for path in images.iterdir() if (match := _FOLDER.fullmatch(path.name))]
    return [path for match, path in sorted(found, key=lambda pair: int(pair[0][1])) if path.is_dir()]


def find_frame(root: Path | str, image_path: str) -> FrameFiles:
    """The frame that the original's `image_path` names, such as data/Real/test/scene_1/0000.

    What goes before the set's folder is ignored, as it is the original's working folder. Raises an
    `InputError` for other paths.
    """
    parts = PurePosixPath(image_path).parts[-4:]
    split = next((s for s in SPLITS.values() if "/".join(parts[:2]) == s.images), None)
    if split is None or not _FOLDER.fullmatch(parts[2]) or not re.fullmatch(r"\d{4}", parts[3]):
        raise InputError(
            f"image_path {image_path!r} names no frame, such as data/Real/test/scene_1/0000: correct it"
        )
    return FrameFiles(Path(root), split, parts[2], parts[3])
