"""Test images in NOCS's layout, one `Frame` with depth each, and the detections in them."""

from pathlib import Path

import torch

from picopose.datasets.layouts import dataset_dir, dataset_name, names_in
from picopose.datasets.nocs.detections import Truths
from picopose.datasets.nocs.frames import read_depth, read_rgb
from picopose.datasets.nocs.layout import SPLITS, FrameFiles
from picopose.datasets.nocs.test_detections import open_detections
from picopose.utils.errors import InputError
from picopose.utils.records import Estimates, Frame

TEST_SPLITS = ("camera_val", "real_test")
_M_PER_MM = 1000


class NocsTestSet:
    """The test images of a split that detections are given of, by folder and number.

    Args:
        data_dir: folder of the data sets.
        name: folder of this one, where it has one test split, or folder and split, such as nocs/real_test.
        detections: see `test_detections.open_detections`.
    """

    def __init__(self, data_dir: Path | str, name: str, *, detections: str | None = None):
        self.folder, self.split = find_split(data_dir, name)
        self.name = f"{self.folder.name}_{self.split}"
        self.detections = open_detections(self.folder, self.split, detections)
        self.frames = self.detections.frames
        self.places = [files.place for files in self.frames]  # (scene_id, im_id) of each image
        self._by_place = dict(zip(self.places, self.frames, strict=True))

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        files = self.frames[index]
        rgb, depth = read_rgb(files.path("color.png")), read_depth(files.path("depth.png"))
        if depth.shape != rgb.shape[:2]:
            raise InputError(
                f"{files.path('depth.png')} is of another size than its photo: download both again"
            )
        scene_id, im_id = files.place
        return Frame(
            torch.from_numpy(rgb.copy()).permute(2, 0, 1),
            torch.from_numpy(files.split.K),
            torch.from_numpy(depth / _M_PER_MM),
            scene_id=scene_id,
            im_id=im_id,
        )

    def start(self, frame: Frame, before: Estimates | None = None) -> Estimates:
        """What is detected in a frame; the frame before plays no part."""
        return self.detections.detections(self.files(frame), tuple(frame.rgb.shape[1:]))

    def files(self, frame: Frame) -> FrameFiles:
        return self._by_place[frame.scene_id, frame.im_id]

    def truths(self, frame: Frame) -> Truths:
        """The annotated objects of a frame."""
        return self.detections.truths(self.files(frame))


def find_split(data_dir: Path | str, name: str) -> tuple[Path, str]:
    """The folder of a data set and its test split, which its name may end with.

    An `InputError` says what is missing, or asks to choose.
    """
    folder, _, split = name.rstrip("/").rpartition("/")
    if split not in TEST_SPLITS:
        folder, split = name, ""
    path = dataset_dir(data_dir, dataset_name(folder))
    there = [each for each in TEST_SPLITS if (path / SPLITS[each].images).is_dir()]
    if split and split not in there:
        raise InputError(f"{path / SPLITS[split].images} not found: download it (there: {names_in(path)})")
    if not there:
        places = " nor ".join(SPLITS[each].images for each in TEST_SPLITS)
        raise InputError(f"{path} has neither {places}: give NOCS's layout (there: {names_in(path)})")
    if not split and len(there) > 1:
        choices = " or ".join(f"{folder.rstrip('/')}/{each}" for each in there)
        raise InputError(f"{path} has several test splits: name {choices}")
    return path, split or there[0]
