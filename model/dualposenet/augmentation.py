"""Changes of instances before they are learnt from; the labels follow exactly.

Rotations M are from the camera's frame to the object's, as in `datasets.nocs`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from picopose.datasets.nocs.instances import Instance, Label
from picopose.datasets.nocs.labels import ROUND, canonical_rotation, quaternion
from picopose.model.dualposenet.options import Augmentation

FEWEST = 64  # points that a cut leaves
CUT = (0.1, 0.5)  # share of the points that a cut takes
STRAY_DEPTH = 0.1  # m, mean distance of stray points behind the object
SIDEWAYS = 1.3  # farthest stray points, in distances of the object's outline from its centroid

Change = Callable[[Instance, Augmentation, np.random.Generator], Instance]


def augment(instance: Instance, options: Augmentation, rng: np.random.Generator) -> Instance:
    """The instance with all changes that are asked for; the mean of its points moves."""
    changes: list[tuple[float, Change]] = [
        (options.stretch, _stretched),
        (options.turn_degrees + options.tilt_degrees, _turned),
        (options.cut, _cut),
        (options.stray, _with_stray_points),
        (options.depth_noise, _with_depth_noise),
        (options.colour, _recoloured),
    ]
    for amount, change in changes:
        if amount > 0:
            instance = change(instance, options, rng)
    return instance


def centred(instance: Instance) -> Instance:
    """The instance with the mean of its points at the origin."""
    mean = instance.points.mean(axis=0, dtype=np.float64)
    label = replace(instance.label, translation=(instance.label.translation - mean).astype(np.float32))
    return replace(instance, points=instance.points - mean.astype(np.float32), label=label)


def rotation_of(label: Label) -> np.ndarray:
    """M (3, 3)."""
    return Rotation.from_quat(label.rotation, scalar_first=True).as_matrix()


def _stretched(instance: Instance, options: Augmentation, rng: np.random.Generator) -> Instance:
    """The sides of the box become longer or shorter; round objects stay round."""
    factors = rng.uniform(1 - options.stretch, 1 + options.stretch, 3)
    if instance.class_id in ROUND:
        factors[2] = factors[0]
    M, label = rotation_of(instance.label), instance.label
    stretch = (M.T * factors @ M).astype(np.float32)  # symmetric
    points = (instance.points - label.translation) @ stretch + label.translation
    label = replace(label, size=(label.size * factors).astype(np.float32))
    return replace(instance, points=points, label=label)


def _turned(instance: Instance, options: Augmentation, rng: np.random.Generator) -> Instance:
    """The camera is turned about its axis, and tilted about any axis across it."""
    turn, tilt = np.deg2rad([options.turn_degrees, options.tilt_degrees]) * rng.uniform(-1, 1, 2)
    across = rng.uniform(0, 2 * np.pi)
    R = Rotation.from_rotvec(tilt * np.array([np.cos(across), np.sin(across), 0]))
    R = (R * Rotation.from_rotvec([0, 0, turn])).as_matrix()
    M = canonical_rotation(rotation_of(instance.label) @ R.T, instance.class_id)
    label = replace(
        instance.label,
        rotation=quaternion(M).astype(np.float32),
        translation=(R @ instance.label.translation).astype(np.float32),
    )
    return replace(instance, points=instance.points @ R.T.astype(np.float32), label=label)


def _cut(instance: Instance, options: Augmentation, rng: np.random.Generator) -> Instance:
    """What another object would hide is cut away: all beyond a straight line in the image, or a disc."""
    if rng.random() >= options.cut:
        return instance
    across = instance.points[:, :2]
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        height = across @ np.float32([np.cos(angle), np.sin(angle)])
    else:
        height = -np.linalg.norm(across - across[rng.integers(len(across))], axis=1)
    kept = height <= np.quantile(height, 1 - rng.uniform(*CUT))
    return instance.chosen(kept) if kept.sum() >= FEWEST else instance


def _with_stray_points(instance: Instance, options: Augmentation, rng: np.random.Generator) -> Instance:
    """Some points are of what lies behind: a mask reaches beyond the object's outline, on one side more."""
    count = int(len(instance.points) * rng.uniform(0, options.stray))
    if count == 0:
        return instance
    angle, points = rng.uniform(0, 2 * np.pi), instance.points
    height = points[:, :2] @ np.float32([np.cos(angle), np.sin(angle)])
    outline = np.argpartition(-height, count - 1)[:count]
    stray = points[outline].copy()
    stray[:, :2] *= rng.uniform(1, SIDEWAYS, (count, 1))
    stray[:, 2] += rng.exponential(STRAY_DEPTH)
    ground = rng.uniform(0, 255, 3) + rng.normal(0, 10, (count, 3))
    rgb = np.concatenate([instance.rgb, ground.clip(0, 255).astype(np.uint8)])
    return replace(instance, points=np.concatenate([points, stray]), rgb=rgb)


def _with_depth_noise(instance: Instance, options: Augmentation, rng: np.random.Generator) -> Instance:
    points = instance.points.copy()
    noise = rng.standard_normal(len(points), dtype=np.float32)
    points[:, 2] += np.float32(options.depth_noise * rng.random()) * noise
    return replace(instance, points=points)


def _recoloured(instance: Instance, options: Augmentation, rng: np.random.Generator) -> Instance:
    """Brightness and contrast of all channels, then each channel's own factor, the tint."""
    brightness, contrast, *tint = 1 + options.colour * rng.uniform(-1, 1, 5).astype(np.float32)
    values = instance.rgb.astype(np.float32) * brightness
    mean = values.mean()
    values = (mean + contrast * (values - mean)) * np.float32(tint)
    return replace(instance, rgb=values.clip(0, 255).astype(np.uint8))
