"""Finds objects of your own in photos of your own: meshes, photos, boxes or masks -> poses and pictures.

python run_demo.py --mesh mug.ply --image photo.jpg --camera camera.json --box 384 234 522 455 --out output
"""

import argparse
import itertools
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from datasets.places import Place, read_places
from model.estimator import SMALL_WEIGHTS, ObjectPose, PoseEstimator
from rendering.mesh import diameter, read_mesh
from rendering.overlay import draw_matches, draw_pose
from rendering.renderer import Renderer
from rendering.scene import scene_file
from utils.cameras import camera_of_photo, camera_of_view, check_camera, pinhole, read_camera
from utils.crop import mask_boxes
from utils.device import choose_device
from utils.errors import InputError, exits_cleanly
from utils.files import write_atomically
from utils.images import read_image
from utils.regions import box_mask, read_mask
from utils.units import apparent_distance, guess_unit

LOG = logging.getLogger("run_demo")
PHOTOS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


@dataclass(frozen=True, eq=False)
class Shot:
    """A photo and what is known of it."""

    path: Path
    image: np.ndarray  # (H, W, 3) uint8
    K: np.ndarray  # (3, 3)
    places: list[Place] | None  # None: nothing is known


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mesh", required=True, type=Path, nargs="+", help="PLY, OBJ, GLB or STL files")
    parser.add_argument(
        "--image", required=True, type=Path, nargs="+", help="photos, or folders of them, in this order"
    )
    camera = parser.add_mutually_exclusive_group()
    camera.add_argument("--camera", help="JSON file with cam_K, K or fx, fy, cx, cy; or fx,fy,cx,cy in px")
    camera.add_argument("--K", nargs=4, metavar=("FX", "FY", "CX", "CY"), help="px")
    camera.add_argument("--fov", type=float, metavar="DEG", help="width of the photo as an angle")
    box = ("LEFT", "TOP", "RIGHT", "BOTTOM")
    places = parser.add_argument_group("where the objects are; everywhere in the photo if nothing is given")
    places.add_argument(
        "--box", nargs=4, type=float, action="append", metavar=box, help="px; once for each instance"
    )
    places.add_argument(
        "--mask", type=Path, action="append", help="image, not 0 on the object; once for each instance"
    )
    places.add_argument("--detections", type=Path, metavar="JSON", help="list as BOP, COCO or MegaPose have")
    places.add_argument("--min_score", type=float, default=0.0, help="of detections that are used")
    parser.add_argument("--unit", choices=["auto", "m", "cm", "mm"], default="auto", help="of the meshes")
    parser.add_argument(
        "--symmetry", help="such as z (turns freely), z4 (quarter turns); or models_info.json beside the mesh"
    )
    parser.add_argument(
        "--checkpoint_path", type=Path, help="weights; by default the small network's in data/weights"
    )
    parser.add_argument(
        "--config", help="by default the one that the weights were trained with, or base.yaml"
    )
    parser.add_argument("--gpus", help="index of the GPU, or cpu")
    parser.add_argument("--out", type=Path, default=Path("output"), help="folder for poses and pictures")
    parser.add_argument("--profile", action="store_true", help="tell the seconds that each phase takes")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="entries of the config")
    return parser.parse_intermixed_args()


@exits_cleanly
def main() -> None:
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    make_folder(arguments.out)
    names, photos = object_names(arguments.mesh), find_photos(arguments.image)
    shots = (read_shot(path, arguments, names) for path in photos)
    first = next(shots)
    estimator = make_estimator(arguments)
    for name, mesh in zip(names, arguments.mesh, strict=True):
        unit = unit_of(mesh, name, first) if arguments.unit == "auto" else arguments.unit
        estimator.add_object(mesh, name=name, unit=unit, symmetry=arguments.symmetry, progress=show_progress)
    poses: list[ObjectPose] = []
    found = 0
    with Renderer() as renderer:
        for shot in itertools.chain([first], shots):
            poses = estimate(estimator, shot, last=poses)
            folder = arguments.out / shot.path.stem if len(photos) > 1 else arguments.out
            write(folder, renderer, estimator, shot, poses)
            found += len(poses)
    if not found:
        raise InputError(
            f"--detections {arguments.detections}: none in these photos of {', '.join(names)}; pass --box"
        )
    if arguments.profile:
        LOG.info("%s", estimator.stopwatch.table())


def make_folder(folder: Path) -> None:
    """Makes the folder of the results now, not after the work is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {folder}: cannot be made ({error.strerror}); name another folder") from None


def make_estimator(arguments: argparse.Namespace) -> PoseEstimator:
    """With the weights that are given, or those in the repository; random ones for a config alone."""
    weights = arguments.checkpoint_path or (None if arguments.config else SMALL_WEIGHTS)
    estimator = PoseEstimator(
        weights,
        config=arguments.config,
        device=choose_device(arguments.gpus),
        overrides=arguments.overrides,
    )
    estimator.stopwatch.running = arguments.profile
    return estimator


def object_names(meshes: Sequence[Path]) -> list[str]:
    """The files' names; with their folders' where they are alike."""
    names = [mesh.stem for mesh in meshes]
    if len(set(names)) < len(names):
        names = [f"{mesh.resolve().parent.name}/{mesh.stem}" for mesh in meshes]
    if len(set(names)) < len(names):
        raise InputError(f"--mesh {' '.join(map(str, meshes))}: one is given twice; name each once")
    return names


def find_photos(given: Sequence[Path]) -> list[Path]:
    """The files, and those in the folders, sorted by name."""
    photos = []
    for path in given:
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in PHOTOS) if path.is_dir() else [path]
        if not inside:
            raise InputError(f"--image {path}: no photo ({' '.join(PHOTOS)}) in this folder")
        photos += inside
    if len({photo.stem for photo in photos}) < len(photos):
        raise InputError(
            "--image: two photos of the same name, so their results would have one too; rename one"
        )
    return photos


def read_shot(path: Path, arguments: argparse.Namespace, names: Sequence[str]) -> Shot:
    image = read_image(path)
    height, width = image.shape[1:]
    places = [Place(read_mask(mask, height, width)) for mask in arguments.mask or []]
    places += [Place(box_mask(box, height, width)) for box in arguments.box or []]
    if arguments.detections:
        places += read_places(
            arguments.detections, path, (height, width), names, min_score=arguments.min_score
        )
    given = arguments.mask or arguments.box or arguments.detections
    K = camera_of(path, arguments, width, height)
    return Shot(path, image.permute(1, 2, 0).numpy(), K.double().numpy(), places if given else None)


def camera_of(path: Path, arguments: argparse.Namespace, width: int, height: int) -> Tensor:
    """K (3, 3) as the options or else the photo itself say."""
    if arguments.camera:
        K, where = read_camera(arguments.camera, width, height), f"--camera {arguments.camera}"
    elif arguments.K:
        K, where = pinhole(arguments.K, "--K"), f"--K {' '.join(arguments.K)}"
    elif arguments.fov is not None:
        K, where = camera_of_view(arguments.fov, width, height), f"--fov {arguments.fov:g}"
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


def show_progress(done: int, total: int) -> None:
    if done == total or done % 40 == 0:
        LOG.info("%d of %d templates", done, total)


def estimate(estimator: PoseEstimator, shot: Shot, last: Sequence[ObjectPose]) -> list[ObjectPose]:
    """The poses at all places; where a place may hold any object, of the one that fits best."""
    if shot.places is None:
        return estimator.estimate(shot.image, shot.K, last=last)
    names = [place.name for place in shot.places]
    poses = {}
    for name in dict.fromkeys(names):  # at most two calls with one mesh; one for every object otherwise
        chosen = [i for i, other in enumerate(names) if other == name]
        found = estimator.estimate(
            shot.image,
            shot.K,
            masks=[shot.places[i].mask for i in chosen],
            objects=None if name is None else [name] * len(chosen),
            last=last,
        )
        poses |= dict(zip(chosen, found, strict=True))
    return [poses[i] for i in range(len(names))]


def write(
    folder: Path, renderer: Renderer, estimator: PoseEstimator, shot: Shot, poses: Sequence[ObjectPose]
) -> None:
    """Writes the poses and the pictures of one photo."""
    overlay, objects = shot.image, estimator.objects
    for index, pose in enumerate(poses):
        label = f"{pose.name} {100 * pose.inlier_ratio:.0f} %"
        overlay = draw_pose(renderer, overlay, objects[pose.name].mesh, pose.cam_from_obj, shot.K, label)
        matches = draw_matches(shot.image, estimator.template_picture(pose), pose.matches, pose.box)
        write_picture(folder / f"matches_{index}.png", matches)
        x, y, z = pose.cam_from_obj[:3, 3]
        LOG.info(
            "%s: %s at %.3f %.3f %.3f m, %.0f %% of the matches agree",
            *(shot.path.name, pose.name, x, y, z, 100 * pose.inlier_ratio),
        )
    write_picture(folder / "overlay.png", overlay)
    instances = [(pose.name, objects[pose.name].mesh, pose.cam_from_obj) for pose in poses]
    with write_atomically(folder / "scene.glb") as temporary:
        temporary.write_bytes(scene_file(instances, shot.image, shot.K))
    content = {"image": shot.path.name, "unit": "m", "K": shot.K.tolist(), "poses": list(map(as_json, poses))}
    with write_atomically(folder / "pose.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    LOG.info("%s: pose.json, overlay.png, matches_*.png, scene.glb", folder)


def as_json(pose: ObjectPose) -> dict:
    return {
        "object": pose.name,
        "cam_from_obj": pose.cam_from_obj.tolist(),
        "quaternion_xyzw": pose.quaternion_xyzw.tolist(),
        "translation": pose.cam_from_obj[:3, 3].tolist(),
        "score": pose.score,
        "inlier_ratio": pose.inlier_ratio,
        "template": pose.template,
        "box": pose.box.tolist(),
    }


def write_picture(path: Path, rgb: np.ndarray) -> None:
    with write_atomically(path) as temporary:
        cv2.imwrite(str(temporary), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
