"""The classes of LINEMOD by name, or those of a set of the same layout that lists its own.

A set's own list is `classes.json`: [{"name": "mug", "id": 1, "diameter": 0.12, "symmetric": false}, ...] with
the diameter in m.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picopose.utils.errors import InputError
from picopose.utils.reading import finite_number, integer, read_json

LISTING = "classes.json"
_FOLDERS_UP = 4  # from a file of a set to the set's root
_OTHER_NAMES = {"cam": "camera"}  # PVNet's
_REMEDY = "correct the file"


@dataclass(frozen=True)
class ObjectClass:
    """One object."""

    name: str
    obj_id: int
    diameter: float  # m
    symmetric: bool = False  # judged by ADD-S


_LINEMOD = (
    ObjectClass("ape", 1, 0.0974298),
    ObjectClass("benchvise", 2, 0.286908),
    ObjectClass("camera", 4, 0.171593),
    ObjectClass("can", 5, 0.193416),
    ObjectClass("cat", 6, 0.152633),
    ObjectClass("driller", 8, 0.259425),
    ObjectClass("duck", 9, 0.107131),
    ObjectClass("eggbox", 10, 0.176364, symmetric=True),
    ObjectClass("glue", 11, 0.164857, symmetric=True),
    ObjectClass("holepuncher", 12, 0.148204),
    ObjectClass("iron", 13, 0.303153),
    ObjectClass("lamp", 14, 0.285155),
    ObjectClass("phone", 15, 0.208394),
)


def read_classes(near: Path) -> dict[str, ObjectClass]:
    """The classes of the set that a file or folder belongs to, by name: its own list's, or LINEMOD's."""
    folders = [near, *near.absolute().parents[:_FOLDERS_UP]]
    listing = next((folder / LISTING for folder in folders if (folder / LISTING).is_file()), None)
    if listing is None:
        return {known.name: known for known in _LINEMOD}
    entries = read_json(listing)
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{listing} is no list of classes: {_REMEDY}")
    classes = [_class(entry, f"{listing}: class {index}") for index, entry in enumerate(entries)]
    for key in ("name", "obj_id"):
        if len({getattr(known, key) for known in classes}) < len(classes):
            raise InputError(f"{listing} lists a {key} twice: {_REMEDY}")
    return {known.name: known for known in classes}


def _class(entry: Any, where: str) -> ObjectClass:
    if not isinstance(entry, dict) or not {"name", "id", "diameter"} <= entry.keys():
        raise InputError(f"{where} needs name, id and diameter: {_REMEDY}")
    name, symmetric = entry["name"], entry.get("symmetric", False)
    if not isinstance(name, str) or not name.isidentifier():
        raise InputError(
            f"{where}: the name {name!r} is no word of letters, digits and underscores: {_REMEDY}"
        )
    if not isinstance(symmetric, bool):
        raise InputError(f"{where}: symmetric must be true or false: {_REMEDY}")
    diameter = finite_number(entry["diameter"], f"{where}: diameter")
    if not 0.001 <= diameter <= 10:
        raise InputError(f"{where}: a diameter of {diameter:g} m is impossible: give metres")
    return ObjectClass(name, integer(entry["id"], f"{where}: id"), diameter, symmetric)


def linemod_name(obj_id: int) -> str | None:
    """What LINEMOD calls an object of an id; None where it has none."""
    return next((known.name for known in _LINEMOD if known.obj_id == obj_id), None)


def canonical(name: str) -> str:
    """The name that the tables have of a class, whoever's name is given."""
    return _OTHER_NAMES.get(name, name)


def find_class(classes: dict[str, ObjectClass], name: str) -> ObjectClass:
    """The class of a name, or an `InputError` that lists those there are."""
    if canonical(name) not in classes:
        raise InputError(f"no class {name!r} in the set: choose one of {', '.join(classes)}")
    return classes[canonical(name)]


def names_of(name: str) -> list[str]:
    """All names that a class goes by, its usual one first."""
    return [name, *(other for other, usual in _OTHER_NAMES.items() if usual == name)]


def find_folder(parent: Path, name: str) -> Path:
    """A class's folder, under whichever of its names it is there; under its usual one if under none."""
    return next((parent / known for known in names_of(name) if (parent / known).is_dir()), parent / name)
