"""Films objects on a table with known poses, to measure how well they are followed.

python -m tools.film --objects cereal_box,teapot --out OUT

The camera goes about the table, pans, shakes and twice rests; a thing passes before the objects. Each frame
is the mean of several drawings within the time of exposure, so that it is blurred as far as things move.
OUT gets `frames/*.jpg` and `truth.json`.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from picopose.rendering.mesh import Mesh
from picopose.rendering.procedural.shapes import random_shape
from picopose.rendering.renderer import Light, Renderer
from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.files import make_folder, write_atomically
from tools.mini_set.objects import MINI, UNSEEN, NamedObject, named_objects
from tools.mini_set.scenes import Scene, compose

WIDTH, HEIGHT, RATE = 640, 480, 30.0
K = np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]])
FRAMES, KEY = 300, 30  # frames, and frames between the places below
RESTS = (slice(0, 30), slice(210, 240))  # frames in which the camera stands
OCCLUSION = slice(90, 150)  # frames in which something passes before the objects
# Where the camera is: degrees about the table, above it, and in the image; m from the objects' centre; and m
# to the right and up of it that it looks.
AZIMUTH = (0, 0, 20, 50, 20, -20, -50, -30, -30, 20, 40)
ELEVATION = (35, 35, 38, 45, 32, 28, 32, 42, 42, 32, 28)
ROLL = (0, 0, 5, -8, 4, 10, 0, -6, -6, 8, 0)
DISTANCE = (0.75, 0.75, 0.7, 0.62, 0.7, 0.8, 0.75, 0.65, 0.65, 0.62, 0.75)
RIGHT = (0, 0, 0.04, -0.05, 0.03, 0.06, -0.05, 0.0, 0.0, 0.12, -0.04)
UP = (0, 0, 0.02, -0.02, 0.02, -0.03, 0.03, 0.0, 0.0, -0.03, 0.02)
SHAKE = 0.003  # m, amplitude of what the hand adds to RIGHT and UP while it moves
EXPOSURE, DRAWINGS = 0.5, 5  # of the time between frames; number of drawings in it
NOISE = 2.0  # grey levels, standard deviation


@dataclass(frozen=True)
class Film:
    """What is filmed."""

    scene: Scene
    objects: list[NamedObject]
    occluder: Mesh
    azimuth: float  # rad, from where the camera begins

    def cam_from_world(self, time: float) -> np.ndarray:
        """The camera's pose (4, 4) at a time in frames."""
        keys = KEY * np.arange(len(AZIMUTH))

        def at(places: Sequence[float]) -> float:
            return float(PchipInterpolator(keys, places)(time))

        moving = min(1.0, *(abs(time - (s.start + s.stop) / 2) / (s.stop - s.start) for s in RESTS))
        shake = SHAKE * max(0.0, 2 * moving - 1) * np.array([np.sin(0.55 * time), np.sin(0.43 * time + 1)])
        azimuth, elevation = self.azimuth + np.radians(at(AZIMUTH)), np.radians(at(ELEVATION))
        level = np.array([np.cos(azimuth), np.sin(azimuth), 0]) * np.cos(elevation)
        eye = self.scene.centre + at(DISTANCE) * (level + np.sin(elevation) * np.eye(3)[2])
        forward = self.scene.centre - eye
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        up = np.cross(right, forward) / np.linalg.norm(forward)
        forward = forward + (at(RIGHT) + shake[0]) * right + (at(UP) + shake[1]) * up
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        rotation = Rotation.from_euler("z", at(ROLL), degrees=True).as_matrix() @ rotation
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, -rotation @ eye
        return pose

    def content(self, time: float) -> list[tuple[Mesh, np.ndarray]]:
        """All meshes with their poses (4, 4) before the camera at a time in frames; the objects first."""
        camera = self.cam_from_world(time)
        items = [*self.scene.items, *self.scene.surroundings]
        placed = [(item.mesh, camera @ item.world_from_obj) for item in items]
        if OCCLUSION.start <= time <= OCCLUSION.stop:
            way = (time - OCCLUSION.start) / (OCCLUSION.stop - OCCLUSION.start)
            before = np.eye(4)
            before[:3, :3] = Rotation.from_rotvec([0.4, 3 * way, 0.2]).as_matrix()
            before[:3, 3] = 0.6 * way - 0.3, 0.01, 0.6 * DISTANCE[4]
            placed.append((self.occluder, before))
        return placed


def compose_film(objects: list[NamedObject], seed: int) -> Film:
    """Objects with other things on a table."""
    rng = np.random.default_rng(seed)
    scene = compose(rng, [(1 + i, obj.mesh) for i, obj in enumerate(objects)], distractors=2)
    items = sorted(scene.items, key=lambda item: item.obj_id or np.inf)
    occluder = random_shape(rng)
    scale = np.float32(0.1 / np.ptp(occluder.vertices, axis=0).max())
    occluder = replace(occluder, vertices=occluder.vertices * scale)
    return Film(Scene(items, scene.cam_from_world, scene.surroundings), objects, occluder, rng.uniform(0, 6))


def draw_frame(renderer: Renderer, film: Film, number: int, rng: np.random.Generator) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8 RGB, exposed about the frame's time."""
    light = Light((-0.4, -1, -0.5), directional=True, intensity=0.5)
    total = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for i in range(DRAWINGS):
        share = (i + 0.5) / DRAWINGS - 0.5
        time = np.clip(number + EXPOSURE * share, 0, FRAMES - 1)
        shifted = K.copy()  # within a pixel, so that edges are smooth
        shifted[:2, 2] += share, ((2 * i + 0.5) / DRAWINGS) % 1 - 0.5
        image = renderer.render(film.content(time), shifted, WIDTH, HEIGHT, ambient=0.6, lights=[light])
        total += image.rgb
    noisy = cv2.GaussianBlur(total / DRAWINGS, (0, 0), 0.5) + NOISE * rng.normal(size=total.shape)
    return noisy.round().clip(0, 255).astype(np.uint8)


def seen(renderer: Renderer, film: Film, number: int) -> tuple[list[float], list[list[int]]]:
    """Of each object the share of its silhouette that nothing hides, and the box (4,) px about that part."""
    content = film.content(number)
    ids = renderer.render(content, K, WIDTH, HEIGHT).ids
    shares, boxes = [], []
    for i in range(len(film.objects)):
        whole = renderer.render_depth(*content[i], K, WIDTH, HEIGHT) > 0
        shares.append(float((ids == i).sum() / max(1, whole.sum())))
        left, top, width, height = cv2.boundingRect((ids == i).astype(np.uint8))
        boxes.append([left, top, left + width, top + height])
    return shares, boxes


def write_film(film: Film, folder: Path, seed: int) -> None:
    make_folder(folder / "frames")
    rng = np.random.default_rng([seed, 1])
    truth = {"K": K.tolist(), "rate": RATE, "rests": [[s.start, s.stop] for s in RESTS]}
    poses, shares, boxes = [], [], []
    with Renderer() as renderer:
        for number in tqdm(range(FRAMES), unit="frame"):
            image = draw_frame(renderer, film, number, rng)
            file = str(folder / "frames" / f"{number:06d}.jpg")
            cv2.imwrite(file, image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
            poses.append([film.content(number)[i][1].tolist() for i in range(len(film.objects))])
            for values, value in zip((shares, boxes), seen(renderer, film, number), strict=True):
                values.append(value)
    names = [obj.name for obj in film.objects]
    truth |= {"objects": names, "cam_from_obj": poses, "visible": shares, "boxes": boxes}
    with write_atomically(folder / "truth.json") as temporary:
        temporary.write_text(json.dumps(truth))


def find_objects(names: Sequence[str]) -> list[NamedObject]:
    """Objects of the mini set and of the unseen set by their names."""
    known = {obj.name: obj for makers in (MINI, UNSEEN) for obj in named_objects(makers)}
    if unknown := set(names) - known.keys():
        raise InputError(f"--objects {unknown.pop()}: choose among {', '.join(known)}")
    return [known[name] for name in names]


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--objects", default="cereal_box,teapot", help="of the mini and the unseen set")
    parser.add_argument("--out", type=Path, required=True, help="folder for the frames")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    objects = find_objects(arguments.objects.split(","))
    write_film(compose_film(objects, arguments.seed), arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
