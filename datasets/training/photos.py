"""Photos that training shows behind its objects and on their surfaces."""

import logging
from pathlib import Path

import cv2
import numpy as np

from picopose.datasets.images import read_image
from picopose.utils.errors import InputError

PHOTO_PX = 256  # shorter side that they are brought to

log = logging.getLogger(__name__)


def read_photo(path: Path) -> np.ndarray | None:
    """A photo of moderate size; None, and a line in the log, if it cannot be read."""
    try:
        image = read_image(path).permute(1, 2, 0).numpy()
    except InputError as error:
        log.warning("left out of the photos: %s", error)
        return None
    scale = PHOTO_PX / min(image.shape[:2])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
