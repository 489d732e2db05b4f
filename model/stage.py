"""The interface of a stage: it takes what is known about the objects in a frame and adds to it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from picopose.rendering.mesh import Mesh
from picopose.utils.config import Config
from picopose.utils.distributed import own_first
from picopose.utils.errors import InputError
from picopose.utils.records import Drawing, Estimates, Frame, Record, View
from picopose.utils.stopwatch import Stopwatch
from picopose.utils.symmetry import Symmetry


@dataclass(frozen=True, eq=False)
class Thing:
    """An object that can be looked for."""

    id: int
    name: str
    diameter: float | None  # m; None for a category
    symmetry: Symmetry | None = None


class Drawings(Protocol):
    """Objects that can be drawn at any pose, by id."""

    progress: Callable[[int, int], None] | None  # called with the number of views drawn and of all

    def digest(self, obj_id: int) -> str:
        """Changes with the object and with the way it is drawn."""

    def mesh(self, obj_id: int) -> Mesh:
        """The object's mesh."""

    def hull(self, obj_id: int) -> Tensor:
        """(N, 3) float64 m: the corners of the object's convex hull."""

    def template_poses(self, obj_id: int, n_views: int) -> Tensor:
        """cam_from_obj (V, 4, 4) float64 m of views from all around the object."""

    def draw(self, obj_ids: list[int], cam_from_obj: Tensor, K: Tensor, size: int) -> Drawing:
        """Drawings (B, ...) on the CPU, one for each object id, pose (B, 4, 4) and camera (B, 3, 3)."""


class Templates(Protocol):
    """Fixed views of objects, by id."""

    def digest(self, obj_id: int) -> str:
        """Changes with anything that makes templates differ: mesh, number of views, way of rendering."""

    def views(self, obj_id: int) -> Iterator[View]:
        """The views (V, ...) of an object on the CPU, in several parts."""


@dataclass(frozen=True, eq=False)
class Things:
    """The objects of a run, and where views of them come from."""

    by_id: Mapping[int, Thing]
    drawings: Drawings | None = None  # None: no meshes are available
    templates: Templates | None = None  # None: no stage needs them

    def title(self, obj_id: int) -> str:
        """What messages call an object: its name, or "object" and its number where that is its name."""
        name = self.by_id[obj_id].name
        return f"object {name}" if name.isdecimal() else name


@dataclass(frozen=True, eq=False)
class Setup:
    """What a stage is made from."""

    config: Config
    device: torch.device
    stopwatch: Stopwatch


def check_poses(found: Estimates, stage: str) -> None:
    """Raises an `InputError` where a stage that needs poses is given none."""
    if found.cam_from_obj is None:
        raise InputError(f"stages: {stage} needs poses to start from; name a method before it, or give them")


@dataclass(frozen=True)
class Step(Record):
    """One iteration of the refinement of N poses, as `Stage.watch` receives it."""

    rows: Tensor  # (N,) long, indices into the estimates that the stage was given
    cam_from_obj: Tensor  # (N, 4, 4) m, after the iteration
    weight: Tensor  # (N, S, S) in [0, 1], how much each pixel of a window of the photo counted
    K: Tensor  # (N, 3, 3) cameras of those windows


class Stage:
    """A detector, an estimator, a refiner, a judge of poses, ...; this base class changes nothing.

    A module that offers `make_stage(setup) -> Stage` can be named in `stages`, see `methods`.
    """

    things: Things | None = None
    watch: Callable[[Step], None] | None = None  # called by a refining stage after every iteration
    guesses_outlines = False  # a detector's masks come from poses that may be wrong: only boxes are used
    _ready: frozenset[int] = frozenset()

    def prepare(self, things: Things) -> None:
        """Prepares the stage for these things; those that are already prepared take no time."""
        if things is not self.things:
            self.things, self._ready = things, frozenset()
            self.open(things)
        for obj_id in own_first([obj_id for obj_id in things.by_id if obj_id not in self._ready]):
            self.prepare_object(obj_id)
            self._ready |= {obj_id}

    def open(self, things: Things) -> None:
        """Starts anew with a different collection of things."""

    def prepare_object(self, obj_id: int) -> None:
        """Prepares one object."""

    def forget(self, obj_id: int) -> None:
        """Frees the memory that an object takes."""
        self._ready -= {obj_id}

    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        """What is known about the objects in a frame after this stage."""
        return found

    def template(self, obj_id: int, view: int) -> View | None:
        """An object's template of this index; None for a stage that draws objects itself."""
        return None
