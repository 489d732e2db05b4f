"""Writes what is found in a video: overlays, poses as JSON lines, as trajectories and for BOP, and a plot."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from picopose.datasets.bop.image_result import FoundPose, ImageResult
from picopose.datasets.bop.results import write_csv
from picopose.demo.agreement_plot import plot_agreement
from picopose.demo.result_files import write_picture
from picopose.pipeline.object_pose import ObjectPose
from picopose.utils.errors import InputError
from picopose.utils.files import make_folder, write_atomically

CODEC = "mp4v"  # MPEG-4, which OpenCV's own FFmpeg encodes; H.264 it does not


class FilmFiles:
    """The results of a video in a folder; they are all there once the `with` block has ended.

    `overlay.mp4` has a constant rate: a frame is shown until the time of the next one. `poses.jsonl` has a
    line for each frame. `poses.csv` is BOP's: obj_id are the objects' places among the names, from 1 on, and
    im_id the frames' numbers. `trajectory_N_NAME.txt` of each track is as in the TUM benchmark of RGB-D SLAM:
    s, the object's place in the camera's frame in m, and its rotation as a quaternion, scalar last.
    """

    def __init__(self, folder: Path, names: Sequence[str], K: np.ndarray, rate: float):
        self._folder, self._names, self._K, self._rate = folder, list(names), K, rate
        self._video: cv2.VideoWriter | None = None
        self._shown = 0  # frames in the video
        self._frames = 0

    def __enter__(self) -> Self:
        make_folder(self._folder)
        remove_film(self._folder)
        with ExitStack() as stack:
            self._film = stack.enter_context(write_atomically(self._folder / "overlay.mp4"))
            lines = stack.enter_context(write_atomically(self._folder / "poses.jsonl"))
            self._lines = stack.enter_context(lines.open("w", encoding="utf-8"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error) -> None:
        if self._video is not None:
            self._video.release()
        self._stack.__exit__(*error)
        if error[0] is None:
            self._derive()

    def add(self, time: float, overlay: np.ndarray, poses: Sequence[ObjectPose], seconds: float) -> None:
        """A frame at a time (s) with its poses, which took so many seconds."""
        found = [{"track": pose.track} | pose.to_dict() for pose in poses]
        entry = {"frame": self._frames, "time": time, "seconds": round(seconds, 4), "poses": found}
        print(json.dumps(entry), file=self._lines, flush=True)
        self._frames += 1
        self._show(overlay, round(time * self._rate) + 1)

    def _show(self, overlay: np.ndarray, until: int) -> None:
        height, width = overlay.shape[:2]
        if self._video is None:
            code = cv2.VideoWriter_fourcc(*CODEC)
            self._video = cv2.VideoWriter(str(self._film), code, self._rate, (width, height))
            if not self._video.isOpened():
                raise InputError(f"{self._folder / 'overlay.mp4'}: OpenCV cannot write videos here")
        bgr = cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR)
        for _ in range(max(1, until - self._shown)):
            self._video.write(bgr)
            self._shown += 1

    def _derive(self) -> None:
        """The files that repeat the poses in other forms."""
        with ExitStack() as stack:
            trajectories = {}
            for entry in self._entries():
                for pose in entry["poses"]:
                    if pose["track"] not in trajectories:
                        name = f"trajectory_{pose['track']}_{_plain(pose['object'])}.txt"
                        temporary = stack.enter_context(write_atomically(self._folder / name))
                        trajectories[pose["track"]] = stack.enter_context(temporary.open("w"))
                    numbers = entry["time"], *pose["translation"], *pose["quaternion_xyzw"]
                    print(*(f"{number:.9g}" for number in numbers), file=trajectories[pose["track"]])
        write_csv(self._folder / "poses.csv", map(self._result, self._entries()))
        write_picture(self._folder / "agreement.png", plot_agreement(self._entries()))

    def _entries(self) -> Iterator[dict]:
        with open(self._folder / "poses.jsonl", encoding="utf-8") as lines:
            yield from map(json.loads, lines)

    def _result(self, entry: dict) -> ImageResult:
        poses = [
            FoundPose(
                confidence=pose["confidence"],
                detection_score=1.0,
                inlier_ratio=pose["inlier_ratio"],
                template=pose["template"],
                matches=(),
                obj_id=1 + self._names.index(pose["object"]),
                score=pose["confidence"],
                rotation=tuple(np.array(pose["cam_from_obj"])[:3, :3].ravel().tolist()),
                translation=tuple(pose["translation"]),
            )
            for pose in entry["poses"]
        ]
        return ImageResult(0, entry["frame"], entry["seconds"], tuple(poses))


def remove_film(folder: Path) -> None:
    """Removes the results of an earlier video."""
    known = ("overlay.mp4", "poses.jsonl", "poses.csv", "agreement.png")
    for stale in (*folder.glob("trajectory_*.txt"), *(folder / name for name in known)):
        stale.unlink(missing_ok=True)


def _plain(name: str) -> str:
    """A name that a file may have."""
    return re.sub(r"[^\w.-]+", "_", name)
