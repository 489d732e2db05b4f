"""Random scenes about one object: where it lies, what surrounds and hides it, the lights and the camera.

All positions are in the camera's frame, in metres; the camera sees a square window about the object only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from picopose.datasets.training.object_pool import Mesh, TrainingObject
from picopose.datasets.training.resting import resting_rotation

DISTANCE = (1.6, 10.0)  # of the camera, in object diameters
FOCAL = (0.8, 2.0)  # of the whole photo, in photo widths: fields of view of 64 to 28 degrees
MARGIN = 1.4  # side of the window over that of the object's box, where one object is looked at
TABLE_SHARE, TRUNCATED_SHARE = 0.7, 0.1
MAX_NEIGHBOURS = 6

Rng = np.random.Generator


@dataclass(frozen=True)
class Camera:
    """A square window of a photo."""

    K: np.ndarray  # (3, 3)
    size: int  # px


@dataclass(frozen=True)
class Lighting:
    """Ambient light and lights far away."""

    ambient: np.ndarray  # (3,) in [0, 1]
    suns: list[tuple[np.ndarray, np.ndarray]]  # direction towards the light (3,), colour (3,)


@dataclass(frozen=True)
class Scene:
    """Objects with their poses, the first of which is the one in question, perhaps on a table."""

    things: list[tuple[TrainingObject, np.ndarray]]
    table: tuple[Mesh, np.ndarray] | None
    whole: Camera  # sees all of the object
    camera: Camera  # the photo's window; it may cut the object off, as photos do
    lighting: Lighting
    is_whole: bool  # nothing can hide or cut off a part of the object

    @property
    def cam_from_obj(self) -> np.ndarray:
        return self.things[0][1]

    @property
    def instances(self) -> list[tuple[Mesh, np.ndarray]]:
        """All that is to be drawn, in the order of `things`, the table last."""
        return [(thing.mesh, pose) for thing, pose in self.things] + ([self.table] if self.table else [])


def random_scene(
    rng: Rng,
    target: TrainingObject,
    neighbours: Sequence[TrainingObject],
    table: Mesh,
    size: int,
    *,
    resting: float = 0.0,
    margin: float = MARGIN,
) -> Scene:
    """A scene about `target`; those neighbours that the camera does not see are left out.

    The object measures about `size` px in the photo: half as many up to 1.6 times as many. In a share
    `resting` of the scenes it lies on the table as gravity has it, before a camera that is held nearly level.

    margin: side of the window over that of the object's box.
    """
    rests = resting > 0 and rng.random() < resting
    normal = _level_normal(rng) if rests else None
    rotation = _resting_rotation(rng, target, normal) if rests else random_rotation(rng)
    pose = _placed(rng, target, rotation)
    points = moved(pose, target.hull)
    whole = window(points, round(size * np.exp(rng.uniform(np.log(0.5), np.log(1.6)))), margin)
    camera = _shifted(rng, whole, margin) if rng.random() < TRUNCATED_SHARE else whole
    return surrounded(rng, target, pose, neighbours, table, whole, camera, normal)


def surrounded(
    rng: Rng,
    target: TrainingObject,
    pose: np.ndarray,
    neighbours: Sequence[TrainingObject],
    table: Mesh,
    whole: Camera,
    camera: Camera,
    normal: np.ndarray | None = None,
) -> Scene:
    """A scene about `target` at a pose (4, 4), under random lights and mostly on a table.

    normal: up (3,) of the table that the object rests on; None: one of any slope, or no table.
    """
    points, board = moved(pose, target.hull), None
    if normal is not None or rng.random() < TABLE_SHARE:
        normal = _table_normal(rng) if normal is None else normal
        places = [_on_table(rng, target, points, normal, neighbour) for neighbour in neighbours]
        board = table, _table_pose(rng, points, normal)
    else:
        places = [_floating(rng, target, pose, neighbour) for neighbour in neighbours]
    seen = [
        (neighbour, place)
        for neighbour, place in zip(neighbours, places, strict=True)
        if _is_seen(camera, moved(place, neighbour.hull))
    ]
    is_whole = not seen and camera is whole
    return Scene([(target, pose), *seen], board, whole, camera, random_lighting(rng, normal), is_whole)


def moved(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ pose[:3, :3].T + pose[:3, 3]


def _pose(linear: np.ndarray, translation: np.ndarray) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = linear, translation
    return pose


def random_rotation(rng: Rng) -> np.ndarray:
    quaternion = rng.normal(size=4)
    return Rotation.from_quat(quaternion / np.linalg.norm(quaternion)).as_matrix()


def _resting_rotation(rng: Rng, target: TrainingObject, normal: np.ndarray) -> np.ndarray:
    """cam_from_obj (3, 3) of the object at rest on a table with this normal in the camera's frame."""
    towards, across = _tangents(normal)
    return np.column_stack([towards, across, normal]) @ resting_rotation(rng, target.stable_poses)


def _placed(rng: Rng, target: TrainingObject, rotation: np.ndarray) -> np.ndarray:
    """A pose with this rotation anywhere in a photo of 4:3."""
    depth = 2 * target.radius * np.exp(rng.uniform(*np.log(DISTANCE)))
    reach = 0.4 / rng.uniform(*FOCAL) * np.array([1.0, 0.75])
    return _pose(rotation, depth * np.array([*rng.uniform(-reach, reach), 1.0]))


def window(points: np.ndarray, span: int, margin: float = MARGIN) -> Camera:
    """The camera of a window about camera points (N, 3) whose box has a longer side of `span` px."""
    rays = points[:, :2] / points[:, 2:]
    low, high = rays.min(axis=0), rays.max(axis=0)
    focal, size = span / (high - low).max(), round(margin * span)
    K = np.diag([focal, focal, 1.0])
    K[:2, 2] = (size - 1) / 2 - focal * (low + high) / 2
    return Camera(K, size)


def _shifted(rng: Rng, camera: Camera, margin: float) -> Camera:
    """The window beside the photo's edge, which cuts off up to half of the object's box."""
    outside = (0.5 - 0.5 / margin + rng.uniform(0, 0.5) / margin) * camera.size
    K = camera.K.copy()
    K[rng.integers(2), 2] += np.round(outside) * rng.choice([-1, 1])
    return Camera(K, camera.size)


def _table_normal(rng: Rng) -> np.ndarray:
    """Up, as seen from a camera that looks down by 10 to 85 degrees and is held more or less upright."""
    down = np.radians(rng.uniform(10, 85))
    return _up(down, rng.normal(0, 0.25) if rng.random() < 0.7 else rng.uniform(-np.pi, np.pi))


def _level_normal(rng: Rng) -> np.ndarray:
    """Up, as seen by someone who takes a photo of a table: down by 10 to 70 degrees, nearly level."""
    return _up(np.radians(rng.uniform(10, 70)), rng.normal(0, 0.12))


def _up(down: float, roll: float) -> np.ndarray:
    """The vertical of a camera that looks down and is rolled by these angles."""
    return np.array([np.sin(roll) * np.cos(down), -np.cos(roll) * np.cos(down), -np.sin(down)])


def _tangents(normal: np.ndarray) -> np.ndarray:
    """(2, 3): the directions in the plane towards the camera and across."""
    towards = np.array([0.0, 0.0, -1.0]) + normal * normal[2]
    towards /= np.linalg.norm(towards)
    return np.stack([towards, np.cross(normal, towards)])


def _table_pose(rng: Rng, points: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """The table's square of 3 to 12 object sizes under the object's lowest point."""
    centre, height = points.mean(axis=0), (points @ normal).min()
    span = np.ptp(points, axis=0).max() * rng.uniform(3, 12)
    turn = Rotation.from_rotvec(normal * rng.uniform(0, 2 * np.pi)).as_matrix()
    axes = np.column_stack([*(_tangents(normal)), normal])
    offset = rng.uniform(-0.3, 0.3, 2) * span @ _tangents(normal)
    return _pose(turn @ axes * span, centre + (height - centre @ normal) * normal + offset)


def _resized(rng: Rng, target: TrainingObject, neighbour: TrainingObject) -> np.ndarray:
    """A random rotation times the scale that makes a neighbour 0.4 to 1.3 times as large as the target."""
    return random_rotation(rng) * (rng.uniform(0.4, 1.3) * target.radius / neighbour.radius)


def _on_table(
    rng: Rng, target: TrainingObject, points: np.ndarray, normal: np.ndarray, neighbour: TrainingObject
) -> np.ndarray:
    """A neighbour's pose beside the target on its table, in every second case nearer to the camera."""
    linear = _resized(rng, target, neighbour)
    own = neighbour.hull @ linear.T
    tangents = _tangents(normal)
    reach = sum(np.linalg.norm((p - p.mean(axis=0)) @ tangents.T, axis=1).max() for p in (points, own))
    angle = rng.uniform(-1.2, 1.2) if rng.random() < 0.5 else rng.uniform(0, 2 * np.pi)
    away = reach * rng.uniform(0.75, 1.5) * np.array([np.cos(angle), np.sin(angle)]) @ tangents
    place = points.mean(axis=0) + away - own.mean(axis=0)
    return _pose(linear, place + ((points @ normal).min() - (own @ normal).min() - place @ normal) * normal)


def _floating(rng: Rng, target: TrainingObject, pose: np.ndarray, neighbour: TrainingObject) -> np.ndarray:
    """A neighbour's pose about the target, before or behind it, without touching its bounding sphere."""
    linear = _resized(rng, target, neighbour)
    reach = target.radius + neighbour.radius * np.linalg.norm(linear, 2)
    aside, angle = reach * rng.uniform(0.3, 1.2), rng.uniform(0, 2 * np.pi)
    clear = np.sqrt(max(reach**2 - aside**2, 0.0)) + reach * rng.uniform(0, 1)
    nearer = min(clear, 0.6 * pose[2, 3])
    depth = -nearer if rng.random() < 0.4 else clear
    ray = pose[:3, 3] / pose[2, 3]
    offset = np.array([aside * np.cos(angle), aside * np.sin(angle), 0.0]) + depth * ray
    return _pose(linear, pose[:3, 3] + offset)


def _is_seen(camera: Camera, points: np.ndarray) -> bool:
    """Whether camera points (N, 3) may show in the window; not if any is at the camera or behind it."""
    if points[:, 2].min() <= 0.02 * points[:, 2].max():
        return False
    xy = points @ camera.K.T
    xy = xy[:, :2] / xy[:, 2:]
    return bool((xy.max(axis=0) > 0).all() and (xy.min(axis=0) < camera.size).all())


def random_lighting(rng: Rng, normal: np.ndarray | None) -> Lighting:
    """Up to three suns from above the table and the camera's side; the total is about as bright as white."""
    count = int(rng.choice([0, 1, 2, 3], p=[0.1, 0.4, 0.3, 0.2]))
    total, ambient = rng.uniform(0.7, 1.35), rng.uniform(0.25, 0.75) if count else 1.0
    tint = 1 + rng.normal(0, 0.06, 3)
    suns = []
    for share in rng.dirichlet(np.ones(count)) if count else ():
        at = rng.normal(size=3)
        at[2] = -abs(at[2])
        if normal is not None and at @ normal < 0:
            at -= 2 * (at @ normal) * normal
        color = (1.6 * total * (1 - ambient) * share * tint * (1 + rng.normal(0, 0.08, 3))).clip(0, 2)
        suns.append((at / np.linalg.norm(at), color))
    return Lighting((total * ambient * tint).clip(0, 2), suns)
