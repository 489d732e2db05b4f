"""Training pairs for tests: procedural objects rendered from known poses, with or without an occluder."""

import functools

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from rendering.mesh import Mesh
from rendering.renderer import Renderer
from rendering.shapes import random_shape
from utils.structs import Pair, View


@functools.cache
def renderer() -> Renderer:
    return Renderer()


def camera(cam_from_obj: np.ndarray, extent: float, size: int) -> np.ndarray:
    """K (3, 3) of a crop of `size` px about an object of `extent` m, whose origin lies near the centre."""
    x, y, z = cam_from_obj[:3, 3]
    focal = 0.8 * size * z / extent
    middle = (size - 1) / 2
    return np.array([[focal, 0, middle - focal * x / z], [0, focal, middle - focal * y / z], [0, 0, 1]])


def view(
    mesh: Mesh, cam_from_obj: np.ndarray, K: np.ndarray, size: int, occluders: list[tuple[Mesh, np.ndarray]]
) -> View:
    """One rendered crop; the mask is what the occluders leave of the object."""
    image = renderer().render([(mesh, cam_from_obj), *occluders], K, size, size, ambient=0.9)
    return View(
        rgb=torch.from_numpy(image.rgb.astype(np.float32) / 255).permute(2, 0, 1),
        mask=torch.from_numpy(image.ids == 0),
        K=torch.from_numpy(K).float(),
        depth=torch.from_numpy(image.depth),
        cam_from_obj=torch.from_numpy(cam_from_obj).float(),
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


def pair(index: int, *, size: int, seed: int = 0, occluder: bool = False, mesh: Mesh | None = None) -> Pair:
    """Pair `index` of a seed: another object, pose and template each time; unbatched."""
    rng = np.random.default_rng([seed, index])
    mesh = mesh or random_shape(rng)
    extent = 2 * np.linalg.norm(mesh.vertices, axis=1).max()
    real, template = random_poses(rng)
    occluders = []
    if occluder:
        place = np.eye(4)
        place[:3, 3] = real[:3, 3] * 0.7 + rng.uniform(-0.15, 0.15, 3) * extent
        place[:3, :3] = Rotation.random(random_state=rng).as_matrix()
        occluders = [(mesh, place @ np.diag([0.4, 0.4, 0.4, 1]))]
    return Pair(
        real=view(mesh, real, camera(real, extent, size), size, occluders),
        template=view(mesh, template, camera(template, extent, size), size, []),
    )


def batch(count: int, *, size: int, seed: int = 0, occluder: bool = False) -> Pair:
    return Pair.stack([pair(index, size=size, seed=seed, occluder=occluder) for index in range(count)])
