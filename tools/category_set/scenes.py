"""Scenes of the set: objects that stand on a table before a wall, a camera and lights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from picopose.datasets.nocs.layout import SPLITS
from picopose.datasets.training.backdrops import Backdrop
from picopose.datasets.training.scenes import Lighting, random_lighting
from picopose.rendering.mesh import Mesh
from tools.category_set.objects import CategoryObject

WIDTH, HEIGHT = 640, 480
K = SPLITS["camera_train"].K
DISTANCE, ELEVATION, ROLL = (0.5, 1.3), (10, 60), 4.0  # m and degrees of the camera; roll: one sigma
GAP = 0.004  # m between objects
CUT_OFF = 60  # px that boxes may reach beyond the image
NEAREST = 0.25  # m from the camera to a box
TABLE, WALL = (1.4, 2.6), (2.0, 3.0)  # m, their sides
ATTEMPTS = 60

Rng = np.random.Generator

_UPRIGHT = Rotation.from_euler("x", 90, degrees=True).as_matrix()  # world, z up, from an object, y up


@dataclass(frozen=True)
class Scene:
    """What is seen, in the camera's frame."""

    objects: list[tuple[CategoryObject, np.ndarray]]  # with cam_from_obj (4, 4) m
    boards: list[tuple[Mesh, np.ndarray]]  # table and wall, of 1 m, with a scale in the pose
    light: Lighting


def compose(rng: Rng, objects: Sequence[CategoryObject], backdrops: Sequence[Backdrop]) -> Scene:
    """A scene of those of the objects for which there is room; backdrops lie on the table and the wall."""
    places = _arranged(rng, objects)
    cam_from_world = _camera(rng, np.concatenate([_corners(*place) for place in places]))
    boards = _table(rng), _wall(rng, cam_from_world)
    return Scene(
        [(shown, cam_from_world @ place) for shown, place in places],
        [(drop.board, cam_from_world @ board) for drop, board in zip(backdrops, boards, strict=True)],
        random_lighting(rng, cam_from_world[:3, 2]),
    )


def _arranged(rng: Rng, objects: Sequence[CategoryObject]) -> list[tuple[CategoryObject, np.ndarray]]:
    """Objects with their world_from_obj (4, 4), close together on the plane z = 0 about the origin."""
    placed: list[tuple[CategoryObject, np.ndarray]] = []
    taken: list[np.ndarray] = []
    for shown in objects:
        for attempt in range(ATTEMPTS):
            yaw, at = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.04 + 0.003 * attempt, 2)
            foot = _footprint(shown, yaw) + at
            if not any(_overlap(foot, other) for other in taken):
                taken.append(foot)
                placed.append((shown, _pose(_about_z(yaw) @ _UPRIGHT, (*at, shown.size[1] / 2))))
                break
    return placed


def _footprint(shown: CategoryObject, yaw: float) -> np.ndarray:
    """(4, 2) corners about the object's centre, with the gap that it keeps."""
    half = shown.size[[0, 2]] / 2 + GAP / 2
    return (np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)]) * half) @ _about_z(yaw)[:2, :2].T


def _overlap(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two rectangles (4, 2) overlap: no side of either separates them."""
    for corners in (first, second):
        for side in (corners[1] - corners[0], corners[2] - corners[1]):
            a, b = first @ side, second @ side
            if a.max() < b.min() or b.max() < a.min():
                return False
    return True


def _corners(shown: CategoryObject, world_from_obj: np.ndarray) -> np.ndarray:
    """(8, 3) of the object's box in the world."""
    signs = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
    return signs * shown.size @ world_from_obj[:3, :3].T + world_from_obj[:3, 3]


def _camera(rng: Rng, corners: np.ndarray) -> np.ndarray:
    """A cam_from_world (4, 4) with the boxes' corners (N, 3) in the image, or the last that was tried."""
    centre, size = corners.mean(axis=0), np.array([[WIDTH], [HEIGHT]])
    for _ in range(ATTEMPTS):
        pose = _looking_at(rng, centre + rng.normal(0, 0.03, 3))
        x, y, z = K @ (pose[:3, :3] @ corners.T + pose[:3, 3:])
        pixels = np.stack([x, y]) / z
        if (z > NEAREST).all() and ((pixels > -CUT_OFF) & (pixels < size + CUT_OFF)).all():
            break
    return pose


def _looking_at(rng: Rng, target: np.ndarray) -> np.ndarray:
    """cam_from_world (4, 4) from a random side."""
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(*ELEVATION))
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0])
    back = np.cos(elevation) * np.array([right[1], -right[0], 0]) + np.array([0, 0, np.sin(elevation)])
    level = np.stack([right, np.cross(-back, right), -back])
    R = _about_z(np.radians(rng.normal(0, ROLL))) @ level
    return _pose(R, -R @ (target + rng.uniform(*DISTANCE) * back))


def _table(rng: Rng) -> np.ndarray:
    return _pose(rng.uniform(*TABLE) * _about_z(rng.uniform(0, 2 * np.pi)), (0, 0, 0))


def _wall(rng: Rng, cam_from_world: np.ndarray) -> np.ndarray:
    """Behind the objects, upright and at any angle up to 40 degrees to the camera."""
    ahead = np.arctan2(cam_from_world[2, 1], cam_from_world[2, 0]) + np.radians(rng.uniform(-40, 40))
    away = rng.uniform(0.45, 1.1) * np.array([np.cos(ahead), np.sin(ahead)])
    return _pose(rng.uniform(*WALL) * _about_z(ahead + np.pi / 2) @ _UPRIGHT, (*away, rng.uniform(0, 0.6)))


def _about_z(angle: float) -> np.ndarray:
    return Rotation.from_euler("z", angle).as_matrix()


def _pose(R: np.ndarray, t: Sequence[float] | np.ndarray) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = R, t
    return pose
