"""The objects that synthetic pairs show: meshes from files and procedural shapes, slowly exchanged.

A pool holds the objects of a sample index as a pure function of (seed, index), yet loads or makes a mesh only
once in many samples.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy.spatial import QhullError

from picopose.datasets.training.photos import read_photo
from picopose.datasets.training.resting import stable_poses
from picopose.datasets.training.streams import stream
from picopose.utils.errors import InputError
from picopose.utils.lru import Lru
from picopose.utils.mesh_file import MeshFile
from picopose.utils.records import Drawing

log = logging.getLogger(__name__)
SURFACE_PX = 256  # of an image for a surface
Mesh = Any  # of the rendering layer; data sets only pass it on


class Studio(Protocol):
    """What data sets need of rendering; `rendering.studio.Studio` is one."""

    def load(self, path: Path, unit: float) -> Mesh: ...

    def vary(self, rng: np.random.Generator, mesh: Mesh, image: np.ndarray | None) -> Mesh: ...

    def random_shape(self, rng: np.random.Generator) -> Mesh: ...

    def random_image(self, rng: np.random.Generator, height: int, width: int) -> np.ndarray: ...

    def board(self, image: np.ndarray) -> Mesh: ...

    def hull(self, mesh: Mesh) -> np.ndarray: ...

    def template_poses(self, mesh: Mesh) -> np.ndarray: ...

    def photo(self, instances: Sequence, K: np.ndarray, width: int, height: int, **light) -> Any: ...

    def draw(self, mesh: Mesh, cam_from_obj: np.ndarray, K: np.ndarray, size: int) -> Drawing: ...

    def depth(
        self, mesh: Mesh, cam_from_obj: np.ndarray, K: np.ndarray, width: int, height: int
    ) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class TrainingObject:
    """A mesh with what scenes and templates need to know of it."""

    name: str
    mesh: Mesh
    hull: np.ndarray  # (N, 3) m, vertices of the convex hull
    template_poses: np.ndarray  # (V, 4, 4) cam_from_obj, m

    @cached_property
    def stable_poses(self) -> tuple[np.ndarray, np.ndarray]:
        """See `datasets.training.resting.stable_poses`."""
        return stable_poses(self.hull)

    @cached_property
    def radius(self) -> float:
        """m, of the sphere about the origin that holds the object."""
        return float(np.linalg.norm(self.hull, axis=1).max())


def nearest_views(template_poses: np.ndarray, cam_from_obj: np.ndarray, count: int) -> np.ndarray:
    """Indices of the templates that see an object from most nearly the same side, nearest first.

    A side is the direction to the camera from the point that the templates look at, in the object's frame: so
    neither the angle between viewing ray and optical axis nor a turn in the image plays a part.
    """
    positions = _camera_positions(template_poses)
    centre = positions.mean(axis=0)  # the viewpoints are spread evenly about it
    offsets = np.concatenate([positions, _camera_positions(cam_from_obj[None])]) - centre
    sides = offsets / np.linalg.norm(offsets, axis=1, keepdims=True)
    return np.argsort(-sides[:-1] @ sides[-1], kind="stable")[:count]


def _camera_positions(cam_from_obj: np.ndarray) -> np.ndarray:
    """(V, 3) in the object's frame."""
    return -np.einsum("vji,vj->vi", cam_from_obj[:, :3, :3], cam_from_obj[:, :3, 3])


class ObjectPool:
    """`slots` objects at a time, each exchanged after `period` samples, one after the other.

    Args:
        folders: meshes by name. Folders share the slots equally, however many files they hold; within a
            folder every file gets its turn, so none is rarer than another.
        shapes: share of the slots that hold procedural shapes, in [0, 1].
        varied: share of the files' turns in which the mesh has other proportions, and in every second of them
            another surface: one of `photos`, or a made-up image.
    """

    def __init__(
        self,
        studio: Studio,
        folders: Sequence[dict[str, MeshFile]],
        *,
        shapes: float,
        seed: int,
        varied: float = 0.0,
        photos: Sequence[Path] = (),
        slots: int = 96,
        period: int = 3072,
    ):
        if not 0 <= shapes <= 1:
            raise ValueError(f"a share of {shapes} procedural shapes: give one from 0 to 1")
        if not (folders and all(folders)) and shapes < 1:
            raise ValueError("no mesh files: name some, or set the share of procedural shapes to 1")
        self._studio, self._folders = studio, folders
        self._seed, self.slots, self._period = seed, slots, period
        self._file_slots = slots - round(shapes * slots)
        files = self._file_slots
        if (shapes < 1 and files < len(folders)) or (shapes > 0 and files == slots):
            raise InputError(
                f"train_dataset.shapes={shapes}: of {slots} objects at a time {files} would be meshes, from "
                f"{len(folders)} folders, and {slots - files} procedural shapes; pass another share"
            )
        self._loaded = Lru(max(2 * slots, 128))
        self._varied, self._photos = varied, photos
        self._variants = Lru(slots)
        self._shapes = Lru(slots)

    def get(self, index: int, slot: int) -> TrainingObject:
        """The object that a slot holds for a sample."""
        generation = (index + slot * self._period // self.slots) // self._period
        if slot >= self._file_slots:
            return self._shapes.get((slot, generation), self._shape)
        for key in self._candidates(slot, generation):
            if (found := self._loaded.get(key, self._load)) is not None:
                if stream("varied", self._seed, slot, generation).random() >= self._varied:
                    return found
                return self._variants.get((found, slot, generation), self._vary)
        raise InputError(f"none of {len(self._folders[key[0]])} meshes can be used: replace {key[1]} for one")

    def pick(self, rng: np.random.Generator, index: int) -> TrainingObject:
        """A random object of those that the pool holds for a sample."""
        return self.get(index, int(rng.integers(self.slots)))

    def _candidates(self, slot: int, generation: int) -> Iterator[tuple[int, str]]:
        """Folder and name of a slot's file, then of those that take its place if it cannot be used.

        A folder's files come one after the other, in a new order every round.
        """
        place_in_folder, folder = divmod(slot, len(self._folders))
        slots = len(range(folder, self._file_slots, len(self._folders)))
        names = sorted(self._folders[folder])
        n_round, place = divmod(generation * slots + place_in_folder, len(names))
        order = stream("files", self._seed, n_round).permutation(len(names))
        return ((folder, names[k]) for k in np.roll(order, -place))

    def _load(self, key: tuple[int, str]) -> TrainingObject | None:
        """The object of a file; None, and a line in the log, if it cannot be used."""
        folder, name = key
        file = self._folders[folder][name]
        try:
            loaded = self._prepare(name, self._studio.load(file.path, file.unit))
            loaded.stable_poses  # noqa: B018 - needs a body, so it fails for a flat mesh
            return loaded
        except InputError as error:
            log.warning("left out of training: %s", error)
        except QhullError:
            log.warning("left out of training: %s is flat", file.path)
        return None

    def _vary(self, key: tuple[TrainingObject, int, int]) -> TrainingObject:
        thing, slot, generation = key
        rng = stream("variant", self._seed, slot, generation)
        image = self._surface(rng) if rng.random() < 0.5 else None
        return self._prepare(f"{thing.name} varied", self._studio.vary(rng, thing.mesh, image))

    def _surface(self, rng: np.random.Generator) -> np.ndarray:
        """(H, W, 3) uint8: a photo or a made-up image."""
        photo = read_photo(self._photos[rng.integers(len(self._photos))]) if self._photos else None
        if photo is None or rng.random() < 0.3:
            return self._studio.random_image(rng, SURFACE_PX, SURFACE_PX)
        return photo

    def _shape(self, key: tuple[int, int]) -> TrainingObject:
        rng = stream("shape", self._seed, *key)
        return self._prepare(f"shape {self._seed}/{key[0]}/{key[1]}", self._studio.random_shape(rng))

    def _prepare(self, name: str, mesh: Mesh) -> TrainingObject:
        return TrainingObject(name, mesh, self._studio.hull(mesh), self._studio.template_poses(mesh))
