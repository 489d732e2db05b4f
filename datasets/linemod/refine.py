"""DeepIM's LM6d_refine and LM6d_refine_syn: photos, true poses, and noisy poses to begin with.

    data/observed/{folder}/{number}-color.png
    data/gt_observed/{class}/{number}-depth.png, -pose.txt     the object alone, in mm; its pose
    data/rendered/{class}/{number}_{k}-pose.txt                noisy poses of photos for training: 10, or 1
    image_set/observed/{class}_{train,test}.txt                numbers, perhaps with a folder before them

The folder is the object's id (two digits), in the synthetic set the class.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np

from picopose.datasets.images import read_depth
from picopose.datasets.linemod.classes import ObjectClass, find_class, read_classes
from picopose.datasets.linemod.photos import K, check_there, names_in, observation
from picopose.datasets.linemod.poses import read_pose
from picopose.utils.errors import InputError
from picopose.utils.records import Observation

CONVERTED = Path("LM6d_converted")  # where photos and models are, of the downloads' folder
_MM = np.float32(1e-3)
_MOST_INITIAL = 100  # noisy poses of a photo
_REMEDY = "download the set again"


class RefinePhotos:
    """The photos of a list, each as often as it has noisy poses, or once without `initial` if it has none.

    Args:
        data: the set's folder `data`.
        listing: file that lists the photos.
        folder: of the photos, below `data/observed`.

    Raises:
        InputError: a file is missing or damaged.
    """

    def __init__(self, data: Path, listing: Path, shown: ObjectClass, folder: str):
        self.shown, self.listing = shown, listing
        self._observed = data / "observed" / folder
        self._truth, self._rendered = data / "gt_observed" / shown.name, data / "rendered" / shown.name
        self.numbers = _read_list(listing)
        check_there(self._observed, (f"{number}-color.png" for number in self.numbers))
        ends = ("depth.png", "pose.txt")
        check_there(self._truth, (f"{number}-{end}" for number in self.numbers for end in ends))
        there = names_in(self._rendered)
        self._entries = [entry for number in self.numbers for entry in _entries(number, there)]

    @classmethod
    def real(cls, root: Path, name: str, split: str) -> Self:
        """root: folder `LM6d_refine`; split: train or test."""
        shown = find_class(read_classes(root), name)
        listing = root / f"image_set/observed/{shown.name}_{split}.txt"
        return cls(root / "data", listing, shown, f"{shown.obj_id:02d}")

    @classmethod
    def synthetic(cls, root: Path, name: str, split: str = "train") -> Self:
        """root: folder `LM6d_refine_syn`."""
        shown = find_class(read_classes(root), name)
        file = f"LM6d_data_syn_{split}_observed_{shown.name}.txt"
        places = [root / "image_set/observed" / file, root / "image_set" / file]
        listing = next((place for place in places if place.is_file()), places[0])
        return cls(root / "data", listing, shown, shown.name)

    def __len__(self) -> int:
        return len(self._entries)

    def photo(self, index: int) -> Observation:
        number, noisy = self._entries[index]
        pose, depth = self.pose(number), read_depth(self.depth_path(number)) * _MM
        initial = None if noisy is None else read_pose(self._rendered / noisy)
        return observation(self.photo_path(number), depth, K, pose, initial)

    def name(self, index: int) -> str:
        number, noisy = self._entries[index]
        return f"{self.photo_path(number)}" + (f" from {noisy}" if noisy else "")

    def photo_path(self, number: str) -> Path:
        return self._observed / f"{number}-color.png"

    def depth_path(self, number: str) -> Path:
        """The depth of the object alone, in mm."""
        return self._truth / f"{number}-depth.png"

    def measured_path(self, number: str) -> Path:
        """The depth of the photo, in mm."""
        return self._observed / f"{number}-depth.png"

    def pose(self, number: str) -> np.ndarray:
        """The true pose (4, 4) m."""
        return read_pose(self._truth / f"{number}-pose.txt")


def _read_list(path: Path) -> list[str]:
    """The numbers of the photos, as they are spelt."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {_REMEDY}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text file: {_REMEDY}") from None
    numbers = [line.split()[0].rpartition("/")[2] for line in lines if line.strip()]
    wrong = next((number for number in numbers if not number.isdecimal()), None)
    if wrong is not None or not numbers:
        reason = f"{wrong!r} is no number of a photo" if numbers else "it is empty"
        raise InputError(f"{path} is no list of photos ({reason}): {_REMEDY}")
    return numbers


def _entries(number: str, there: set[str]) -> list[tuple[str, str | None]]:
    """A photo's number with each of its noisy poses' files."""
    names = (f"{number}_{k}-pose.txt" for k in range(_MOST_INITIAL))
    found: list[tuple[str, str | None]] = [(number, name) for name in names if name in there]
    return found or [(number, None)]
