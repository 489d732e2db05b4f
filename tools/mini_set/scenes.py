"""Composes table-top scenes: objects that do not touch each other, a room and a camera.

Lengths are metres; the table's top is the plane z = 0 of the world.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from picopose.datasets.images import read_image
from picopose.datasets.training.resting import resting_rotation, stable_poses
from picopose.rendering.mesh import Mesh
from picopose.rendering.procedural import solids, textures
from picopose.rendering.procedural.painting import paint
from picopose.rendering.procedural.prints import random_texture
from picopose.rendering.procedural.shapes import random_shape

GAP = 0.003  # m, gap between objects
CELL = 0.002  # m, cell of the map in which footprints are compared
REACH = 0.36  # m, half the side of that map
CLEARANCE = 0.5  # m, from the camera to the things in the background
BEHIND, ON_TABLE = 0.8, 0.5  # shares of scenes with photos on the walls and on the table top


@dataclass(frozen=True)
class Item:
    """A mesh placed in the world."""

    mesh: Mesh
    world_from_obj: np.ndarray  # (4, 4) m
    obj_id: int = 0  # 0: part of the scene but not annotated
    gloss: float = 0.0  # strength of highlights


@dataclass(frozen=True)
class Scene:
    """The content of a photo, and the camera."""

    items: list[Item]
    cam_from_world: np.ndarray  # (4, 4) m
    surroundings: list[Item]  # table and room

    @property
    def centre(self) -> np.ndarray:
        """(3,) m, world."""
        return _centre(self.items)


@dataclass(frozen=True)
class Setting:
    """Settings common to the scenes of a set."""

    photos: Sequence[Path] = ()  # shown on walls and table tops
    stretch: tuple[float, float] | None = None  # range of a factor on the camera's distance


PROCEDURAL = Setting()


def compose(
    rng: np.random.Generator,
    objects: Sequence[tuple[int, Mesh]],
    distractors: int,
    setting: Setting = PROCEDURAL,
) -> Scene:
    """A scene of the given objects (obj_id, mesh) and some random shapes, seen from a random viewpoint."""
    wanted = list(objects) + [(0, _distractor(rng)) for _ in range(distractors)]
    rng.shuffle(wanted)
    items = _arrange(rng, wanted)
    camera = _viewpoint(rng, _centre(items), setting.stretch)
    behind = _sometimes(rng, setting.photos, BEHIND)
    room = [thing for thing in _room(rng, behind) if _well_ahead(thing, camera)]
    return Scene(items, camera, [_table(rng, _sometimes(rng, setting.photos, ON_TABLE)), *room])


def _centre(items: Sequence[Item]) -> np.ndarray:
    return np.mean([item.world_from_obj[:3, 3] for item in items], axis=0)


def _sometimes(rng: np.random.Generator, photos: Sequence[Path], share: float) -> Sequence[Path]:
    return photos if photos and rng.random() < share else ()


def _photo(rng: np.random.Generator, photos: Sequence[Path], height: int, width: int) -> np.ndarray:
    """The largest possible crop, resized to (height, width, 3) uint8, of one of the photos."""
    image = read_image(photos[rng.integers(len(photos))]).permute(1, 2, 0).numpy()
    scale = min(image.shape[0] / height, image.shape[1] / width)
    part = max(int(height * scale), 1), max(int(width * scale), 1)
    top, left = (rng.integers(full - side + 1) for full, side in zip(image.shape, part, strict=False))
    crop = image[top : top + part[0], left : left + part[1]]
    return cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR)


def _well_ahead(thing: Item, cam_from_world: np.ndarray) -> bool:
    """Whether something stands far before the camera, or is the room that the camera is in."""
    z = thing.mesh.vertices @ (cam_from_world @ thing.world_from_obj)[2, :3] + cam_from_world[2, 3]
    z = z + cam_from_world[2, :3] @ thing.world_from_obj[:3, 3]
    return z.min() > CLEARANCE or np.ptp(thing.mesh.vertices, axis=0).min() > 2


def _distractor(rng: np.random.Generator) -> Mesh:
    mesh = random_shape(rng)
    size = np.ptp(mesh.vertices, axis=0).max()
    scale = np.float32(rng.uniform(0.06, 0.15) / size)
    return Mesh(mesh.vertices * scale, mesh.faces, mesh.normals, mesh.colors, mesh.uv, mesh.texture)


def _footprint(points: np.ndarray) -> np.ndarray:
    """Mask of the convex hull of points (N, 2) m in the map of the table."""
    mask = np.zeros((int(2 * REACH / CELL),) * 2, np.uint8)
    cells = ((points + REACH) / CELL).round().astype(np.int32)
    cv2.fillConvexPoly(mask, cv2.convexHull(cells), 1)
    return mask


def _arrange(rng: np.random.Generator, wanted: list[tuple[int, Mesh]]) -> list[Item]:
    """Places the objects on the table, close together but apart; the area grows until all fit."""
    taken = np.zeros((int(2 * REACH / CELL),) * 2, np.uint8)
    gap = np.ones((2 * int(np.ceil(GAP / CELL)) + 1,) * 2, np.uint8)
    items = []
    for obj_id, mesh in wanted:
        rotation = resting_rotation(rng, stable_poses(mesh.vertices))
        turned = mesh.vertices @ rotation.T
        for spread in np.linspace(0.04, REACH - 0.1, 300):
            place = rng.uniform(-spread, spread, 2)
            mask = _footprint(turned[:, :2] + place)
            if not (taken & cv2.dilate(mask, gap)).any():
                break
        else:
            continue  # no room left: the scene goes without it
        taken |= mask
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, (*place, -turned[:, 2].min())
        items.append(Item(mesh, pose, obj_id, gloss=rng.choice([0.0, 0.08, 0.25])))
    return items


def _viewpoint(
    rng: np.random.Generator, centre: np.ndarray, stretch: tuple[float, float] | None
) -> np.ndarray:
    """cam_from_world of a camera that looks down at the scene, slightly off its centre and tilted."""
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(14, 55))
    distance = rng.uniform(0.55, 0.88) * (rng.uniform(*stretch) if stretch else 1)
    level = np.array([np.cos(azimuth), np.sin(azimuth)]) * np.cos(elevation)
    eye = centre + distance * np.array([*level, np.sin(elevation)])
    forward = centre + rng.normal(0, 0.02, 3) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    rotation = Rotation.from_rotvec([0, 0, rng.normal(0, np.radians(5))]).as_matrix() @ rotation
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, -rotation @ eye
    return pose


def _table(rng: np.random.Generator, photos: Sequence[Path]) -> Item:
    top = _muted(rng, _photo(rng, photos, 1024, 1024) if photos else _material(rng), 0.75)
    board = solids.box((rng.uniform(0.9, 1.4), rng.uniform(0.9, 1.4), 0.03), 0.004)
    edge = top.reshape(-1, 3).mean(axis=0) * 0.8
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec([0, 0, rng.uniform(0, 2 * np.pi)]).as_matrix()
    pose[2, 3] = -0.015
    return Item(paint([(board, [edge, edge, edge, edge, top, edge])]), pose, gloss=rng.choice([0.0, 0.15]))


def _material(rng: np.random.Generator) -> np.ndarray:
    """(1024, 1024, 3) uint8."""
    kind = rng.choice(
        [textures.wood, textures.wood, textures.marble, textures.plaid, textures.speckle, textures.clouds]
    )
    return kind(rng, 1024, 1024)


def _wall(rng: np.random.Generator, photos: Sequence[Path]) -> np.ndarray:
    """(512, 512, 3) uint8."""
    return _muted(rng, _photo(rng, photos, 512, 512) if photos else random_texture(rng, 512, 512), 0.5)


def _room(rng: np.random.Generator, photos: Sequence[Path]) -> list[Item]:
    """Floor, walls and some large things, all far behind the table."""
    walls = [_wall(rng, photos) for _ in range(5)]
    size = np.array([rng.uniform(3.5, 5), rng.uniform(3.5, 5), 2.6])
    shell = solids.box(size)
    inwards = solids.Solid(shell.corners[:, ::-1], shell.uv[:, ::-1], shell.surface)
    pose = np.eye(4)
    pose[2, 3] = size[2] / 2 - 0.75
    furniture = []
    for azimuth in np.arange(9) * (2 * np.pi / 9) + rng.uniform(0, 0.5):
        mesh = random_shape(rng)
        scale = np.float32(rng.uniform(0.6, 1.2) / np.ptp(mesh.vertices, axis=0).max())
        large = Mesh(mesh.vertices * scale, mesh.faces, mesh.normals, mesh.colors, mesh.uv, mesh.texture)
        stand = np.eye(4)
        stand[:3, :3] = Rotation.from_rotvec([0, 0, rng.uniform(0, 6)]).as_matrix()
        distance = rng.uniform(1.3, 1.6)
        stand[:3, 3] = distance * np.cos(azimuth), distance * np.sin(azimuth), rng.uniform(-0.4, 0.2)
        furniture.append(Item(large, stand))
    return [Item(paint([(inwards, [*walls, (225, 222, 215)])]), pose), *furniture]


def _muted(rng: np.random.Generator, image: np.ndarray, keep: float) -> np.ndarray:
    """Desaturates a picture: surroundings are less colourful and darker than goods."""
    grey = image.mean(axis=2, keepdims=True)
    return (
        ((grey + keep * rng.uniform(0.3, 1) * (image - grey)) * rng.uniform(0.7, 0.95))
        .clip(0, 255)
        .astype(np.uint8)
    )
