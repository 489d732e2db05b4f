"""Photos of one object for methods that learn a single one: rendered when they are asked for, without end.

They are those of LINEMOD's camera. Of each the part about the object alone is rendered: methods that refine
look at no more than that, and it is a few percent of the photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.distance import pdist

from picopose.datasets.training.backdrops import Backdrops, on_backdrop
from picopose.datasets.training.object_pool import Mesh, ObjectPool, Studio, TrainingObject
from picopose.datasets.training.scenes import Camera, Scene, moved, random_rotation, surrounded
from picopose.datasets.training.streams import stream
from picopose.utils.errors import InputError
from picopose.utils.records import Observation

WIDTH, HEIGHT = 640, 480
K = np.array([[572.4114, 0, 325.2611], [0, 573.57043, 242.04899], [0, 0, 1]])
DISTANCE = (4.4, 10.0)  # of the camera, in object diameters: 130 to 57 px
MARGIN = 3.0  # side of the window over that of the object's box
PLACES = (0.15, 0.85)  # of the object's centre, in photo widths and heights
NEIGHBOURS_SHARE, MAX_NEIGHBOURS = 0.75, 6
MIN_VISIBLE = 0.4  # of the object's pixels
MAX_ATTEMPTS = 30
SHAPES = 32  # at a time, of those that stand beside the object

Rng = np.random.Generator


class RenderedPhotos:
    """An endless source of photos of one mesh, in clutter and partly hidden in some of them.

    A photo is a pure function of (seed, index). Its `rgb` and `depth` are the part of it about the object,
    of side `MARGIN` times that of the object's box where it lies within the photo, and `K` is that of this
    part.

    Args:
        mesh: in metres, in the frame of the poses.
        backgrounds: image files to show behind some of the scenes, beside procedural images.
    """

    def __init__(self, studio: Studio, mesh: Mesh, name: str, *, seed: int, backgrounds: Sequence[Path] = ()):
        self._studio, self._seed, self._title = studio, seed, name
        self._target = TrainingObject(name, mesh, studio.hull(mesh), np.empty((0, 4, 4)))
        low, high = self._target.hull.min(axis=0), self._target.hull.max(axis=0)
        self._centre = (low + high) / 2
        self._diameter = pdist(self._target.hull).max()
        self._pool = ObjectPool(studio, [], shapes=1.0, seed=seed, slots=SHAPES)
        self._backdrops = Backdrops(studio, backgrounds, seed)

    def name(self, index: int) -> str:
        """What an index shows, for messages."""
        return f"rendered photo {index} (seed {self._seed}) of {self._title}"

    def photo(self, index: int) -> Observation:
        rng = stream("one object", self._seed, index)
        for attempt in range(MAX_ATTEMPTS):
            # Where the object is hidden, others are tried; at last without neighbours.
            busy = attempt < MAX_ATTEMPTS - 1 and rng.random() < NEIGHBOURS_SHARE
            count = int(rng.integers(1, MAX_NEIGHBOURS + 1)) if busy else 0
            neighbours = [self._pool.pick(rng, index) for _ in range(count)]
            pose = self._pose(rng)
            left, top, camera = self._window(pose)
            board = self._backdrops.pick(rng, index).board
            scene = surrounded(rng, self._target, pose, neighbours, board, camera, camera)
            backdrop = self._backdrops.pick(rng, index).image
            if (photo := self._photograph(rng, scene, backdrop)) is not None:
                return _within(photo, left, top)
        raise InputError(f"{self._title} is hardly seen in any photo: check its faces and its unit")

    def _pose(self, rng: Rng) -> np.ndarray:
        """cam_from_obj (4, 4) at any rotation; the box's centre lies well inside the photo."""
        depth = self._diameter * np.exp(rng.uniform(*np.log(DISTANCE)))
        place = np.array([*(rng.uniform(*PLACES, 2) * (WIDTH, HEIGHT)), 1.0])
        pose = np.eye(4)
        pose[:3, :3] = random_rotation(rng)
        pose[:3, 3] = depth * np.linalg.solve(K, place) - pose[:3, :3] @ self._centre
        return pose

    def _window(self, pose: np.ndarray) -> tuple[int, int, Camera]:
        """Left and top (px) of the window about the object, and its camera."""
        xy = moved(pose, self._target.hull) @ K.T
        xy = xy[:, :2] / xy[:, 2:]
        low, high = xy.min(axis=0), xy.max(axis=0)
        size = int(np.ceil(MARGIN * (high - low).max())) + 1
        left, top = (np.round((low + high - size) / 2)).astype(int)
        return left, top, Camera(K - [[0, 0, left], [0, 0, top], [0, 0, 0]], size)

    def _photograph(self, rng: Rng, scene: Scene, backdrop: np.ndarray) -> Observation | None:
        """The window of a scene's photo, or None if too little of the object is seen."""
        camera, light = scene.camera, scene.lighting
        size = camera.size, camera.size
        photo = self._studio.photo(scene.instances, camera.K, *size, ambient=light.ambient, suns=light.suns)
        visible, pose = photo.ids == 0, scene.cam_from_obj
        alone = visible
        if not scene.is_whole:
            alone = self._studio.depth(self._target.mesh, pose, camera.K, *size) > 0
        if visible.sum() < max(1, MIN_VISIBLE * np.count_nonzero(alone)):
            return None
        rgb = on_backdrop(rng, photo.rgb, photo.mask, backdrop)
        return Observation(
            rgb=torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1))),
            depth=torch.from_numpy(np.where(visible, photo.depth, np.float32(0))),
            K=torch.from_numpy(camera.K).float(),
            cam_from_obj=torch.from_numpy(pose).float(),
        )


def _within(window: Observation, left: int, top: int) -> Observation:
    """What of a window lies inside the photo."""
    x, y = max(0, -left), max(0, -top)
    columns, rows = slice(x, WIDTH - left), slice(y, HEIGHT - top)
    K = window.K - torch.tensor([[0.0, 0, x], [0, 0, y], [0, 0, 0]])
    rgb, depth = window.rgb[:, rows, columns].contiguous(), window.depth[rows, columns].contiguous()
    return Observation(rgb, depth, K, window.cam_from_obj)
