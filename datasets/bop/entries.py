"""Cameras and annotated objects as BOP's tables have them, in test sets and in MegaPose's shards."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from picopose.datasets.bop import MM
from picopose.datasets.cameras.matrices import exact_camera_matrix
from picopose.utils.errors import InputError
from picopose.utils.reading import finite_matrix, finite_number, integer, is_rotation

_NEAREST_MM, _FARTHEST_MM = 10.0, 1e6  # of an object
_REMEDY = "download the annotations again"


@dataclass(frozen=True, eq=False)
class Instance:
    """One annotated object of an image."""

    obj_id: int
    cam_from_obj: np.ndarray  # (3, 4) float64, m
    visibility: float  # visible share of the silhouette


def K_of(value: Any, where: str) -> np.ndarray:
    """(3, 3) float64 of a `cam_K`, as exact as the file spells it; `where` begins the `InputError`."""
    return exact_camera_matrix(finite_matrix(value, 3, 3, where), where).numpy()


def depth_scale_of(value: Any, where: str) -> float:
    """Metres per count of a depth image, which the file has in mm."""
    scale = finite_number(value, where)
    if not scale > 0:
        raise InputError(f"{where} {scale:g} must be positive: correct the file")
    return MM * scale


def visibility_of(info: dict, where: str) -> float:
    """Visible share of an object's silhouette, by its entry of `gt_info`."""
    visibility = finite_number(_needed(info, "visib_fract", where), f"{where}: visib_fract")
    if not 0 <= visibility <= 1:
        raise InputError(f"{where}: visib_fract {visibility:g} is no share from 0 to 1: {_REMEDY}")
    return visibility


def instance_of(truth: dict, info: dict, where: str) -> Instance:
    """The object of an entry of `gt` and of `gt_info`; an `InputError` for a pose that cannot be."""
    obj_id, rotation, translation = (
        _needed(truth, key, where) for key in ("obj_id", "cam_R_m2c", "cam_t_m2c")
    )
    rotation = np.array(finite_matrix(rotation, 3, 3, f"{where}: cam_R_m2c")).reshape(3, 3)
    translation = np.array(finite_matrix(translation, 3, 1, f"{where}: cam_t_m2c"))
    if not is_rotation(rotation):
        raise InputError(f"{where}: cam_R_m2c is no rotation: {_REMEDY}")
    distance = float(np.linalg.norm(translation))
    if not _NEAREST_MM <= distance <= _FARTHEST_MM:
        raise InputError(
            f"{where}: cam_t_m2c is {distance:g} mm long: metres where mm are expected? Correct it"
        )
    pose = np.column_stack([rotation, MM * translation])
    return Instance(integer(obj_id, f"{where}: obj_id"), pose, visibility_of(info, where))


def _needed(entry: dict, key: str, where: str) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise InputError(f"{where} has no {key}: {_REMEDY}")
    return entry[key]
