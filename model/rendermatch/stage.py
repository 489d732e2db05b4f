"""Render and match: poses without any training, from general features of renderings and photo.

It follows the paper's levels with means that need no training: (1) views are ranked by ImageNet features;
(2) the best ones give a 2D transform and so a pose; (3) the object is drawn at that pose and matched to the
crop by XFeat's descriptors, and PnP solves for the final pose. A hypothesis's support is how well its
rendering agrees with the photo.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from picopose.model.batches import Batches
from picopose.model.drawn.crops import at_depth_one
from picopose.model.drawn.matcher import BATCH, Matcher, Query, load_matcher
from picopose.model.drawn.solving import draw, solve
from picopose.model.methods import find_module, is_method, stage_names
from picopose.model.prepared_files import GIGABYTE, prepared_files
from picopose.model.rendermatch.agreement import agreement, look_of, look_of_drawing
from picopose.model.rendermatch.imagenet import ImageNetFeatures, load_imagenet
from picopose.model.rendermatch.views import ViewBank, poses_of_views, rank, turned_maps
from picopose.model.stage import Setup, Stage, Things
from picopose.utils.config import Config
from picopose.utils.config_files import options_of
from picopose.utils.errors import InputError
from picopose.utils.records import Drawing, Estimates, Frame
from picopose.utils.stopwatch import Stopwatch

REACH = 8  # cells that a match may lie away from its place in the drawing
THRESHOLD = 8.0  # px of the crop: largest error of an inlier


@dataclass
class Options:
    """Entries of `options.rendermatch`."""

    turns: int = 8  # in-plane rotations that are tried; 1: upright objects only

    def __post_init__(self):
        if self.turns < 1:
            raise ValueError(f"turns is {self.turns}; it must be positive")


class RenderMatchStage(Stage):
    """Estimates poses for the detections in a photo.

    Args:
        bank: makes the view bank of the run's things.
        hypotheses: views tried for each detection.
        turns: in-plane rotations that are tried; 1: upright objects only.
        batch: hypotheses that go through the ImageNet network at once.
        seed: of RANSAC.
    """

    def __init__(
        self,
        imagenet: ImageNetFeatures,
        matcher: Matcher,
        bank: Callable[[Things], ViewBank],
        *,
        hypotheses: int = 10,
        turns: int = 8,
        batch: int = 16,
        seed: int = 0,
        stopwatch: Stopwatch | None = None,
    ):
        self.imagenet, self.matcher, self.bank = imagenet.eval(), matcher, bank
        self.hypotheses, self.turns = hypotheses, turns
        self.batches, self.seed = Batches(batch), seed
        self.stopwatch = stopwatch or Stopwatch(running=False)

    def open(self, things: Things) -> None:
        self.views = self.bank(things)

    def prepare_object(self, obj_id: int) -> None:
        self.views.get(obj_id)

    def forget(self, obj_id: int) -> None:
        super().forget(obj_id)
        self.views.forget(obj_id)

    @torch.inference_mode()
    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        """Several hypotheses for every row; poses that rows already have are ignored.

        Rows of one group are different objects that the same detection may show.
        """
        frame, found = frame.to(self.matcher.device), found.to(self.matcher.device)
        if len(found) == 0:
            return found
        detections, shown_in = found.by_group()
        with self.stopwatch("crop"):
            query = self.matcher.look_at(frame, detections.mask)
        with self.stopwatch("rank views"):
            found, row = self._start(frame, found, query, shown_in)
        owner = shown_in[row]
        K = query.crop.K[owner]
        drawn = self._draw(found, K)
        with self.stopwatch("match"):
            matches = self.matcher.match(query, owner, drawn, reach=REACH)
        with self.stopwatch("solve"):
            found = solve(found, matches, K, frame.K, THRESHOLD, self.seed)
        drawn = self._draw(found, K)
        with self.stopwatch("compare"):
            return replace(found, support=self._agreement(drawn, query, owner))

    def _start(
        self, frame: Frame, found: Estimates, query: Query, shown_in: Tensor
    ) -> tuple[Estimates, Tensor]:
        """The best views of each row, at the poses that the 2D transforms give; and the row (H,) of each.

        shown_in: (N,) index of each row's region.
        """
        parts = self.batches.run(
            lambda part: turned_maps(self.imagenet, query.crop[part], self.turns), len(query.cells)
        )
        maps, cells = (torch.cat(values) for values in zip(*parts, strict=True))
        centre, diameter = at_depth_one(query.regions, frame.K)
        rows, chosen, poses = [], [], []
        for row, (i, obj_id) in enumerate(zip(shown_in.tolist(), found.obj_id.tolist(), strict=True)):
            views = self.views.get(obj_id)
            ranked = rank(maps[i : i + 1], cells[i : i + 1], views, self.hypotheses)[0]
            k = len(ranked.view)
            pose = poses_of_views(
                views.cam_from_obj[ranked.view],
                views.circle[ranked.view],
                ranked.turn.double() * (2 * torch.pi / self.turns),
                centre[i].expand(k, 2),
                diameter[i].expand(k),
            )
            rows.append(torch.full_like(ranked.view, row))
            chosen.append(ranked.view)
            poses.append(pose)
        row = torch.cat(rows)
        return replace(found[row], view=torch.cat(chosen), cam_from_obj=torch.cat(poses)), row

    def _draw(self, found: Estimates, K: Tensor) -> Drawing:
        with self.stopwatch("render"):
            return draw(self.things.drawings, found, K).to(self.matcher.device)

    def _agreement(self, drawn: Drawing, query: Query, owner: Tensor) -> Tensor:
        """(H,) of each drawing with its crop."""
        look = look_of(self.imagenet, query.crop)
        parts = self.batches.run(
            lambda part: agreement(look[owner[part]], look_of_drawing(self.imagenet, drawn[part])), len(owner)
        )
        return torch.cat(parts)


def make_stage(setup: Setup) -> RenderMatchStage:
    config, imagenet = setup.config, load_imagenet().to(setup.device)
    _check(config)
    memory, n_views = config.runtime.template_memory * GIGABYTE, config.test.views

    def bank(things: Things) -> ViewBank:
        return ViewBank(prepared_files(config), imagenet, things, n_views=n_views, memory=memory)

    return RenderMatchStage(
        imagenet,
        load_matcher(setup),
        bank,
        hypotheses=config.test.hypotheses,
        turns=options_of(config, "rendermatch", Options).turns,
        batch=config.runtime.batch or BATCH,
        seed=config.test.seed,
        stopwatch=setup.stopwatch,
    )


def _check(config: Config) -> None:
    """Refuses a checkpoint, unless the run has a method beside this one's own stages, which may read it."""
    own = find_module("rendermatch").STAGES
    if config.checkpoint and all(name in own for name in stage_names(config) if is_method(name)):
        raise InputError(
            f"{config.checkpoint}: method rendermatch takes no checkpoint; pass the config of its network, "
            "or a refiner's checkpoint as options.refine.weights"
        )
