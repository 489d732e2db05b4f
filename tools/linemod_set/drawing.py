"""Photos and renderings of the set: composed scenes, one object alone, and objects pasted together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from picopose.datasets.linemod.photos import K
from picopose.datasets.training.backdrops import on_backdrop
from picopose.datasets.training.scenes import random_lighting, random_rotation
from picopose.rendering.mesh import Mesh
from picopose.rendering.renderer import Light, Renderer, Rendering
from tools.linemod_set.objects import Thing
from tools.mini_set.photos import photograph
from tools.mini_set.scenes import compose

WIDTH, HEIGHT = 640, 480
DISTANCE = (0.55, 1.0)  # m, of objects that stand in no scene
PLACES = (0.3, 0.7)  # of their centres, in widths and heights of the photo
DISTRACTORS = (4, 7)  # of a scene, from, to (exclusive)
MIN_VISIBLE = 0.35  # share of each object
ATTEMPTS = 200

Rng = np.random.Generator


@dataclass(frozen=True)
class Seen:
    """One object in an image."""

    thing: Thing
    cam_from_obj: np.ndarray  # (4, 4) m
    depth: np.ndarray  # (H, W) float32 m of what is seen of it; 0 elsewhere


@dataclass(frozen=True)
class View:
    """An image."""

    rgb: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) float32 m; 0 = missing
    seen: list[Seen]


class Drawer:
    """Draws the set's images with one renderer."""

    def __init__(self, renderer: Renderer):
        self._renderer = renderer

    def photo(self, rng: Rng, things: Sequence[Thing]) -> View:
        """A simulated photo of objects among others on a table."""
        wanted = [(thing.obj_id, thing.mesh) for thing in things]
        for _ in range(ATTEMPTS):
            scene = compose(rng, wanted, int(rng.integers(*DISTRACTORS)))
            ids = [item.obj_id for item in scene.items]
            if not {thing.obj_id for thing in things} <= set(ids):
                continue
            instances = [(item.mesh, scene.cam_from_world @ item.world_from_obj) for item in scene.items]
            drawn = self._draw(instances)
            places = [ids.index(thing.obj_id) for thing in things]
            seen = [
                self._seen(thing, instances[place][1], drawn.ids == place)
                for thing, place in zip(things, places, strict=True)
            ]
            if all(seen):
                photo = photograph(self._renderer, scene, K, WIDTH, HEIGHT, rng)
                return View(photo.rgb, photo.depth, seen)
        raise RuntimeError("no scene shows all objects")

    def surroundings(self, rng: Rng) -> np.ndarray:
        """(H, W, 3) uint8: a photo of a table without any of the objects."""
        scene = compose(rng, [], int(rng.integers(*DISTRACTORS)))
        return photograph(self._renderer, scene, K, WIDTH, HEIGHT, rng).rgb

    def alone(self, rng: Rng, thing: Thing) -> View:
        """One object under random lights, in front of black."""
        pose = _random_pose(rng)
        drawn = self._draw([(thing.mesh, pose)], rng)
        return View(drawn.rgb, drawn.depth, [Seen(thing, pose, drawn.depth)])

    def fused(self, rng: Rng, thing: Thing, others: Sequence[Thing], backdrop: np.ndarray) -> View:
        """One object with others before, behind and beside it, in front of a photo."""
        for _ in range(ATTEMPTS):
            instances = [(shown.mesh, _random_pose(rng)) for shown in (thing, *others)]
            drawn = self._draw(instances, rng)
            if seen := self._seen(thing, instances[0][1], drawn.ids == 0):
                return View(on_backdrop(rng, drawn.rgb, drawn.mask, backdrop), drawn.depth, [seen])
        raise RuntimeError(f"{thing.name} is never seen")

    def at(self, thing: Thing, pose: np.ndarray) -> View:
        """An object alone at a pose (4, 4)."""
        drawn = self._draw([(thing.mesh, pose)])
        return View(drawn.rgb, drawn.depth, [Seen(thing, pose, drawn.depth)])

    def _draw(self, instances: list[tuple[Mesh, np.ndarray]], rng: Rng | None = None) -> Rendering:
        """Under random lights, or evenly lit without `rng`."""
        if rng is None:
            return self._renderer.render(instances, K, WIDTH, HEIGHT)
        light = random_lighting(rng, None)
        suns = [Light(at=tuple(at), directional=True, color=tuple(color)) for at, color in light.suns]
        return self._renderer.render(instances, K, WIDTH, HEIGHT, ambient=light.ambient, lights=suns)

    def _seen(self, thing: Thing, pose: np.ndarray, visible: np.ndarray) -> Seen | None:
        """An object of which `visible` (H, W) is seen; None if that is little or its centre is not there."""
        x, y, z = K @ pose[:3, 3]
        depth = self._renderer.render_depth(thing.mesh, pose, K, WIDTH, HEIGHT)
        inside = z > 0 and 0 < x < WIDTH * z and 0 < y < HEIGHT * z
        if not inside or np.count_nonzero(visible) < MIN_VISIBLE * np.count_nonzero(depth):
            return None
        return Seen(thing, pose, np.where(visible, depth, np.float32(0)))


def _random_pose(rng: Rng) -> np.ndarray:
    """cam_from_obj (4, 4) at any rotation, about the photo's middle."""
    place = np.array([*(rng.uniform(*PLACES, 2) * (WIDTH, HEIGHT)), 1.0])
    pose = np.eye(4)
    pose[:3, :3] = random_rotation(rng)
    pose[:3, 3] = rng.uniform(*DISTANCE) * np.linalg.solve(K, place)
    return pose
