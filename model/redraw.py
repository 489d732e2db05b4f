"""Refines poses without training: the object is drawn at its pose and matched to the photo; then PnP."""

from dataclasses import dataclass, replace

import torch

from picopose.model.drawn.matcher import REACH, Matcher, load_matcher
from picopose.model.drawn.solving import THRESHOLD, draw, solve
from picopose.model.stage import Setup, Stage, check_poses
from picopose.utils.config_files import options_of
from picopose.utils.records import Estimates, Frame
from picopose.utils.stopwatch import Stopwatch

NEEDS = ("meshes",)


@dataclass
class Options:
    """Entries of `options.redraw`."""

    times: int = 2

    def __post_init__(self):
        if self.times < 0:
            raise ValueError(f"times is {self.times}; it must not be negative")


class Redraw(Stage):
    """Poses are drawn, matched and solved again; a pose that cannot be solved stays as it is.

    Args:
        times: how often to do so.
        seed: of RANSAC.
    """

    def __init__(self, matcher: Matcher, *, times: int, seed: int = 0, stopwatch: Stopwatch | None = None):
        self.matcher, self.times, self.seed = matcher, times, seed
        self.stopwatch = stopwatch or Stopwatch(running=False)

    @torch.inference_mode()
    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        frame, found = frame.to(self.matcher.device), found.to(self.matcher.device)
        if len(found) == 0:
            return found
        check_poses(found, "redraw")
        with self.stopwatch("crop"):
            detections, owner = found.by_group()
            query = self.matcher.look_at(frame, detections.mask)
        for _ in range(self.times):
            with self.stopwatch("render"):
                drawn = draw(self.things.drawings, found, query.crop.K[owner]).to(self.matcher.device)
            with self.stopwatch("match and solve"):
                matches = self.matcher.match(query, owner, drawn, reach=REACH)
                found = solve(found, matches, query.crop.K[owner], frame.K, THRESHOLD, self.seed)
        return replace(found, cam_from_obj=found.cam_from_obj.float())


def make_stage(setup: Setup) -> Redraw:
    times, seed = options_of(setup.config, "redraw", Options).times, setup.config.test.seed
    return Redraw(load_matcher(setup), times=times, seed=seed, stopwatch=setup.stopwatch)
