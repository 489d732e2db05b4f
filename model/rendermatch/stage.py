"""Render and match: poses without any training, by general features of renderings and photo.

The paper's stages with means that need no training: views are ranked by ImageNet features; the best ones
give a 2D transform; the object is drawn at that pose and matched to the crop by XFeat's descriptors; PnP.
Of several hypotheses the one wins whose rendering agrees best with the photo; it is drawn and matched again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from picopose.model.batches import Batches
from picopose.model.picopose.stage import no_poses
from picopose.model.rendermatch.agreement import agreement, look_of, look_of_drawing
from picopose.model.rendermatch.imagenet import ImageNetFeatures
from picopose.model.rendermatch.matcher import SIZE, Matcher, Query
from picopose.model.rendermatch.views import ViewBank, ViewSource, poses_of_views, rank, turned_maps
from picopose.model.solve.pnp import PnPResult, solve_pnp
from picopose.utils.geometry import project, transform
from picopose.utils.records import Correspondences, Drawing, Matches, Observation, Poses, Record
from picopose.utils.stopwatch import Stopwatch

FIRST_REACH, REACH = 8, 5  # cells between matches, at a view's pose and when it is refined
FIRST_THRESHOLD, THRESHOLD = 8.0, 5.0  # px of the crop, of inliers


@dataclass(frozen=True)
class Hypotheses(Record):
    """Poses that are followed."""

    owner: Tensor  # (H,) long, the detection
    obj_id: Tensor  # (H,) long
    template: Tensor  # (H,) long, index among the object's views
    cam_from_obj: Tensor  # (H, 4, 4) float64 m


@dataclass(frozen=True)
class Solved(Record):
    """Matches, and what they were solved to."""

    matches: Correspondences
    solution: PnPResult


class RenderMatchStage:
    """Poses of the detections of a photo.

    Args:
        views: of the objects; source: draws them.
        hypotheses: views followed for each detection.
        turns: angles in the image at which objects may stand; 1 for upright ones alone.
        refinements: how often the winner is drawn and matched again.
        batch: hypotheses that go through the ImageNet network at once.
        seed: of RANSAC.
    """

    def __init__(
        self,
        imagenet: ImageNetFeatures,
        matcher: Matcher,
        views: ViewBank,
        source: ViewSource,
        *,
        hypotheses: int = 10,
        turns: int = 8,
        refinements: int = 2,
        batch: int = 16,
        seed: int = 0,
        stopwatch: Stopwatch | None = None,
    ):
        self.imagenet, self.matcher, self.views, self.source = imagenet.eval(), matcher, views, source
        self.device = matcher.device
        self.hypotheses, self.turns, self.refinements = hypotheses, turns, refinements
        self.batches, self.seed = Batches(batch), seed
        self.stopwatch = stopwatch or Stopwatch(running=False)

    def onboard(self, obj_ids: Iterable[int]) -> None:
        """Prepares the views of these objects."""
        for obj_id in obj_ids:
            self.views.get(obj_id)

    @torch.inference_mode()
    def predict(self, observation: Observation, poses: Poses | None = None) -> Poses:
        """Poses of all detections; an estimate of its own, so `poses` are not used."""
        observation = observation.to(self.device)
        if len(observation.obj_ids) == 0:
            return no_poses(self.device)
        with self.stopwatch("crop"):
            query = self.matcher.look_at(observation)
        with self.stopwatch("rank views"):
            found = self._start(query, observation)
        drawn = self._draw(found, query)
        found, solved = self._match(found, drawn, query, FIRST_REACH, FIRST_THRESHOLD)
        drawn = self._draw(found, query)
        agreed = self._agreement(found, drawn, query)
        best = best_of_each(agreed.view(len(observation.obj_ids), -1))
        found, solved, agreed = found[best], solved[best], agreed[best]
        for i in range(self.refinements):
            drawn = drawn[best] if i == 0 else self._draw(found, query)
            found, solved = self._match(found, drawn, query, REACH, THRESHOLD)
        return Poses(
            cam_from_obj=found.cam_from_obj.float(),
            score=observation.scores * agreed,
            inlier_ratio=solved.solution.inlier_ratio.float(),
            template=found.template,
            matches=some_matches(solved, found.cam_from_obj, query.crop.K, observation.K),
        )

    def _start(self, query: Query, observation: Observation) -> Hypotheses:
        """Stages 1 and 2: the best views of each detection, placed as the 2D transform says."""
        count, K = len(observation.obj_ids), observation.K.double()
        parts = self.batches.run(lambda part: turned_maps(self.imagenet, query.crop[part], self.turns), count)
        maps, cells = (torch.cat(values) for values in zip(*parts, strict=True))
        centre = (query.regions.centre - K[:2, 2]) / torch.stack([K[0, 0], K[1, 1]])
        diameter = query.regions.diameter / (K[0, 0] * K[1, 1]).sqrt()
        found = []
        for i, obj_id in enumerate(observation.obj_ids.tolist()):
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
            owner = torch.full_like(ranked.view, i)
            found.append(Hypotheses(owner, torch.full_like(owner, obj_id), ranked.view, pose))
        return Hypotheses.cat(found)

    def _draw(self, found: Hypotheses, query: Query) -> Drawing:
        """The objects at the hypotheses' poses, through the crops' cameras."""
        with self.stopwatch("render"):
            K = query.crop.K[found.owner]
            return self.source.draw(found.obj_id.tolist(), found.cam_from_obj, K, SIZE).to(self.device)

    def _match(
        self, found: Hypotheses, drawn: Drawing, query: Query, reach: int, threshold: float
    ) -> tuple[Hypotheses, Solved]:
        """Stage 3: hypotheses with the poses that the matches of their renderings give; else as they were."""
        with self.stopwatch("match"):
            matches = self.matcher.match(query, found.owner, drawn, reach=reach)
        with self.stopwatch("solve"):
            K = query.crop.K[found.owner].double()
            solution = solve_pnp(matches, K, threshold_px=threshold, seed=self.seed)
            solved = solution.solved[:, None, None]
            pose = torch.where(solved, solution.cam_from_obj.double(), found.cam_from_obj)
        return replace(found, cam_from_obj=pose), Solved(matches, solution)

    def _agreement(self, found: Hypotheses, drawn: Drawing, query: Query) -> Tensor:
        """(H,) of the renderings with the crops."""
        with self.stopwatch("choose"):
            look = look_of(self.imagenet, query.crop)
            parts = self.batches.run(
                lambda part: agreement(look[found.owner[part]], look_of_drawing(self.imagenet, drawn[part])),
                len(found.owner),
            )
            return torch.cat(parts)


def best_of_each(score: Tensor) -> Tensor:
    """Flat indices (B,) of the best of each row of (B, k)."""
    return score.argmax(dim=1) + score.shape[1] * torch.arange(len(score), device=score.device)


def some_matches(
    solved: Solved, cam_from_obj: Tensor, crop_K: Tensor, photo_K: Tensor, *, count: int = 48
) -> Matches:
    """At most `count` of the matches (B, T) that agree, in px of the photo, and where the pose shows them.

    cam_from_obj (B, 4, 4) m; crop_K (B, 3, 3) and photo_K (3, 3) are the cameras.
    """
    weight = solved.matches.weight * solved.solution.inliers
    index = weight.topk(min(count, weight.shape[1]), dim=1).indices
    at = index[..., None]
    photo_from_crop = photo_K.double() @ torch.linalg.inv(crop_K.double())
    xyz = transform(cam_from_obj, solved.matches.xyz.gather(1, at.expand(-1, -1, 3)).double())
    return Matches(
        photo=transform(photo_from_crop, solved.matches.xy.gather(1, at.expand(-1, -1, 2)).double()).float(),
        template=project(photo_K.double(), xyz).float(),
        weight=weight.gather(1, index),
    )
