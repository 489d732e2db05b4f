"""A stage of a run: it takes what is known of the objects in a frame and gives more."""

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
    """Objects that can be drawn from anywhere, by id."""

    progress: Callable[[int, int], None] | None  # is told how many of how many views of an object are drawn

    def digest(self, obj_id: int) -> str:
        """Tells objects apart, and the ways of drawing them."""

    def mesh(self, obj_id: int) -> Mesh:
        """Its triangles."""

    def hull(self, obj_id: int) -> Tensor:
        """(N, 3) float64 m: the corners of the object's convex hull."""

    def template_poses(self, obj_id: int, n_views: int) -> Tensor:
        """cam_from_obj (V, 4, 4) float64 m of views all around."""

    def draw(self, obj_ids: list[int], cam_from_obj: Tensor, K: Tensor, size: int) -> Drawing:
        """One drawing (B, ...) on the CPU for each object id, pose (B, 4, 4) and camera (B, 3, 3)."""


class Templates(Protocol):
    """Fixed views of objects, by id."""

    def digest(self, obj_id: int) -> str:
        """Tells templates apart that differ in anything: mesh, number of views, way of rendering."""

    def views(self, obj_id: int) -> Iterator[View]:
        """The views (V, ...) of an object on the CPU, a part at a time."""


@dataclass(frozen=True, eq=False)
class Things:
    """The objects of a run, and where views of them come from."""

    by_id: Mapping[int, Thing]
    drawings: Drawings | None = None  # None: there are no meshes
    templates: Templates | None = None  # None: no stage asks for them


@dataclass(frozen=True, eq=False)
class Setup:
    """What stages are made from."""

    config: Config
    device: torch.device
    stopwatch: Stopwatch


def check_poses(found: Estimates, stage: str) -> None:
    """An `InputError` where a stage that goes on from poses is given none."""
    if found.cam_from_obj is None:
        raise InputError(
            f"stages: {stage} goes on from poses; name a method before it, or give poses to start"
        )


@dataclass(frozen=True)
class Step(Record):
    """One iteration of the refinement of N poses, for who watches it."""

    rows: Tensor  # (N,) long, of the estimates that the stage was given
    cam_from_obj: Tensor  # (N, 4, 4) m, after the iteration
    weight: Tensor  # (N, S, S) in [0, 1], how much each pixel of a window of the photo has counted
    K: Tensor  # (N, 3, 3) camera of that window


class Stage:
    """A detector, an estimator, a refiner, a judge of poses, ...: this one leaves everything as it is.

    A module that offers `make_stage(setup) -> Stage` can be named in `stages`, see `methods`.
    """

    things: Things | None = None
    watch: Callable[[Step], None] | None = None  # is told every iteration by a stage that refines
    guesses_outlines = False  # a detector's masks are of poses that may be wrong: boxes are gone on with
    _ready: frozenset[int] = frozenset()

    def prepare(self, things: Things) -> None:
        """Makes ready to look for these; things that are ready take no time."""
        if things is not self.things:
            self.things, self._ready = things, frozenset()
            self.open(things)
        for obj_id in own_first([obj_id for obj_id in things.by_id if obj_id not in self._ready]):
            self.prepare_object(obj_id)
            self._ready |= {obj_id}

    def open(self, things: Things) -> None:
        """Begins with other things than before."""

    def prepare_object(self, obj_id: int) -> None:
        """Makes ready to look for one of them."""

    def forget(self, obj_id: int) -> None:
        """Drops what memory holds of an object."""
        self._ready -= {obj_id}

    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        """What is known of the objects in a frame after this stage."""
        return found

    def template(self, obj_id: int, view: int) -> View | None:
        """The view that the pose of an object was found from; None where the stage draws it at the pose."""
        return None
