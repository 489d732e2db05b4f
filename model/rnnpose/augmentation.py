"""Colour changes of training patches: now and then a blur, always a slight jitter."""

import cv2
import numpy as np

BLUR_SHARE, BLUR_SIZES, BLUR_OF = 0.5, (3, 5, 7, 9), 320  # px, in images of this size
BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.1, 0.1, 0.05, 0.05


def augment(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An image (H, W, 3) uint8, RGB, blurred with some probability and with other colours."""
    if rng.random() < BLUR_SHARE:
        size = 1 + 2 * round((int(rng.choice(BLUR_SIZES)) - 1) / 2 * len(image) / BLUR_OF)
        image = cv2.GaussianBlur(image, (size, size), 0)
    brightness, contrast, saturation = 1 + rng.uniform(-1, 1, 3) * (BRIGHTNESS, CONTRAST, SATURATION)
    values = image.astype(np.float32) * np.float32(brightness)
    values += np.float32(1 - contrast) * (cv2.cvtColor(values, cv2.COLOR_RGB2GRAY).mean() - values)
    values += np.float32(1 - saturation) * (cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)[..., None] - values)
    hsv = cv2.cvtColor(values.clip(0, 255) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + np.float32(360 * rng.uniform(-HUE, HUE))) % 360
    return np.rint(255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)).clip(0, 255).astype(np.uint8)
