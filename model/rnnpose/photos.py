"""The photos that a network learns its object from: rendered without end, or those of data sets."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from picopose.datasets.linemod.backgrounds import find_backgrounds
from picopose.datasets.linemod.bop_photos import BopPhotos
from picopose.datasets.linemod.classes import find_class, read_classes
from picopose.datasets.linemod.fuse import FusePhotos
from picopose.datasets.linemod.initial_poses import FRAMES
from picopose.datasets.linemod.photos import Joined
from picopose.datasets.linemod.photos import Photos as Listed
from picopose.datasets.linemod.refine import CONVERTED, RefinePhotos
from picopose.datasets.training.one_object import RenderedPhotos
from picopose.datasets.training.photos import read_photo
from picopose.datasets.training.streams import stream
from picopose.model.rnnpose.options import Training
from picopose.model.rnnpose.samples import Photos
from picopose.rendering.mesh import Mesh
from picopose.rendering.studio import Studio
from picopose.utils.config import TrainDatasetConfig
from picopose.utils.errors import InputError
from picopose.utils.records import Observation

FUSED, CHANGES = Path("LINEMOD/fuse_formatted"), Path("init_poses") / FRAMES


def training_photos(
    training: Training, data: TrainDatasetConfig, mesh: Mesh, *, seed: int, held_out: bool
) -> Photos:
    """The photos that `training.photos` names, those of data sets as often as rendered ones.

    held_out: of the rendered ones others, of LINEMOD's real ones the test's, of further ones the same.
    """
    backdrops = (
        find_backgrounds(Path(data.backgrounds), "train_dataset.backgrounds=") if data.backgrounds else []
    )
    listed = [
        _listed(name, training.object, Path(data.data_dir), seed, backdrops, held_out=held_out)
        for name in training.photos
        if name != "rendered"
    ]
    parts: list[Photos] = [Shuffled(Joined(listed), seed)] if listed else []
    if "rendered" in training.photos:
        parts.append(RenderedPhotos(Studio(), mesh, training.object, seed=seed, backgrounds=backdrops))
    return Alternating(parts)


def model_file(training: Training, data: TrainDatasetConfig) -> Path:
    """The mesh of the object that is trained: the one named, or that of LINEMOD's models."""
    if training.mesh is not None:
        return Path(training.mesh)
    return Path(data.data_dir) / CONVERTED / "models" / training.object / "textured.obj"


class Alternating:
    """Several sequences of photos in turn."""

    def __init__(self, parts: Sequence[Photos]):
        self._parts = list(parts)

    def photo(self, index: int) -> Observation:
        return self._parts[index % len(self._parts)].photo(index // len(self._parts))

    def name(self, index: int) -> str:
        return self._parts[index % len(self._parts)].name(index // len(self._parts))


class Shuffled:
    """Photos of a list, drawn at random without end."""

    def __init__(self, photos: Listed, seed: int):
        self._photos, self._seed = photos, seed

    def photo(self, index: int) -> Observation:
        return self._photos.photo(self._pick(index))

    def name(self, index: int) -> str:
        return self._photos.name(self._pick(index))

    def _pick(self, index: int) -> int:
        return int(stream("listed photos", self._seed, index).integers(len(self._photos)))


class OnBackdrops:
    """Photos of an object on black, in front of other images."""

    def __init__(self, photos: Listed, backdrops: Sequence[Path], seed: int):
        self._photos, self._backdrops, self._seed = photos, list(backdrops), seed

    def __len__(self) -> int:
        return len(self._photos)

    def name(self, index: int) -> str:
        return self._photos.name(index)

    def photo(self, index: int) -> Observation:
        photo = self._photos.photo(index)
        rng = stream("backdrops", self._seed, index)
        image = read_photo(self._backdrops[rng.integers(len(self._backdrops))])
        if image is None:
            return photo
        behind = cv2.resize(image, photo.rgb.shape[:0:-1], interpolation=cv2.INTER_LINEAR)
        behind = torch.from_numpy(np.ascontiguousarray(behind.transpose(2, 0, 1)))
        return replace(photo, rgb=torch.where(photo.depth > 0, photo.rgb, behind))


def _listed(
    name: str, shown: str, root: Path, seed: int, backdrops: Sequence[Path], *, held_out: bool
) -> Listed:
    """The photos of one entry of `training.photos`."""
    if name == "real":
        return RefinePhotos.real(root / CONVERTED / "LM6d_refine", shown, "test" if held_out else "train")
    if name == "synthetic":
        photos = RefinePhotos.synthetic(root / CONVERTED / "LM6d_refine_syn", shown)
        return OnBackdrops(photos, backdrops, seed) if backdrops else photos
    if name == "fuse":
        return FusePhotos(root / FUSED, shown, root / CHANGES)
    if name.startswith("bop:"):
        return BopPhotos(root / name.removeprefix("bop:"), _obj_id(shown, root))
    raise InputError(
        f"options.rnnpose.training.photos: {name} is none of rendered, real, synthetic, fuse and bop:FOLDER"
    )


def _obj_id(shown: str, root: Path) -> int:
    """BOP's id of an object that is named by it, as in obj_000001, or by its class."""
    numbered = re.fullmatch(r"obj_(\d+)", shown)
    return int(numbered[1]) if numbered else find_class(read_classes(root), shown).obj_id
