"""Reads the user's meshes as objects of a data set: centred, in metres, with at most one texture."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from picopose.datasets.bop.objects import read_symmetry
from picopose.rendering.mesh import diameter, read_mesh, to_metres
from picopose.rendering.one_texture import with_one_texture
from picopose.rendering.units import guess_unit
from picopose.utils.errors import InputError
from picopose.utils.mesh_file import MESH_SUFFIXES
from picopose.utils.symmetry import Symmetry
from tools.mini_set.objects import NamedObject

LARGEST = 0.5  # m, of objects that fit on the table


def read_objects(paths: Sequence[Path], unit: str = "auto") -> list[NamedObject]:
    """The objects in mesh files and folders, sorted by name.

    unit: of `rendering.units.UNITS`, or "auto", which guesses it from each mesh's size. Symmetries are read
    from a `models_info.json` beside a mesh.

    Raises:
        InputError: a path without meshes, two meshes of one name, or a mesh that cannot be used.
    """
    files: dict[str, Path] = {}
    for path in (file for given in paths for file in _files(given)):
        if path.stem in files:
            raise InputError(
                f"--meshes: {path} and {files[path.stem]} have the same name: rename one of them"
            )
        files[path.stem] = path
    return [_read(files[name], unit) for name in sorted(files)]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in MESH_SUFFIXES)
    if not found:
        raise InputError(f"--meshes {path}: no mesh ({' '.join(MESH_SUFFIXES)}) in this folder; pass another")
    return found


def _read(path: Path, unit: str) -> NamedObject:
    mesh = read_mesh(path)
    mesh = to_metres(mesh, guess_unit(diameter(mesh.vertices)) if unit == "auto" else unit, where=str(path))
    size = diameter(mesh.vertices)
    if size > LARGEST:
        raise InputError(
            f"{path} is {size:.2g} m across: the scenes are tables; up to {LARGEST:g} m fit, or pass --unit"
        )
    mesh = with_one_texture(mesh, str(path))
    symmetry = read_symmetry(path)
    centre = _centre(mesh.vertices.astype(np.float64), symmetry)
    mesh = replace(mesh, vertices=(mesh.vertices - centre).astype(np.float32))
    if symmetry is None:
        return NamedObject(path.stem, mesh, (), ())
    axes = tuple(tuple(map(float, axis)) for axis, _ in symmetry.axes)
    return NamedObject(path.stem, mesh, tuple(_moved(motion, centre) for motion in symmetry.discrete), axes)


def _centre(vertices: np.ndarray, symmetry: Symmetry | None) -> np.ndarray:
    """(3,): the centre of the box about the vertices (V, 3), moved onto the axes of symmetry."""
    centre = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    for axis, point in symmetry.axes if symmetry else ():
        centre = point + axis * ((centre - point) @ axis)
    return centre


def _moved(motion: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """A motion (4, 4) of the object, relative to the new origin `centre` (3,)."""
    moved = motion.copy()
    moved[:3, 3] += motion[:3, :3] @ centre - centre
    return moved
