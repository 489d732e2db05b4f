"""Opens what objects are followed in: a video, a folder of its frames, a camera or a stream."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from picopose.datasets.images import read_image
from picopose.datasets.live import Newest, is_live, open_live
from picopose.datasets.videos import RATE, is_video, rate_of, read_video
from picopose.demo.shots import SUFFIXES
from picopose.utils.errors import InputError


@dataclass(frozen=True, eq=False)
class Footage:
    """Frames, one after the other."""

    path: Path  # of the file, of the folder's first photo, or what names the camera or stream
    frames: Iterator[tuple[float, np.ndarray]]  # s, and (H, W, 3) uint8
    rate: float  # frames per second; of a live source it varies
    live: Newest | None = None  # where frames that come meanwhile are dropped


def open_footage(source: str) -> Footage:
    """The frames of a file, a folder, a camera by its number or a stream by its address."""
    path = Path(source)
    if path.is_dir():
        photos = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not photos:
            raise InputError(f"{path}: no photo ({' '.join(sorted(SUFFIXES))}) in this folder")
        images = (read_image(photo, upright=True).permute(1, 2, 0).numpy() for photo in photos)
        return Footage(photos[0], ((i / RATE, image) for i, image in enumerate(images)), RATE)
    if is_live(source) and not path.exists():
        newest = Newest(open_live(source))
        return Footage(path, iter(newest), RATE, newest)
    if not is_video(path):
        raise InputError(
            f"{source}: no video; give a file such as clip.mp4, a folder of frames, a camera's number or "
            "a stream's address"
        )
    rate = rate_of(path)
    return Footage(path, ((i / rate, image) for i, image in enumerate(read_video(path))), rate)
