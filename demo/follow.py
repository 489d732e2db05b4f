"""What `run_demo.py --video` does: objects are followed from the first frame on."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from picopose.datasets.cameras.lens import Lens
from picopose.demo.film_files import FilmFiles
from picopose.demo.footage import Footage
from picopose.demo.shots import Shot
from picopose.pipeline.estimator import PoseEstimator
from picopose.pipeline.object_pose import ObjectPose
from picopose.pipeline.track.tracker import Tracker

LOG = logging.getLogger(__name__)
TOLD = 10.0  # s between lines that say how it goes


def follow(estimator: PoseEstimator, footage: Footage, first: Shot, lens: Lens | None, folder: Path) -> None:
    """Follows the estimator's objects from the first frame on, and writes what is found into a folder.

    A live source is followed until it ends or Ctrl+C is pressed. The footage's frames are the later ones,
    with seconds since the first, and as the lens has them.
    """
    tracker = estimator.track(first.K, cropped=first.cropped)
    names, began = list(estimator.objects), time.perf_counter()
    count, told = 1, began
    with FilmFiles(folder, names, first.K, footage.rate) as files:
        poses, seconds = _timed(_start, tracker, first)
        files.add(0.0, estimator.draw(first.image, poses, first.K), poses, seconds)
        try:
            for seen, image in footage.frames:
                straight = image if lens is None else lens.straighten(np.ascontiguousarray(image), first.K)
                poses, seconds = _timed(tracker.update, straight, seen)
                files.add(seen, estimator.draw(straight, poses, first.K), poses, seconds)
                count += 1
                if time.perf_counter() - told > TOLD:
                    told = time.perf_counter()
                    _tell(count, told - began, poses)
        except KeyboardInterrupt:
            if footage.live is None:
                raise
            footage.live.close()
            LOG.info("stopped")
    dropped = f", {footage.live.dropped} dropped" if footage.live is not None else ""
    LOG.info("%d frames at %.1f a second%s", count, count / (time.perf_counter() - began), dropped)
    LOG.info("%s: overlay.mp4, poses.jsonl, poses.csv, trajectory_*.txt, agreement.png", folder)


def _start(tracker: Tracker, shot: Shot) -> list[ObjectPose]:
    if shot.places is None:
        return tracker.start(shot.image, time=0.0)
    masks, names = [place.mask for place in shot.places], [place.name for place in shot.places]
    return tracker.start(shot.image, masks=masks, objects=names, time=0.0)


def _timed(function: Callable[..., list[ObjectPose]], *given) -> tuple[list[ObjectPose], float]:
    """What a function gives, and the seconds that it took."""
    began = time.perf_counter()
    return function(*given), time.perf_counter() - began


def _tell(count: int, seconds: float, poses: Sequence[ObjectPose]) -> None:
    LOG.info("frame %d, %.1f a second: %s", count, count / seconds, "; ".join(map(str, poses)) or "all lost")
