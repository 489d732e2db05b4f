"""The records that travel through the program: frozen, typed, with shapes and units beside each field.

Lengths are metres, pixels follow `utils.geometry`, and "..." stands for any batch dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Record:
    """Base of the records: an operation on a record applies to every tensor in it."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """A copy with `function` applied to every tensor, also in nested records and tuples."""
        return type(self)(**{f.name: _map(getattr(self, f.name), function) for f in fields(self)})

    def to(self, *args, **kwargs) -> Self:
        return self.map(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> Self:
        return self.map(Tensor.pin_memory)

    def __getitem__(self, index) -> Self:
        """Indexes the leading dimension(s) of every tensor."""
        return self.map(lambda tensor: tensor[index])

    @classmethod
    def stack(cls, records: Sequence[Self]) -> Self:
        """Joins records along a new leading dimension; serves as a loader's `collate_fn`."""
        return cls._join(records, torch.stack)

    @classmethod
    def cat(cls, records: Sequence[Self]) -> Self:
        """Joins records along their leading dimension."""
        return cls._join(records, torch.cat)

    @classmethod
    def _join(cls, records: Sequence[Self], join: Callable) -> Self:
        return cls(**{f.name: _join([getattr(r, f.name) for r in records], join) for f in fields(cls)})


def _map(value, function):
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple):
        return tuple(_map(item, function) for item in value)
    return value.map(function) if isinstance(value, Record) else value


def _join(values: list, join: Callable):
    if isinstance(values[0], Tensor):
        return join(values)
    if isinstance(values[0], tuple):
        return tuple(_join(items, join) for items in zip(*values, strict=True))
    return values[0]._join(values, join) if isinstance(values[0], Record) else values[0]


@dataclass(frozen=True)
class Mask(Record):
    """A mask of a photo, stored only within its box: whole masks of large photos would take gigabytes."""

    box: Tensor  # (4,) long, px: left, top, right, bottom, the last two exclusive; all 0 for an empty mask
    inside: Tensor | None  # (h, w) bool, the mask within the box; None: the whole box

    @property
    def is_box(self) -> bool:
        return self.inside is None

    def window(self, left: int, top: int, right: int, bottom: int) -> Tensor:
        """The mask (bottom - top, right - left) bool in a window, which may reach beyond the photo."""
        cut = torch.zeros(bottom - top, right - left, dtype=torch.bool, device=self.box.device)
        x, y, x_end, y_end = self.box.tolist()
        first_x, first_y = max(left, x), max(top, y)
        end_x, end_y = max(min(right, x_end), first_x), max(min(bottom, y_end), first_y)
        cut[first_y - top : end_y - top, first_x - left : end_x - left] = (
            True if self.inside is None else self.inside[first_y - y : end_y - y, first_x - x : end_x - x]
        )
        return cut


@dataclass(frozen=True)
class Crop(Record):
    """A square window of a photo, resized, with the camera of its own pixels."""

    rgb: Tensor  # (..., 3, S, S) in [0, 1]
    mask: Tensor  # (..., S, S) bool, the object's visible pixels
    K: Tensor  # (..., 3, 3) camera of this window


@dataclass(frozen=True)
class View(Crop):
    """A crop whose pose is known: a template, or a training image."""

    depth: Tensor  # (..., S, S) m, along the optical axis; 0 where there is no surface
    cam_from_obj: Tensor  # (..., 4, 4) m


@dataclass(frozen=True)
class Drawing(View):
    """A rendering with edges as soft as a photo's.

    Its background is black; to get another one, add that times one minus the cover.
    """

    cover: Tensor  # (..., S, S) in [0, 1], share of each pixel that the object covers


@dataclass(frozen=True)
class Pair(Record):
    """One training sample: the same object in a photo and in a template."""

    real: View
    template: View


@dataclass(frozen=True)
class Observation(Record):
    """A photo of an object whose pose is known."""

    rgb: Tensor  # (3, H, W) uint8
    depth: Tensor  # (H, W) m, of the object alone; 0 on all that is not the object
    K: Tensor  # (3, 3)
    cam_from_obj: Tensor  # (4, 4) m
    initial: Tensor | None = None  # (4, 4) m, an initial pose, if the data have one


@dataclass(frozen=True)
class Correspondences(Record):
    """Points of a photo and of the object's surface that belong together."""

    xy: Tensor  # (B, N, 2) px, sub-pixel, in the crop of K
    xyz: Tensor  # (B, N, 3) m, object frame
    weight: Tensor  # (B, N) in [0, 1]; 0 = not a correspondence


@dataclass(frozen=True)
class Matches(Record):
    """Pixels of a photo and of a template that show the same points of an object's surface.

    Instead of a template, it may be a drawing of the object at its pose, with the photo's camera.
    """

    photo: Tensor  # (B, M, 2) px of the photo
    template: Tensor  # (B, M, 2) px of the template's crop, or of the drawing with the photo's camera
    weight: Tensor  # (B, M) in [0, 1]; 0 = no match
    drawn: bool = False  # whether it is such a drawing


@dataclass(frozen=True)
class Frame(Record):
    """One image: a photo of a data set or of a user, or a frame of a video."""

    rgb: Tensor  # (3, H, W) uint8
    K: Tensor  # (3, 3)
    depth: Tensor | None = None  # (H, W) m; 0 where it is unknown
    time: float | None = None  # s, since the start of a video
    scene_id: int = 0
    im_id: int = 0


@dataclass(frozen=True)
class Estimates(Record):
    """What is known about the objects in one frame, N rows; what no stage has found yet is None.

    Rows of one group are hypotheses about the same detection.
    """

    obj_id: Tensor  # (N,) long
    group: Tensor  # (N,) long, the detection
    score: Tensor  # (N,) of the detection
    box: Tensor  # (N, 4) px: left, top, right, bottom, the last two exclusive
    mask: tuple[Mask, ...]  # (N,)
    # (N, 4, 4) m, from the frame in which the run's things are drawn: that of a data set's models or, in
    # `PoseEstimator`, that of the mesh moved to its centre.
    cam_from_obj: Tensor | None = None
    size: Tensor | None = None  # (N, 3) m, for things that are categories
    track: Tensor | None = None  # (N,) long, the same from frame to frame
    support: Tensor | None = None  # (N,) of a pose, larger is better; comparable only within a group
    inlier_ratio: Tensor | None = None  # (N,) share of the correspondences' weight that agrees; 0: unsolved
    view: Tensor | None = None  # (N,) long, index of the object's view that the pose started from
    matches: Matches | None = None  # a few of those that the pose is based on, for pictures
    confidence: Tensor | None = None  # (N,) probability that the pose is right
    seconds: float = 0.0  # spent on detection

    @classmethod
    def of(
        cls,
        obj_id: Sequence[int],
        mask: Sequence[Mask],
        *,
        score: Tensor | None = None,
        box: Tensor | None = None,
        seconds: float = 0.0,
    ) -> Self:
        """Detections of objects: one group per row, the masks' boxes and scores of 1 unless given."""
        count = len(obj_id)
        if box is None:
            box = torch.stack([m.box for m in mask]) if mask else torch.zeros(0, 4, dtype=torch.long)
        score = torch.ones(count) if score is None else score
        obj_id = torch.tensor(obj_id, dtype=torch.long)
        return cls(obj_id, torch.arange(count), score, box, tuple(mask), seconds=seconds)

    def __len__(self) -> int:
        return len(self.obj_id)

    def __getitem__(self, index) -> Self:
        """The rows that a tensor of indices or booleans, a list of indices, or a slice selects."""
        rows = torch.arange(len(self), device=self.obj_id.device)[index]
        parts = {
            f.name: _map(getattr(self, f.name), lambda t: t[rows]) for f in fields(self) if f.name != "mask"
        }
        return type(self)(mask=tuple(self.mask[i] for i in rows.tolist()), **parts)

    @classmethod
    def cat(cls, records: Sequence[Self]) -> Self:
        """Joins rows, without renumbering their groups."""
        names = [f.name for f in fields(cls) if f.name not in ("mask", "seconds")]
        parts = {name: _join([getattr(r, name) for r in records], torch.cat) for name in names}
        mask = tuple(m for r in records for m in r.mask)
        return cls(mask=mask, seconds=max(r.seconds for r in records), **parts)

    def by_group(self) -> tuple[Self, Tensor]:
        """The first row of each group, and for every row (N,) the position of its group among them."""
        groups, owner = self.group.unique(return_inverse=True)
        rows = torch.arange(len(owner), device=owner.device)
        first = torch.full_like(groups, len(owner)).scatter_reduce(0, owner, rows, "amin")
        return self[first], owner

    @property
    def total_score(self) -> Tensor:
        """(N,) score of the detection times the confidence, or times the support where there is none."""
        belief = self.support if self.confidence is None else self.confidence
        return self.score if belief is None else self.score * belief
