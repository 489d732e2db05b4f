"""Reads what a user brings to find objects in: photos, their cameras and depth, and places to look at.

The first step of the demo program and of its page.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from picopose.datasets.cameras.files import read_camera
from picopose.datasets.cameras.lens import UNDISTORT, Lens
from picopose.datasets.cameras.matrices import camera_of_photo, camera_of_view, check_camera, pinhole
from picopose.datasets.cameras.tables import Camera
from picopose.datasets.depth_images import read_depth_image
from picopose.datasets.images import read_image
from picopose.datasets.masks.regions import box_mask, read_mask
from picopose.datasets.places import Marked, Place
from picopose.datasets.videos import is_video, read_video
from picopose.rendering.mesh import diameter, read_mesh
from picopose.rendering.units import apparent_distance, guess_unit
from picopose.utils.errors import InputError
from picopose.utils.masks import cut_out
from picopose.utils.records import Mask

LOG = logging.getLogger(__name__)
SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".pgm", ".ppm"}  # of photos
SUFFIXES |= {".heic", ".heif", ".avif"}


@dataclass(frozen=True)
class CameraHint:
    """What is known of a camera, at most one of these; if nothing is, the photo's EXIF data may tell."""

    file: str | None = None  # of any kind of `datasets.cameras.files`, or fx,fy,cx,cy
    K: Sequence[str] | None = None  # fx, fy, cx, cy in px
    fov: float | None = None  # degrees, horizontal


@dataclass(frozen=True)
class DepthHint:
    """The depth image of a photo, see `datasets.depth_images`."""

    file: Path
    unit: str = "auto"


@dataclass(frozen=True)
class PlaceHint:
    """What is known of where the objects are; nothing: they may be anywhere."""

    given: Sequence[Sequence[float] | Path] = ()  # boxes (left, top, right, bottom in px) and images of masks
    detections: Mapping[Path, Sequence[Marked]] | None = None  # by photo, see `find_places`


@dataclass(frozen=True, eq=False)
class Shot:
    """A photo and what is known of it."""

    name: str  # of the file, photo.jpg, or of the frame of a video, clip_000012
    image: np.ndarray  # (H, W, 3) uint8
    K: np.ndarray  # (3, 3)
    places: list[Place] | None  # None: nothing is known
    cropped: bool = False  # it may be cut out of a larger one: its camera file states its size
    depth: np.ndarray | None = None  # (H, W) float32 m; 0 where it is not known


def find_photos(given: Sequence[Path]) -> list[Path]:
    """The files, and those in the folders, sorted by name."""
    photos: list[Path] = []
    for path in given:
        inside = [path]
        if path.is_dir():
            inside = [
                file for file in sorted(path.iterdir()) if file.suffix.lower() in SUFFIXES or is_video(file)
            ]
        if not inside:
            raise InputError(f"--image {path}: no photo ({' '.join(sorted(SUFFIXES))}) in this folder")
        photos += inside
    if len({photo.stem for photo in photos}) < len(photos):
        raise InputError(
            "--image: two photos of the same name, so their results would have one too; rename one"
        )
    return photos


def read_shots(path: Path, camera: CameraHint, where: PlaceHint, names: Sequence[str]) -> Iterator[Shot]:
    """A photo, or each frame of a video with the same places in all; the objects have these names."""
    if is_video(path):
        for number, image in enumerate(read_video(path)):
            yield make_shot(f"{path.stem}_{number:06d}", path, image, camera, where, names)
    else:
        yield read_shot(path, camera, where, names)


def read_shot(
    path: Path,
    camera: CameraHint,
    where: PlaceHint,
    names: Sequence[str],
    depth: DepthHint | None = None,
) -> Shot:
    """A photo, with its depth if there is an image of it, in which objects of these names are looked for."""
    image = read_image(path, upright=True).permute(1, 2, 0).numpy()
    distances = None if depth is None else read_depth_image(depth.file, *image.shape[:2], depth.unit)
    return make_shot(path.name, path, image, camera, where, names, distances)


def make_shot(
    name: str,
    path: Path,
    image: np.ndarray,
    camera: CameraHint,
    where: PlaceHint,
    names: Sequence[str],
    depth: np.ndarray | None = None,
) -> Shot:
    """The shot of an image (H, W, 3) uint8 of a file, undistorted if the camera file says how.

    So is the depth (H, W) m, 0 where it is not known.
    """
    height, width = image.shape[:2]
    # As many boxes as meshes belong together in their order.
    paired = (
        names if len(where.given) == len(names) and where.detections is None else [None] * len(where.given)
    )
    places = [
        Place(read_mask(one, height, width) if isinstance(one, Path) else box_mask(one, height, width), name)
        for one, name in zip(where.given, paired, strict=True)
    ]
    if where.detections is not None:
        places += [marked.place((height, width)) for marked in where.detections[path]]
    known = where.given or where.detections is not None
    found = camera_of(path, camera, width, height)
    pixels, K = image, found.K.double().numpy()
    if found.lens is not None:
        LOG.warning(
            "%s is undistorted by the lens %s of %s, boxes and masks with it: poses and pictures are of that",
            *(path, found.lens, camera.file),
        )
        places = [replace(place, mask=straight_mask(place.mask, found.lens, K, pixels)) for place in places]
        pixels = found.lens.straighten(np.ascontiguousarray(pixels), K)
        depth = depth if depth is None else found.lens.straighten_unmixed(depth, K)
    return Shot(name, pixels, K, places if known else None, cropped=found.states_size, depth=depth)


def straight_mask(mask: Mask, lens: Lens, K: np.ndarray, photo: np.ndarray) -> Mask:
    """A mask of a photo (H, W, 3) with camera K (3, 3), of the photo without the lens's distortion."""
    height, width = photo.shape[:2]
    nothing = InputError(f"{lens.where}: nothing is left of a mask without its distortion: {UNDISTORT}")
    if mask.is_box:
        box = lens.straight_box(mask.box.tolist(), K)
        try:
            return box_mask(box, height, width)
        except InputError:
            raise nothing from None
    bent = mask.window(0, 0, width, height).numpy() * np.uint8(255)
    straight = cut_out(torch.from_numpy(lens.straighten(bent, K) > 127))
    if not straight.box.any():
        raise nothing
    return straight


def camera_of(path: Path, hint: CameraHint, width: int, height: int) -> Camera:
    """The camera as the hint or else the photo itself says."""
    if hint.file:
        camera, where = read_camera(hint.file, path, width, height), f"camera {hint.file}"
    elif hint.K:
        camera, where = Camera(pinhole(hint.K, "K")), f"K {' '.join(hint.K)}"
    elif hint.fov is not None:
        camera, where = Camera(camera_of_view(hint.fov, width, height)), f"field of view {hint.fov:g}"
    else:
        camera, where = Camera(camera_of_photo(path, width, height)), f"EXIF of {path}"
    check_camera(camera.K, width, height, where, cropped=camera.states_size)
    if camera.lens is not None:
        camera.lens.check(camera.K.double().numpy(), width, height)
    return camera


def unit_of(mesh: Path, name: str, shot: Shot) -> str:
    """The unit in which a mesh is of a likely size at the distance at which a photo shows it."""
    size = diameter(read_mesh(mesh).vertices)
    place = next((place.mask for place in shot.places or () if place.name in (None, name)), None)
    if place is None:
        return guess_unit(size)
    return guess_unit(size, apparent_distance(size, place.box.tolist(), shot.K))
