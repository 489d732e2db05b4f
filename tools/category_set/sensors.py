"""What a colour and a depth camera make of an exact image."""

from __future__ import annotations

import cv2
import numpy as np

NOISE = 0.0012, 0.0007  # m at 1 m: of each pixel, and of patches of some 8 px; both grow with the square
STEEP = 4.0  # tangent of the angle of incidence from which on much of the depth is missing
STEEP_MISSING = 0.6
PATCHES_MISSING, PIXELS_MISSING = 0.015, 0.015  # shares of the image
FARTHEST = 3.5  # m
BYTE_NOISE = (0.5, 3.0)  # levels of 255
PATCH = 8  # px

Rng = np.random.Generator


def measured_depth(rng: Rng, depth: np.ndarray, fx: float) -> np.ndarray:
    """Depth (H, W) uint16 in mm, 0 = missing, of an exact one in m.

    Noise grows with the square of the depth. Missing are parts of edges and of surfaces seen at a grazing
    angle, whose depth changes steeply from pixel to pixel, a few patches and single pixels.
    """
    height, width = depth.shape
    fine = rng.standard_normal(depth.shape, dtype=np.float32)
    coarse = _spread(rng.standard_normal((height // PATCH, width // PATCH), dtype=np.float32), depth.shape)
    noisy = depth + (NOISE[0] * fine + NOISE[1] * coarse) * depth**2
    chance = rng.random(depth.shape, dtype=np.float32)
    patches = _spread(rng.random((height // PATCH, width // PATCH), dtype=np.float32), depth.shape)
    missing = (patches > np.quantile(patches[::4, ::4], 1 - PATCHES_MISSING)) | (chance < PIXELS_MISSING)
    missing |= (_steepness(depth, fx) > STEEP) & (0.5 * (chance + patches) < STEEP_MISSING)
    missing |= (depth == 0) | (depth > FARTHEST)
    return np.where(missing, 0, np.round(1000 * noisy)).astype(np.uint16)


def _spread(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return cv2.resize(values, shape[::-1], interpolation=cv2.INTER_LINEAR)


def _steepness(depth: np.ndarray, fx: float) -> np.ndarray:
    """(H, W) about the tangent of the angle between the line of sight and the surface's normal."""
    slopes = [cv2.Sobel(depth, cv2.CV_32F, *order, ksize=3, scale=1 / 8) for order in ((1, 0), (0, 1))]
    return fx * np.hypot(*slopes) / np.maximum(depth, 1e-3)


def developed(rng: Rng, rgb: np.ndarray) -> np.ndarray:
    """A rendered photo (H, W, 3) uint8 with exposure, white balance and the sensor's noise."""
    gain = (rng.uniform(0.85, 1.35) * (1 + rng.normal(0, 0.04, 3))).astype(np.float32)
    noise = rng.standard_normal(rgb.shape, dtype=np.float32) * np.float32(rng.uniform(*BYTE_NOISE))
    return (rgb * gain + noise).clip(0, 255).round().astype(np.uint8)
