"""The set's objects in NOCS's frame: y up, handles towards +x, fronts towards +z, boxes centred.

An object is a function of the seed, its split and its number; those of one split are not in the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from picopose.datasets.nocs.layout import CLASSES
from picopose.datasets.training.streams import stream
from picopose.rendering.mesh import Mesh
from picopose.rendering.procedural.painting import paint
from picopose.utils.files import write_atomically
from tools.category_set.families import FAMILIES, Painted

SYNSETS = ("02876657", "02880940", "02942699", "02946921", "03642806", "03797390")  # of `CLASSES`
COUNTS = {"train": 60, "val": 20}  # objects of each category

_TO_NOCS = (-90, 0, 0)  # degrees about x, y and z: from z up


@dataclass(frozen=True, eq=False)
class CategoryObject:
    """An object of a category, about the centre of its box."""

    class_id: int  # 1 to 6
    name: str
    body: Mesh  # m
    handle: Mesh | None  # of a mug

    @property
    def parts(self) -> list[Mesh]:
        return [self.body] if self.handle is None else [self.body, self.handle]

    @cached_property
    def size(self) -> np.ndarray:
        """(3,) m, sides of the box."""
        return np.ptp(np.concatenate([part.vertices for part in self.parts]).astype(np.float64), axis=0)

    @property
    def diagonal(self) -> float:
        return float(np.linalg.norm(self.size))


def make_object(seed: int, split: str, class_id: int, number: int) -> CategoryObject:
    """Object `number` of a category in `train` or `val`."""
    category = CLASSES[class_id - 1]
    shape = FAMILIES[class_id - 1](stream(f"category {category} {split}", seed, number))
    parts = [
        [(solid.moved(turn=_TO_NOCS), look) for solid, look in part] for part in (shape.body, shape.handle)
    ]
    corners = np.concatenate([solid.corners.reshape(-1, 3) for part in parts for solid, _ in part])
    centre = (corners.min(axis=0) + corners.max(axis=0)) / 2
    body, handle = (_mesh(part, centre) for part in parts)
    return CategoryObject(class_id, f"{category}_{number:03d}", body, handle)


def _mesh(parts: list[Painted], centre: np.ndarray) -> Mesh | None:
    return paint([(solid.moved(-centre), look) for solid, look in parts]) if parts else None


def write_model(shown: CategoryObject, models: Path) -> None:
    """An object's box and form in canonical coordinates, in which the box's diagonal is 1."""
    folder = models / SYNSETS[shown.class_id - 1] / shown.name
    box = folder / "bbox.txt"
    if box.is_file():
        return
    with write_atomically(folder / "model.obj") as path:
        path.write_text(_obj(shown), encoding="ascii")
    half = shown.size / shown.diagonal / 2
    with write_atomically(box) as path:
        path.write_text("".join("{:.9g} {:.9g} {:.9g}\n".format(*corner) for corner in (half, -half)))


def _obj(shown: CategoryObject) -> str:
    lines, count = [], 0
    for part in shown.parts:
        places, index = np.unique(part.vertices, axis=0, return_inverse=True)
        lines += ["v {:.4f} {:.4f} {:.4f}".format(*place) for place in places / shown.diagonal]
        lines += ["f {} {} {}".format(*face) for face in index.ravel()[part.faces] + count + 1]
        count += len(places)
    return "\n".join(lines) + "\n"
