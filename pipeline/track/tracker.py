"""Follows objects through a video: each pose is refined from the last one, and lost objects are searched for.

`tracker = estimator.track(K)`, `tracker.start(frame, boxes=[...])`, then `tracker.update(frame)` per frame.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike

from picopose.datasets.masks.regions import box_mask
from picopose.model.stage import Stage, Things
from picopose.pipeline.conversions import AnyMask, Photo, as_camera, as_frame, as_photo
from picopose.pipeline.object_pose import ObjectPose
from picopose.pipeline.prepared_object import PreparedObject, find_object, object_pose
from picopose.pipeline.run import run_judged
from picopose.pipeline.starts import box_about
from picopose.pipeline.track.one_track import Track
from picopose.pipeline.track.search import regions
from picopose.utils.errors import InputError
from picopose.utils.records import Estimates, Frame, Mask

LOG = logging.getLogger(__name__)
LOST, FOUND = 0.1, 0.6  # confidence below which a pose is doubted; needed to find a lost object again
MARGIN = 0.08  # around the box in which an object is followed, in longer sides: for unpredicted motion
SAME = 0.5  # IoU above which two boxes show the same object


class Tracker:
    """Follows objects through a video; made by `PoseEstimator.track`.

    Args:
        objects: by name; more may be added to them later.
        estimate: `PoseEstimator.estimate`, which finds the first poses.
        finding: stages that find a pose in a box, and judge it.
        following: stages that refine a given pose, and judge it.
        K: camera (3, 3), or fx, fy, cx, cy, in px.
        cropped: see `PoseEstimator.estimate`.

    Attributes:
        tracks: in the order in which they were started.
    """

    def __init__(
        self,
        objects: Mapping[str, PreparedObject],
        things: Things,
        estimate: Callable[..., list[ObjectPose]],
        finding: Sequence[Stage],
        following: Sequence[Stage],
        K: ArrayLike,
        *,
        cropped: bool = False,
    ):
        self.tracks: list[Track] = []
        self._objects, self._things, self._estimate = objects, things, estimate
        self._finding, self._following = finding, following
        self._K, self._cropped, self._time = as_camera(K), cropped, -1.0

    def start(
        self,
        frame: Photo,
        boxes: ArrayLike | None = None,
        masks: AnyMask | Sequence[AnyMask] | None = None,
        objects: str | Sequence[str | None] | None = None,
        *,
        time: float | None = None,
    ) -> list[ObjectPose]:
        """Starts following objects, and returns their poses; see `PoseEstimator.estimate`.

        Without boxes and masks the objects are searched for, in this frame and the next ones.
        """
        height, width = as_photo(frame).shape[:2]
        if boxes is not None or masks is not None:
            poses = self._estimate(frame, self._K, boxes, masks, objects, cropped=self._cropped)
            self._go_on_to(time)
            tracks = [self._begin(pose.name, width, height, pose.box) for pose in poses]
            return [track.see(pose, self._time) for track, pose in zip(tracks, poses, strict=True)]
        for name in [objects] if isinstance(objects, str) else objects or self._objects:
            self._begin(name, width, height)
        return self.update(frame, time)

    def _begin(self, name: str, width: int, height: int, box: np.ndarray | None = None) -> Track:
        obj = find_object(self._objects, name)
        hull = self._things.drawings.hull(obj.id).numpy()
        track = Track(len(self.tracks), obj, hull, self._K.numpy(), regions(box, width, height))
        self.tracks.append(track)
        return track

    def update(self, frame: Photo, time: float | None = None) -> list[ObjectPose]:
        """The poses in the next frame of all objects that are not lost, in the order of their start.

        Where the pose found does not look right, the one predicted from the motion is returned, with the
        verdict `wrong`. After several such frames the object is lost, and is searched for.

        Args:
            frame: see `image` of `PoseEstimator.estimate`.
            time: s, later than before; None for frames at equal intervals.
        """
        if not self.tracks:
            raise InputError("nothing to follow: start the tracker with the frame before")
        self._go_on_to(time)
        seen = replace(as_frame(frame, self._K, cropped=self._cropped), time=self._time)
        poses = self._follow(seen) | self._search(seen)
        return [poses[number] for number in sorted(poses)]

    def _go_on_to(self, time: float | None) -> None:
        later = self._time + 1 if time is None else float(time)
        if not later > self._time:
            raise InputError(f"time {later:g} is not later than {self._time:g}: give frames in their order")
        self._time = later

    def _present(self) -> list[Track]:
        """The tracks of objects that have not been removed since."""
        return [track for track in self.tracks if track.obj.id in self._things.by_id]

    def _follow(self, frame: Frame) -> dict[int, ObjectPose]:
        """The poses of the objects that are followed, by the numbers of their tracks."""
        followed = [track for track in self._present() if not track.lost]
        refined = self._refine(
            frame, [(track, pose) for track in followed for pose in track.guesses(self._time)]
        )
        poses = {}
        for track in followed:
            pose = refined.get(track.number)
            if pose is not None and pose.confidence >= LOST:
                poses[track.number] = track.see(pose, self._time)
            elif track.doubt():
                LOG.warning("%s is lost at %g: looking for it", track.obj.name, self._time)
                track.search = regions(track.last.box, *frame.rgb.shape[:0:-1])
            else:
                where = track.obj.cam_from_file(track.predict(self._time))
                doubtful = 0.0 if pose is None else pose.confidence
                poses[track.number] = replace(track.last, cam_from_obj=where, confidence=doubtful)
        return poses

    def _search(self, frame: Frame) -> dict[int, ObjectPose]:
        """Searches one place for each lost object; the poses found, by the numbers of their tracks."""
        lost = [track for track in self._present() if track.lost]
        if not lost:
            return {}
        masks = [box_mask(next(track.search), *frame.rgb.shape[1:]) for track in lost]
        start = Estimates.of([track.obj.id for track in lost], masks)
        start = replace(start, track=torch.tensor([track.number for track in lost]))
        found = run_judged(frame, self._things, self._finding, start)
        at = zip(found.track.tolist(), found.cam_from_obj.double().numpy(), strict=True)
        guesses = [(self.tracks[number], pose) for number, pose in at]
        guesses += [(track, pose) for track in lost for pose in track.guesses(self._time)]
        near = self._refine(frame, guesses)  # twice: they are less exact than predictions
        again = [(t, t.obj.cam_from_centre(near[t.number])) for t in lost if t.number in near]
        poses = {}
        for number, pose in self._refine(frame, again).items():
            track = self.tracks[number]
            if pose.confidence >= FOUND and not self._is_followed(pose):
                LOG.info("%s is found at %g", track.obj.name, self._time)
                poses[number] = track.see(pose, self._time)
        return poses

    def _refine(self, frame: Frame, guesses: Sequence[tuple[Track, np.ndarray]]) -> dict[int, ObjectPose]:
        """The best pose of each track, by its number, refined from guesses (4, 4) of the objects' centres.

        Guesses outside the photo are left out.
        """
        regions = [self._region(track, pose, frame) for track, pose in guesses]
        seen = [i for i, region in enumerate(regions) if region is not None]
        if not seen:
            return {}
        start = replace(
            Estimates.of([guesses[i][0].obj.id for i in seen], [regions[i] for i in seen]),
            cam_from_obj=torch.from_numpy(np.stack([guesses[i][1] for i in seen])).float(),
            track=torch.tensor([guesses[i][0].number for i in seen]),
        )
        found = run_judged(frame, self._things, self._following, start)
        best: dict[int, ObjectPose] = {}
        for row, number in enumerate(found.track.tolist()):
            pose = object_pose(found, row, self.tracks[number].obj, found.box[row].tolist())
            if number not in best or pose.confidence > best[number].confidence:
                best[number] = pose
        return best

    def _region(self, track: Track, pose: np.ndarray, frame: Frame) -> Mask | None:
        """The box of an object at a pose (4, 4), with a margin; None where it is outside the photo."""
        box = box_about(torch.from_numpy(track.hull), torch.from_numpy(pose), frame.K)
        if box is None:
            return None
        left, top, right, bottom = box
        margin = MARGIN * max(right - left, bottom - top)
        wide = [left - margin, top - margin, right + margin, bottom + margin]
        try:
            return box_mask(wide, *frame.rgb.shape[1:])
        except InputError:
            return None

    def _is_followed(self, pose: ObjectPose) -> bool:
        """Whether another track of the same object is where a pose was found."""
        others = [track.last for track in self._present() if not track.lost and track.obj.name == pose.name]
        return any(_overlap(pose.box, other.box) > SAME for other in others)


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boxes (4,)."""
    both = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    shared = float(both.clip(0).prod())
    areas = [float((box[2:] - box[:2]).prod()) for box in (first, second)]
    return shared / (sum(areas) - shared)
