"""Simulates photos of a composed scene: soft light with shadows, lens, sensor and depth camera.

Colours and normals come from the renderer; light comes from many directions, each with a shadow map.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from picopose.rendering.mesh import Mesh
from picopose.rendering.renderer import Renderer
from tools.mini_set.scenes import Item, Scene

OVERSAMPLING = 2
SHADOW_PX, SHADOW_REACH, LIGHT_DISTANCE = 768, 0.55, 4.0  # px; half width and distance in m
SHADOW_BIAS = 0.004  # m
LAMP_SAMPLES, ROOM_SAMPLES = 10, 24
GAMMA = 2.2
FAR = 1.25  # m behind which the lens is out of focus
DEPTH_OF_FIELD = 0.37  # m behind the scene's centre that are always sharp


@dataclass(frozen=True)
class Photo:
    """The cameras' images and the ground truth."""

    rgb: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) float32 m as measured; 0 = missing
    ids: np.ndarray  # (H, W) int32, index of the item at each pixel; the surroundings follow the items


@dataclass(frozen=True)
class _Ray:
    """Light from far away."""

    towards: np.ndarray  # (3,) unit vector to the light, world
    color: np.ndarray  # (3,)
    lamp: bool  # whether it makes highlights


def photograph(
    renderer: Renderer, scene: Scene, K: np.ndarray, width: int, height: int, rng: np.random.Generator
) -> Photo:
    """Renders one photo and one depth image with the same camera K (3, 3)."""
    fine = _oversampled(K)
    w, h = OVERSAMPLING * width, OVERSAMPLING * height
    items = [*scene.items, *scene.surroundings]
    albedo = renderer.render(_posed(items, scene.cam_from_world), fine, w, h)
    normals = _world_normals(renderer, items, scene.cam_from_world, fine, albedo.ids)
    points, to_eye = _world_points(albedo.depth, fine, scene.cam_from_world)
    gloss = np.array([item.gloss for item in items], np.float32)[albedo.ids]
    diffuse, specular = _lighting(renderer, scene, points, normals, to_eye, _lights(rng))
    linear = (albedo.rgb / np.float32(255)) ** GAMMA * diffuse + gloss[..., None] * specular
    rgb = _develop(rng, _lens(rng, linear, albedo.depth, sharp_until(scene)))
    truth = renderer.render(_posed(items, scene.cam_from_world), K, width, height)
    facing = cv2.resize((normals * to_eye).sum(axis=-1), (width, height), interpolation=cv2.INTER_AREA)
    return Photo(rgb, _measure(rng, truth.depth, facing), truth.ids)


def sharp_until(scene: Scene) -> float:
    """Depth (m) behind which the lens is out of focus."""
    centre = scene.cam_from_world[:3, :3] @ scene.centre + scene.cam_from_world[:3, 3]
    return max(FAR, float(np.linalg.norm(centre)) + DEPTH_OF_FIELD)


def _posed(items: list[Item], b_from_world: np.ndarray) -> list[tuple[Mesh, np.ndarray]]:
    return [(item.mesh, b_from_world @ item.world_from_obj) for item in items]


def _oversampled(K: np.ndarray) -> np.ndarray:
    """The camera of an image with more pixels: x' = s (x + 1/2) - 1/2."""
    s = OVERSAMPLING
    return np.array([[s, 0, (s - 1) / 2], [0, s, (s - 1) / 2], [0, 0, 1]]) @ K


def _world_normals(
    renderer: Renderer, items: list[Item], cam_from_world: np.ndarray, K: np.ndarray, ids: np.ndarray
) -> np.ndarray:
    """Unit normals (H, W, 3) in the world, drawn as colours of the object's frame."""
    coloured = []
    for item in items:
        colors = np.round(127.5 * (item.mesh.normals + 1)).astype(np.uint8)
        coloured.append(replace(item, mesh=replace(item.mesh, colors=colors, uv=None, texture=None)))
    drawn = renderer.render(_posed(coloured, cam_from_world), K, ids.shape[1], ids.shape[0]).rgb
    local = drawn.astype(np.float32) / np.float32(127.5) - 1
    normals = np.zeros_like(local)
    for index, item in enumerate(items):
        mine = ids == index
        normals[mine] = local[mine] @ item.world_from_obj[:3, :3].T.astype(np.float32)
    return normals / np.linalg.norm(normals, axis=-1, keepdims=True).clip(1e-6)


def _world_points(
    depth: np.ndarray, K: np.ndarray, cam_from_world: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Surface points (H, W, 3) and unit directions to the camera (H, W, 3), both in the world."""
    y, x = np.mgrid[: depth.shape[0], : depth.shape[1]].astype(np.float32)
    rays = np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones_like(x)], axis=-1)
    rotation = cam_from_world[:3, :3].astype(np.float32)
    eye = -cam_from_world[:3, 3].astype(np.float32) @ rotation
    away = rays.astype(np.float32) @ rotation
    return eye + depth[..., None] * away, -away / np.linalg.norm(away, axis=-1, keepdims=True)


def _lights(rng: np.random.Generator) -> list[_Ray]:
    """An area lamp and the bright parts of the room."""
    lamp = _direction(rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(35, 75)))
    warm = np.array([1, rng.uniform(0.85, 1), rng.uniform(0.7, 1)])
    power, soft = rng.uniform(0.6, 1.8), rng.uniform(0.03, 0.15)
    rays = []
    for _ in range(LAMP_SAMPLES):
        towards = lamp + soft * rng.normal(size=3)
        rays.append(_Ray(towards / np.linalg.norm(towards), warm * power / LAMP_SAMPLES, lamp=True))
    window = rng.uniform(0, 2 * np.pi)
    for k in range(ROOM_SAMPLES):
        # Evenly spread over the upper half sphere, golden angle between neighbours.
        azimuth, sine = k * np.pi * (3 - np.sqrt(5)), (k + 0.5) / ROOM_SAMPLES
        bright = 1 + 0.8 * np.cos(azimuth - window)
        cool = np.array([0.95, 0.98, 1.05])
        rays.append(
            _Ray(_direction(azimuth, np.arcsin(sine)), 1.3 * bright * cool / ROOM_SAMPLES, lamp=False)
        )
    return rays


def _direction(azimuth: float, elevation: float) -> np.ndarray:
    level = np.cos(elevation)
    return np.array([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)])


def _lighting(
    renderer: Renderer,
    scene: Scene,
    points: np.ndarray,
    normals: np.ndarray,
    to_eye: np.ndarray,
    rays: list[_Ray],
) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse and specular light (H, W, 3) at the surface points, with shadows of the items and the table."""
    diffuse = np.full_like(points, 0.12)
    specular = np.zeros_like(points)
    casters = [*scene.items, scene.surroundings[0]]
    for ray in rays:
        towards, color = ray.towards.astype(np.float32), ray.color.astype(np.float32)
        cosine = (normals @ towards).clip(0)
        lit = cosine * _visible(renderer, casters, ray.towards, points + normals * np.float32(0.001))
        diffuse += lit[..., None] * color
        if ray.lamp:
            halfway = to_eye + towards
            halfway /= np.linalg.norm(halfway, axis=-1, keepdims=True)
            sheen = (normals * halfway).sum(axis=-1).clip(0) ** 60
            specular += ((lit > 0) * sheen * 3)[..., None] * color
    return diffuse, specular


def _visible(renderer: Renderer, casters: list[Item], towards: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(H, W) share of a far light that reaches the points: 1 outside the shadow map."""
    right = np.cross(towards, [0.0, 0.0, 1.0] if abs(towards[2]) < 0.9 else [1.0, 0.0, 0.0])
    right /= np.linalg.norm(right)
    light_from_world = np.eye(4)
    light_from_world[:3, :3] = np.stack([right, np.cross(-towards, right), -towards])
    light_from_world[2, 3] = LIGHT_DISTANCE
    focal, centre = SHADOW_PX / 2 * LIGHT_DISTANCE / SHADOW_REACH, (SHADOW_PX - 1) / 2
    K = np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1]])
    nearest = renderer.render(_posed(casters, light_from_world), K, SHADOW_PX, SHADOW_PX).depth
    at = points @ light_from_world[:3, :3].T.astype(np.float32)
    z = at[..., 2] + np.float32(LIGHT_DISTANCE)
    x, y = (at[..., k] * np.float32(focal) / z + np.float32(centre) for k in (0, 1))
    nearest = np.where(nearest > 0, nearest, np.float32(1e3))
    first = cv2.remap(nearest, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=1e3)
    return (first > z - np.float32(SHADOW_BIAS)).astype(np.float32)


def _lens(rng: np.random.Generator, linear: np.ndarray, depth: np.ndarray, sharp_until: float) -> np.ndarray:
    """Applies defocus (behind `sharp_until`, m), blur, vignetting and the sensor's resolution."""
    far = ((depth > sharp_until) | (depth == 0)).astype(np.float32)
    sigma = rng.uniform(3, 7)
    spread = cv2.GaussianBlur(linear * far[..., None], (0, 0), sigma)
    weight = cv2.GaussianBlur(far, (0, 0), sigma)[..., None]
    image = np.where(far[..., None] > 0, spread / weight.clip(1e-3), linear)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.6, 1.3))
    height, width = depth.shape
    y, x = np.mgrid[:height, :width] / max(height, width)
    radius = (x - x.mean()) ** 2 + (y - y.mean()) ** 2
    image = image * (1 - rng.uniform(0, 0.6) * radius)[..., None].astype(np.float32)
    size = (width // OVERSAMPLING, height // OVERSAMPLING)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _develop(rng: np.random.Generator, linear: np.ndarray) -> np.ndarray:
    """Applies exposure, white balance, noise and gamma: linear light (H, W, 3) to uint8."""
    exposure = rng.uniform(0.32, 0.44) / max(np.percentile(linear, 70), 0.75 * np.percentile(linear, 90))
    balance = 1 + rng.normal(0, 0.025, 3)
    signal = (linear * exposure * balance).clip(0)
    noise = rng.normal(size=signal.shape) * np.sqrt(
        rng.uniform(1e-5, 6e-5) * signal + rng.uniform(1e-6, 8e-6)
    )
    signal = (signal + noise).clip(0)
    # A shoulder instead of hard clipping in the highlights.
    signal = np.where(signal > 0.7, 0.7 + 0.3 * np.tanh((signal - 0.7) / 0.3), signal)
    return np.round(255 * signal ** (1 / GAMMA)).clip(0, 255).astype(np.uint8)


def _measure(rng: np.random.Generator, depth: np.ndarray, facing: np.ndarray) -> np.ndarray:
    """A depth camera's image (H, W) m: noise that grows with distance, and missing pixels.

    Missing are parts of depth edges and of surfaces seen at a grazing angle (`facing`: cosine to the camera),
    a few blotches, and all that is too far.
    """
    height, width = depth.shape
    noisy = depth + rng.normal(0, 0.0008, depth.shape) * (depth / 0.7) ** 2
    low, high = cv2.erode(depth, np.ones((3, 3))), cv2.dilate(depth, np.ones((3, 3)))
    edge = (high - low > 0.015).astype(np.uint8)
    patches = cv2.resize(
        rng.random((height // 12, width // 12)), (width, height), interpolation=cv2.INTER_CUBIC
    )
    fine = cv2.resize(rng.random((height // 3, width // 3)), (width, height), interpolation=cv2.INTER_LINEAR)
    missing = (cv2.dilate(edge, np.ones((3, 3))) > 0) & (fine + 0.5 * patches > 0.75)
    missing |= (np.abs(facing) < 0.25) & (fine + patches > 0.8)
    missing |= (patches > 1.02) | (depth > 2.2) | (depth == 0)
    return np.where(missing, 0, noisy).astype(np.float32)
