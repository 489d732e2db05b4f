"""What a photo loses in a camera, and a mesh's colours in a scanner: fine detail, light and true colours.

Renderings are sharp and bright. Photos of small things are enlarged from a few pixels, out of focus, dark,
noisy and compressed; colours of scanned meshes are blurred, and other lamps shone on them.
"""

from __future__ import annotations

import cv2
import numpy as np

Rng = np.random.Generator

COARSER = (1.0, 4.0)  # px of the image that a pixel of the camera takes, evenly over the logarithm
FOCUS = 1.2  # px of the camera, largest standard deviation of the blur; a third of the photos is sharp
NOISE = 8.0  # grey levels, largest standard deviation
QUALITY = (40, 95)  # of JPEG, through which every second photo goes
SMOOTHED = 4.0  # px of the image, likewise, of a mesh's colours; a half of them is as sharp as it was
GAIN, GAIN_CHANNEL, GAMMA = 0.45, 0.1, 0.3  # standard deviations of the logarithms, see `relit`
PALER = 0.3  # share of the images whose colours are drawn towards grey


def photographed(image: np.ndarray, rng: Rng) -> np.ndarray:
    """An image (H, W, 3) uint8 as a camera of fewer pixels takes it, at its own size."""
    height, width = image.shape[:2]
    coarser = np.exp(rng.uniform(*np.log(COARSER)))
    few = tuple(max(1, round(side / coarser)) for side in (width, height))
    seen = cv2.resize(image, few, interpolation=cv2.INTER_AREA)
    if (blur := rng.uniform(-FOCUS / 2, FOCUS)) > 0:
        seen = cv2.GaussianBlur(seen, (0, 0), max(blur, 0.1))
    seen = relit(seen, rng)
    grain = rng.standard_normal(seen.shape, dtype=np.float32) * np.float32(rng.uniform(0, NOISE))
    seen = np.clip(np.rint(seen + grain), 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        _, packed = cv2.imencode(".jpg", seen, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*QUALITY))])
        seen = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    return cv2.resize(seen, (width, height), interpolation=cv2.INTER_LINEAR)


def scanned(image: np.ndarray, cover: np.ndarray, rng: Rng) -> np.ndarray:
    """A drawing (H, W, 3) uint8 as of a mesh with coarser colours; its background stays black.

    cover (H, W) in [0, 1]: how much of each pixel the object takes.
    """
    if (blur := rng.uniform(-SMOOTHED, SMOOTHED)) > 0.1:
        weight = cv2.GaussianBlur(np.float32(cover), (0, 0), blur)[..., None]
        smooth = cv2.GaussianBlur(np.float32(image), (0, 0), blur) / np.maximum(weight, 1e-3)
        image = np.clip(np.rint(smooth * cover[..., None]), 0, 255).astype(np.uint8)
    return relit(image, rng)


def relit(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Every value v of [0, 1] becomes gain * v^gamma, with a gain for each channel; black stays black."""
    gamma = np.exp(rng.normal(0, GAMMA))
    gain = np.exp(rng.normal(0, GAIN) + rng.normal(0, GAIN_CHANNEL, 3))
    table = 255 * gain * (np.arange(256)[:, None] / 255) ** gamma
    lit = cv2.LUT(image, np.clip(np.rint(table), 0, 255).astype(np.uint8)[:, None])
    if rng.random() >= PALER:
        return lit
    grey = np.float32(lit).mean(axis=2, keepdims=True)
    return np.rint(lit + rng.uniform() * (grey - lit)).astype(np.uint8)
