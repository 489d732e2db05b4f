"""Training pairs for tests: procedural objects rendered from known poses, with or without an occluder."""

import functools
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from picopose.rendering.mesh import Mesh
from picopose.rendering.procedural.shapes import random_shape
from picopose.rendering.renderer import Renderer
from picopose.utils.records import Pair, View


@functools.cache
def renderer() -> Renderer:
    return Renderer()


def camera(cam_from_obj: np.ndarray, extent: float, size: int) -> np.ndarray:
    """K (3, 3) of a crop of `size` px about an object of `extent` m, whose origin lies near the centre."""
    x, y, z = cam_from_obj[:3, 3]
    focal = size * z / extent
    middle = (size - 1) / 2
    return np.array([[focal, 0, middle - focal * x / z], [0, focal, middle - focal * y / z], [0, 0, 1]])


def view(instances: list[tuple[Mesh, np.ndarray]], K: np.ndarray, size: int) -> View:
    """One rendered crop about the first instance; mask and depth are what the others leave of it."""
    image = renderer().render(instances, K, size, size, ambient=0.9)
    mask = image.ids == 0
    return View(
        rgb=torch.from_numpy(image.rgb.astype(np.float32) / 255).permute(2, 0, 1).contiguous(),
        mask=torch.from_numpy(mask),
        K=torch.from_numpy(K).float(),
        depth=torch.from_numpy(np.where(mask, image.depth, 0)),
        cam_from_obj=torch.from_numpy(instances[0][1]).float(),
    )


def pose(rotation: Rotation, translation: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation.as_matrix(), translation
    return matrix


def random_poses(
    rng: np.random.Generator, *, out_of_plane_deg: float = 20.0
) -> tuple[np.ndarray, np.ndarray]:
    """cam_from_obj of a photo, off the optical axis, and of a template that looks at the origin."""
    rotation = Rotation.random(random_state=rng)
    depth = rng.uniform(0.5, 1.0)
    offset = rng.uniform(-0.25, 0.25, 2) * depth
    tilt = Rotation.from_rotvec(np.deg2rad(out_of_plane_deg) * np.append(rng.uniform(-1, 1, 2), 0))
    spin = Rotation.from_euler("z", rng.uniform(-60, 60), degrees=True)
    real = pose(spin * tilt * rotation, np.append(offset, depth))
    return real, pose(rotation, np.array([0, 0, rng.uniform(0.4, 0.8)]))


@dataclass(frozen=True)
class Scene:
    """A pair with the meshes it was rendered from, for tests that look again."""

    pair: Pair  # unbatched
    mesh: Mesh
    instances: list[tuple[Mesh, np.ndarray]]  # of the photo, the object first: cam_from_obj


def scene(index: int, *, size: int, seed: int = 0, occluder: bool = False) -> Scene:
    """Pair `index` of a seed: another object, pose and template each time."""
    rng = np.random.default_rng([seed, index])
    mesh = random_shape(rng)
    extent = 2 * np.linalg.norm(mesh.vertices, axis=1).max()
    real, template = random_poses(rng)
    instances = [(mesh, real)]
    if occluder:
        place = pose(Rotation.random(random_state=rng), real[:3, 3] * 0.7)
        place[:2, 3] += rng.uniform(-0.15, 0.15, 2) * extent
        small = replace(mesh, vertices=mesh.vertices * np.float32(0.4))
        instances.append((small, place))
    return Scene(
        Pair(
            real=view(instances, camera(real, extent, size), size),
            template=view([(mesh, template)], camera(template, extent, size), size),
        ),
        mesh,
        instances,
    )


def batch(count: int, *, size: int, seed: int = 0, occluder: bool = False) -> Pair:
    return Pair.stack([scene(i, size=size, seed=seed, occluder=occluder).pair for i in range(count)])


class RenderedPairs:
    """A source of pairs for the training loop, each rendered once."""

    def __init__(self, *, size: int, seed: int = 0):
        self._size, self._seed = size, seed
        self._pairs: dict[int, Pair] = {}

    def sample(self, index: int) -> Pair:
        if index not in self._pairs:
            self._pairs[index] = scene(index, size=self._size, seed=self._seed).pair
        return self._pairs[index]

    def name(self, index: int) -> str:
        return f"rendered pair {index}"
