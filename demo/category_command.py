"""What `run_demo.py` does with a method of categories: photos, depth, masks and categories in, poses out."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from picopose.datasets.places import find_places
from picopose.datasets.videos import is_video
from picopose.demo.result_files import write
from picopose.demo.results import category_results_of
from picopose.demo.shots import CameraHint, DepthHint, PlaceHint, Shot, find_photos, read_shot
from picopose.pipeline.category_estimator import IDS, CategoryEstimator, CategoryPose
from picopose.utils.device import choose_device
from picopose.utils.errors import InputError

LOG = logging.getLogger(__name__)
OF_MESHES = ("mesh", "unit", "symmetry")  # options
SUFFIXES = {".png", ".tif", ".tiff", ".npy"}  # of depth images


def make_estimator(arguments: argparse.Namespace) -> CategoryEstimator:
    estimator = CategoryEstimator(
        arguments.checkpoint_path,
        config=arguments.config,
        device=choose_device(arguments.gpus),
        overrides=arguments.overrides,
    )
    estimator.stopwatch.running = arguments.profile
    return estimator


def run(arguments: argparse.Namespace) -> None:
    """Estimates poses and sizes in the photos and writes them, with the pictures."""
    check_options(arguments)
    photos = find_photos(arguments.image)
    depths = [DepthHint(path, arguments.depth_unit) for path in find_depths(arguments.depth, photos)]
    camera = CameraHint(arguments.camera, arguments.K, arguments.fov)
    where, names = find_objects(arguments, photos)
    estimator: CategoryEstimator | None = None
    for photo, depth in zip(photos, depths, strict=True):
        shot = read_shot(photo, camera, where, names, depth)
        estimator = estimator or make_estimator(arguments)  # once what is given can be read
        poses = estimate(estimator, shot)
        folder = arguments.out if len(photos) == 1 else arguments.out / photo.stem
        write(folder, category_results_of(estimator, shot, poses))
        for pose in poses:
            LOG.info("%s: %s", shot.name, pose)
    if arguments.profile:
        LOG.info("%s", estimator.stopwatch.table())


def check_options(arguments: argparse.Namespace) -> None:
    """An `InputError` for options that are of meshes, and for those that are missing."""
    for name in OF_MESHES:
        if getattr(arguments, name) is not None:
            raise InputError(f"--{name}: the method finds categories, without meshes; leave it out")
    if arguments.depth is None:
        raise InputError("--depth is missing: give the depth image of each photo")
    if arguments.places is None and arguments.detections is None:
        raise InputError("--mask is missing: give one of each object, or --detections")
    if arguments.places is not None and arguments.detections is not None:
        raise InputError("--detections and masks or boxes: give one of them")
    if arguments.category is None and arguments.detections is None:
        raise InputError(f"--category is missing: give {', '.join(IDS)} for each mask, or one for all")
    if unknown := set(arguments.category or ()) - set(IDS):
        raise InputError(f"--category {unknown.pop()}: give one of {', '.join(IDS)}")


def find_depths(given: Sequence[Path], photos: Sequence[Path]) -> list[Path]:
    """The depth image of each photo: the files, and those in the folders by name, in the photos' order."""
    if video := next(filter(is_video, photos), None):
        raise InputError(f"--image {video}: videos come without depth; give their frames as photos")
    found: list[Path] = []
    for path in given:
        found += (
            sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if path.is_dir()
            else [path]
        )
    if len(found) != len(photos):
        raise InputError(f"--depth: {len(found)} images for {len(photos)} photos; give one for each")
    return found


def find_objects(arguments: argparse.Namespace, photos: Sequence[Path]) -> tuple[PlaceHint, list[str]]:
    """Where the objects are, and the category of each place that is the same in all photos."""
    categories = arguments.category
    if arguments.detections is not None:
        ids = {number: name for name, number in IDS.items() if name in (categories or IDS)}
        found = find_places(
            arguments.detections, photos, list(ids.values()), min_score=arguments.min_score, ids=ids
        )
        if any(marked.name is None for places in found.values() for marked in places):
            raise InputError(
                f"--detections {arguments.detections}: some are of no category; give each its name"
            )
        return PlaceHint(detections=found), []
    count = len(arguments.places)
    if len(categories) not in (1, count):
        given = f"--category {' '.join(categories)}: {len(categories)} given for {count} masks"
        raise InputError(f"{given}; give one for each, or one for all")
    return PlaceHint(arguments.places), categories * (count if len(categories) == 1 else 1)


def estimate(estimator: CategoryEstimator, shot: Shot) -> list[CategoryPose]:
    """The pose and size at each place."""
    masks, names = [place.mask for place in shot.places], [place.name for place in shot.places]
    given = {"masks": masks, "categories": names, "depth_unit": "m", "cropped": shot.cropped}
    return estimator.estimate(shot.image, shot.depth, shot.K, **given)
