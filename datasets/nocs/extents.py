"""Reads the extents of objects' models in canonical coordinates, in which a box's diagonal is 1."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from picopose.datasets.nocs.frames import ListedObject
from picopose.datasets.nocs.layout import FrameFiles
from picopose.utils.errors import InputError

_REMEDY = "download obj_models again"
_SCANS = "obj_models/real_val"  # whose models are .npz files


def read_extents(files: FrameFiles, known: ListedObject) -> np.ndarray:
    """(3,) float64 of an object's box.

    A scanned model's are scaled to a diagonal of 1; a model of ShapeNet has two opposite corners. Raises an
    `InputError` for a file that is missing or damaged.
    """
    models = files.root / files.split.models
    if known.synset is not None:
        path = models / known.synset / known.model / "bbox.txt"
        corners = _numbers(path, 6).reshape(2, 3)
        return _checked(corners[0] - corners[1], path)
    if known.model.endswith("npz"):
        path = files.root / _SCANS / known.model
        return _checked(_scale(path), path)
    path = models / f"{known.model}.txt"
    extents = _checked(_numbers(path, 3), path)
    return extents / np.linalg.norm(extents)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {_REMEDY}") from None


def _numbers(path: Path, count: int) -> np.ndarray:
    try:
        numbers = np.array([float(word) for word in _bytes(path).decode("ascii").split()])
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path} holds no numbers ({error}): {_REMEDY}") from None
    if len(numbers) != count:
        raise InputError(f"{path} holds {len(numbers)} numbers, not {count}: {_REMEDY}")
    return numbers


def _scale(path: Path) -> np.ndarray:
    content = io.BytesIO(_bytes(path))
    try:
        with np.load(content, allow_pickle=False) as arrays:
            return np.asarray(arrays["scale"], dtype=np.float64)
    except Exception as error:  # NumPy's and zip's readers raise all kinds of errors on damaged data
        raise InputError(f"{path} holds no scale ({error}): {_REMEDY}") from None


def _checked(extents: np.ndarray, path: Path) -> np.ndarray:
    if extents.shape != (3,) or not np.isfinite(extents).all() or not (extents > 0).all():
        raise InputError(f"{path} holds no three extents above 0: {_REMEDY}")
    return extents
