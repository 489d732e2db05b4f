"""Refines poses without training: the object is drawn at its pose and matched to the photo there; PnP.

What `rendermatch` ends with and `confidence` judges by.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from picopose.model.rendermatch.matcher import SIZE, Matcher, load_matcher
from picopose.model.solve.pnp import solve_pnp
from picopose.model.stage import Drawings, Setup, Stage, Things
from picopose.utils.config import options_of
from picopose.utils.geometry import project, transform
from picopose.utils.records import Correspondences, Drawing, Estimates, Frame, Matches
from picopose.utils.stopwatch import Stopwatch

NEEDS = ("meshes",)
REACH = 5  # cells between matches
THRESHOLD = 5.0  # px of the crop, of inliers


@dataclass
class Options:
    """Entries of `options.redraw`."""

    times: int = 2

    def __post_init__(self):
        if self.times < 0:
            raise ValueError(f"times is {self.times}; it must not be negative")


class Redraw(Stage):
    """Poses are drawn, matched and solved again; what cannot be solved stays as it is.

    Args:
        times: how often.
        seed: of RANSAC.
    """

    def __init__(self, matcher: Matcher, *, times: int, seed: int = 0, stopwatch: Stopwatch | None = None):
        self.matcher, self.times, self.seed = matcher, times, seed
        self.stopwatch = stopwatch or Stopwatch(running=False)

    def prepare(self, things: Things) -> None:
        self.drawings = things.drawings

    @torch.inference_mode()
    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        frame, found = frame.to(self.matcher.device), found.to(self.matcher.device)
        if len(found) == 0:
            return found
        with self.stopwatch("crop"):
            detections, owner = found.by_group()
            query = self.matcher.look_at(frame, detections.mask)
        for _ in range(self.times):
            with self.stopwatch("render"):
                drawn = draw(self.drawings, found, query.crop.K[owner]).to(self.matcher.device)
            with self.stopwatch("match and solve"):
                matches = self.matcher.match(query, owner, drawn, reach=REACH)
                found = solve(found, matches, query.crop.K[owner], frame.K, THRESHOLD, self.seed)
        return replace(found, cam_from_obj=found.cam_from_obj.float())


def make_stage(setup: Setup) -> Redraw:
    times, seed = options_of(setup.config, "redraw", Options).times, setup.config.test.seed
    return Redraw(load_matcher(setup), times=times, seed=seed, stopwatch=setup.stopwatch)


def draw(drawings: Drawings, found: Estimates, K: Tensor) -> Drawing:
    """The objects at their poses, through the cameras K (N, 3, 3) of their crops; on the CPU."""
    return drawings.draw(found.obj_id.tolist(), found.cam_from_obj, K, SIZE)


def solve(
    found: Estimates, matches: Correspondences, K: Tensor, photo_K: Tensor, threshold: float, seed: int
) -> Estimates:
    """Estimates with the poses (float64) that matches (N, ...) give; where they give none, with their own.

    K (N, 3, 3) of the crops that the matches are in, photo_K (3, 3); threshold: px of the crop.
    """
    solution = solve_pnp(matches, K.double(), threshold_px=threshold, seed=seed)
    before = found.cam_from_obj.double()
    pose = torch.where(solution.solved[:, None, None], solution.cam_from_obj.double(), before)
    shown = some_matches(matches, solution.inliers, pose, K, photo_K)
    return replace(found, cam_from_obj=pose, inlier_ratio=solution.inlier_ratio.float(), matches=shown)


def some_matches(
    matches: Correspondences,
    inliers: Tensor,
    cam_from_obj: Tensor,
    K: Tensor,
    photo_K: Tensor,
    *,
    count: int = 48,
) -> Matches:
    """At most `count` of the matches (N, T) that agree, in px of the photo, and where the pose shows them.

    cam_from_obj (N, 4, 4) m; K (N, 3, 3) and photo_K (3, 3) are the cameras of crops and photo.
    """
    weight = matches.weight * inliers
    index = weight.topk(min(count, weight.shape[1]), dim=1).indices
    at = index[..., None]
    photo_from_crop = photo_K.double() @ torch.linalg.inv(K.double())
    xyz = transform(cam_from_obj, matches.xyz.gather(1, at.expand(-1, -1, 3)).double())
    return Matches(
        photo=transform(photo_from_crop, matches.xy.gather(1, at.expand(-1, -1, 2)).double()).float(),
        template=project(photo_K.double(), xyz).float(),
        weight=weight.gather(1, index),
    )
