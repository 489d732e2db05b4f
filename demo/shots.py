"""Reads what a user brings to find objects in: photos, their cameras, and places to look at.

The first step of the demo program and of its page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from datasets.places import Place, read_places
from rendering.mesh import diameter, read_mesh
from utils.cameras import camera_of_photo, camera_of_view, check_camera, pinhole, read_camera
from utils.crop import mask_boxes
from utils.errors import InputError
from utils.images import read_image
from utils.regions import box_mask, read_mask
from utils.units import apparent_distance, guess_unit

SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".bmp",
    ".webp",
    ".pgm",
    ".ppm",
    ".heic",
    ".heif",
    ".avif",
)


@dataclass(frozen=True)
class CameraHint:
    """What is known of a camera, at most one of these; if nothing is, the photo's EXIF data may tell."""

    file: str | None = None  # JSON, or fx,fy,cx,cy
    K: Sequence[str] | None = None  # fx, fy, cx, cy in px
    fov: float | None = None  # degrees, horizontal


@dataclass(frozen=True)
class PlaceHint:
    """What is known of where the objects are; nothing: they may be anywhere."""

    boxes: Sequence[Sequence[float]] = ()  # left, top, right, bottom in px
    masks: Sequence[Path] = ()
    detections: Path | None = None
    min_score: float = 0.0  # of detections that are used


@dataclass(frozen=True, eq=False)
class Shot:
    """A photo and what is known of it."""

    path: Path
    image: np.ndarray  # (H, W, 3) uint8
    K: np.ndarray  # (3, 3)
    places: list[Place] | None  # None: nothing is known


def find_photos(given: Sequence[Path]) -> list[Path]:
    """The files, and those in the folders, sorted by name."""
    photos: list[Path] = []
    for path in given:
        inside = (
            sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        )
        if not inside:
            raise InputError(f"--image {path}: no photo ({' '.join(SUFFIXES)}) in this folder")
        photos += inside
    if len({photo.stem for photo in photos}) < len(photos):
        raise InputError(
            "--image: two photos of the same name, so their results would have one too; rename one"
        )
    return photos


def read_shot(path: Path, camera: CameraHint, where: PlaceHint, names: Sequence[str]) -> Shot:
    """A photo in which objects of these names are looked for."""
    image = read_image(path, upright=True)
    height, width = image.shape[1:]
    places = [Place(read_mask(mask, height, width)) for mask in where.masks]
    places += [Place(box_mask(box, height, width)) for box in where.boxes]
    if where.detections:
        places += read_places(where.detections, path, (height, width), names, min_score=where.min_score)
    known = where.masks or where.boxes or where.detections
    K = camera_of(path, camera, width, height)
    return Shot(path, image.permute(1, 2, 0).numpy(), K.double().numpy(), places if known else None)


def camera_of(path: Path, hint: CameraHint, width: int, height: int) -> Tensor:
    """K (3, 3) as the hint or else the photo itself says."""
    if hint.file:
        K, where = read_camera(hint.file, width, height), f"--camera {hint.file}"
    elif hint.K:
        K, where = pinhole(hint.K, "--K"), f"--K {' '.join(hint.K)}"
    elif hint.fov is not None:
        K, where = camera_of_view(hint.fov, width, height), f"--fov {hint.fov:g}"
    else:
        K, where = camera_of_photo(path, width, height), f"EXIF of {path}"
    check_camera(K, width, height, where)
    return K


def unit_of(mesh: Path, name: str, shot: Shot) -> str:
    """The unit in which a mesh is of a likely size at the distance at which a photo shows it."""
    size = diameter(read_mesh(mesh).vertices)
    place = next((place.mask for place in shot.places or () if place.name in (None, name)), None)
    if place is None:
        return guess_unit(size)
    return guess_unit(size, apparent_distance(size, mask_boxes(place[None])[0].tolist(), shot.K))
