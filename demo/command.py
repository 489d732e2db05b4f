"""What `run_demo.py` does: meshes, photos, boxes or masks in, poses and pictures out."""

import argparse
import glob
import itertools
import logging
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from picopose.datasets.places import Marked, find_places
from picopose.datasets.videos import is_video
from picopose.demo import category_command
from picopose.demo.follow import follow
from picopose.demo.footage import open_footage
from picopose.demo.result_files import remove_results, write
from picopose.demo.results import results_of
from picopose.demo.shots import (
    CameraHint,
    PlaceHint,
    Shot,
    camera_of,
    find_photos,
    make_shot,
    read_shots,
    unit_of,
)
from picopose.model.methods import of_categories
from picopose.model.prepared_files import features_dir
from picopose.pipeline.category_estimator import CategoryEstimator
from picopose.pipeline.estimator import DEFAULT_CONFIG, ObjectPose, PoseEstimator
from picopose.utils.config_files import load_config
from picopose.utils.device import choose_device
from picopose.utils.errors import InputError
from picopose.utils.files import make_folder, remove_leftovers

LOG = logging.getLogger(__name__)


def serve(arguments: argparse.Namespace) -> None:
    """Shows the page until the program is interrupted."""
    from picopose.demo.server import make_page  # what else the program does needs no server

    with make_page(make_estimator(arguments), arguments.host, arguments.port) as server:
        everywhere = arguments.host in ("0.0.0.0", "::")
        host = socket.gethostname() if everywhere else arguments.host
        address = f"[{host}]" if ":" in host else host
        LOG.info("open http://%s:%d (Ctrl+C ends it)", address, server.port)
        server.serve_forever()


def run(arguments: argparse.Namespace) -> None:
    """Estimates the poses in the photos and writes them, with the pictures."""
    make_folder(arguments.out, "--out ")  # now, not after the work is done
    remove_leftovers(arguments.out)
    if finds_categories(arguments):
        if arguments.video is not None:
            raise InputError("--video: only objects with a mesh are followed; give photos by --image")
        category_command.run(arguments)
    else:
        find_objects(arguments)


def finds_categories(arguments: argparse.Namespace) -> bool:
    """Whether the method finds objects of categories, and not those that meshes are given of."""
    return of_categories(load_config(arguments.config or DEFAULT_CONFIG, arguments.overrides))


def find_objects(arguments: argparse.Namespace) -> None:
    """As `run`, with meshes."""
    for option in ("depth", "category"):
        if getattr(arguments, option) is not None:
            raise InputError(
                f"--{option}: the method finds objects by their meshes; pass --model dualposenet"
            )
    if not arguments.mesh:
        raise InputError("--mesh is missing: give one of each object")
    if arguments.video is not None:
        follow_objects(arguments)
        return
    names, photos = object_names(arguments.mesh), find_photos(arguments.image)
    camera, where = hints(arguments, photos, names)
    shots = (shot for path in photos for shot in read_shots(path, camera, where, names))
    first = next(shots)
    estimator = make_object_estimator(arguments)
    add_objects(estimator, arguments, names, first)
    written: set[Path] = set()
    alone = len(photos) == 1 and not is_video(photos[0])
    last: list[ObjectPose] = []  # of each object in the photo that showed it last
    for shot in itertools.chain([first], shots):
        poses = estimate(estimator, shot, last)
        seen = {pose.name for pose in poses}
        last = [pose for pose in last if pose.name not in seen] + poses
        folder = arguments.out if alone else arguments.out / Path(shot.name).stem
        write(folder, results_of(estimator, shot, poses))
        for pose in poses:
            LOG.info("%s: %s", shot.name, pose)
        written.add(folder)
    for video in filter(is_video, photos):  # of an earlier one that was longer
        for folder in set(arguments.out.glob(f"{glob.escape(video.stem)}_{6 * '[0-9]'}")) - written:
            remove_results(folder)
    if arguments.profile:
        LOG.info("%s", estimator.stopwatch.table())


def follow_objects(arguments: argparse.Namespace) -> None:
    """As `run`, through a video."""
    names, footage = object_names(arguments.mesh), open_footage(arguments.video)
    camera, where = hints(arguments, [footage.path], names)
    begin, image = next(footage.frames, (0.0, None))
    if image is None:
        raise InputError(f"--video {arguments.video}: there is no frame; check the camera or the stream")
    first = make_shot(footage.path.name, footage.path, image, camera, where, names)
    lens = camera_of(footage.path, camera, *image.shape[1::-1]).lens
    estimator = make_object_estimator(arguments)
    add_objects(estimator, arguments, names, first)
    frames = ((seconds - begin, image) for seconds, image in footage.frames)
    follow(estimator, replace(footage, frames=frames), first, lens, arguments.out)
    if arguments.profile:
        LOG.info("%s", estimator.stopwatch.table())


def hints(
    arguments: argparse.Namespace, photos: Sequence[Path], names: Sequence[str]
) -> tuple[CameraHint, PlaceHint]:
    """What is known of the camera and of where the objects are."""
    camera = CameraHint(arguments.camera, arguments.K, arguments.fov)
    return camera, PlaceHint(arguments.places or (), detections_of(arguments, photos, names))


def add_objects(
    estimator: PoseEstimator, arguments: argparse.Namespace, names: Sequence[str], first: Shot
) -> None:
    """Prepares the meshes; `first` tells their units where nothing else does."""
    units = one_for_each("--unit", arguments.unit, arguments.mesh)
    symmetries = one_for_each("--symmetry", arguments.symmetry, arguments.mesh)
    for name, mesh, unit, symmetry in zip(names, arguments.mesh, units, symmetries, strict=True):
        unit = unit_of(mesh, name, first) if unit in (None, "auto") else unit
        estimator.add_object(mesh, name=name, unit=unit, symmetry=symmetry, progress=show_progress)


def detections_of(
    arguments: argparse.Namespace, photos: Sequence[Path], names: Sequence[str]
) -> dict[Path, list[Marked]] | None:
    """The detections in each photo; None if no file of them is given."""
    if arguments.detections is None:
        return None
    return find_places(arguments.detections, photos, names, min_score=arguments.min_score)


def one_for_each(option: str, values: Sequence[str] | None, meshes: Sequence[Path]) -> list[str | None]:
    """One value for each mesh: None if there are no values; raises an `InputError` for another number."""
    if values is not None and len(values) != len(meshes):
        raise InputError(
            f"{option} {' '.join(values)}: {len(values)} given for {len(meshes)} meshes; give one for each"
        )
    return list(values) if values is not None else [None] * len(meshes)


def make_estimator(arguments: argparse.Namespace) -> PoseEstimator | CategoryEstimator:
    """That of the method, whatever it finds."""
    if finds_categories(arguments):
        return category_command.make_estimator(arguments)
    return make_object_estimator(arguments)


def make_object_estimator(arguments: argparse.Namespace) -> PoseEstimator:
    estimator = PoseEstimator(
        arguments.checkpoint_path,
        config=arguments.config,
        device=choose_device(arguments.gpus),
        overrides=arguments.overrides,
    )
    remove_leftovers(features_dir(estimator.config))
    estimator.stopwatch.running = arguments.profile
    return estimator


def object_names(meshes: Sequence[Path]) -> list[str]:
    """The files' names, with their folders' if two are alike."""
    names = [mesh.stem for mesh in meshes]
    if len(set(names)) < len(names):
        names = [f"{mesh.resolve().parent.name}/{mesh.stem}" for mesh in meshes]
    if len(set(names)) < len(names):
        raise InputError(f"--mesh {' '.join(map(str, meshes))}: one is given twice; name each once")
    return names


def show_progress(done: int, total: int) -> None:
    if done == total or done % 40 == 0:
        LOG.info("%d of %d views", done, total)


def estimate(estimator: PoseEstimator, shot: Shot, last: Sequence[ObjectPose]) -> list[ObjectPose]:
    """The pose at each place: of its object, or of the one that fits best where it may be any."""
    given = {"last": last, "cropped": shot.cropped}
    if shot.places is None:
        return estimator.estimate(shot.image, shot.K, **given)
    masks, names = [place.mask for place in shot.places], [place.name for place in shot.places]
    return estimator.estimate(shot.image, shot.K, masks=masks, objects=names, **given)
