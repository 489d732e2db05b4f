"""Verifies candidates: the object is placed where a template resembles the photo, drawn and compared."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from picopose.model.batches import Batches
from picopose.model.detect.search import Candidates
from picopose.model.detect.templates import TURNS, Templates
from picopose.model.drawn.cells import half_covered
from picopose.model.drawn.crops import at_depth_one
from picopose.model.drawn.matcher import SIZE, Matcher, Query
from picopose.model.drawn.solving import draw, inliers_of, solve
from picopose.model.drawn.xfeat import STRIDE
from picopose.model.rendermatch.agreement import agreement, look_of, look_of_drawing
from picopose.model.rendermatch.imagenet import ImageNetFeatures
from picopose.model.rendermatch.views import poses_of_views
from picopose.model.stage import Drawings
from picopose.utils.geometry import transform
from picopose.utils.masks import boxes_about
from picopose.utils.records import Drawing, Estimates, Frame, Mask, Record

REACH = 8  # cells that a match may lie away from its place in the drawing
THRESHOLD, NEAR = 8.0, 10.0  # px of the crop: largest error of PnP's inliers, and of matches that count


@dataclass(frozen=True)
class Evidence(Record):
    """Evidence that an object is at B places: one number (B,) of each kind."""

    resemblance: Tensor  # of photo and template, see `search.Candidates.score`
    matched: Tensor  # share of the drawn object's cells with a match that is near
    agreement: Tensor  # of photo and drawing within the silhouette

    def table(self) -> Tensor:
        """(B, F), a column for each field."""
        return torch.stack(list(vars(self).values()), dim=1).nan_to_num()


class Verifier:
    """Places an object at candidates by PnP, and gathers the evidence for it."""

    def __init__(self, imagenet: ImageNetFeatures, matcher: Matcher, *, batch: int, seed: int):
        self.imagenet, self.matcher = imagenet, matcher
        self.batches, self.seed = Batches(batch), seed

    def __call__(
        self, frame: Frame, obj_id: int, candidates: Candidates, templates: Templates, drawings: Drawings
    ) -> tuple[Estimates, Evidence]:
        """Poses of an object at candidates (M), with the boxes of their silhouettes, and evidence (M)."""
        device = self.matcher.device
        found = Estimates.of([obj_id] * len(candidates.score), _windows(candidates)).to(device)
        query = self.matcher.look_at(frame, found.mask)
        K, owner = query.crop.K, torch.arange(len(found), device=device)
        found = replace(found, cam_from_obj=_poses(query, candidates, templates, frame.K))
        drawn = draw(drawings, found, K).to(device)
        matches = self.matcher.match(query, owner, drawn, reach=REACH)
        found = solve(found, matches, K, frame.K, THRESHOLD, self.seed)
        near, _ = inliers_of(matches, found.cam_from_obj, K, NEAR)
        cells = half_covered(drawn.mask, SIZE // STRIDE).sum((1, 2)).clamp(min=1)
        drawn = draw(drawings, found, K).to(device)
        evidence = Evidence(
            resemblance=candidates.score,
            matched=(near & (matches.weight > 0)).sum(1) / cells,
            agreement=self._agreement(query, drawn),
        )
        return replace(found, box=_boxes(drawn.mask, K, frame.K, candidates.box)), evidence

    def _agreement(self, query: Query, drawn: Drawing) -> Tensor:
        """(B,) of drawings with what the photo shows within their silhouettes."""
        inside = replace(query.crop, mask=drawn.mask)
        parts = self.batches.run(
            lambda part: agreement(
                look_of(self.imagenet, inside[part]), look_of_drawing(self.imagenet, drawn[part])
            ),
            len(drawn.mask),
        )
        return torch.cat(parts)


def _windows(candidates: Candidates) -> list[Mask]:
    """Square boxes around the circles of candidates; they may reach beyond the photo."""
    first = candidates.centre + 0.5 - candidates.diameter[:, None] / 2
    boxes = torch.cat([first, first + candidates.diameter[:, None]], dim=1)
    return [Mask(box, None) for box in boxes.round().long()]


def _poses(query: Query, candidates: Candidates, templates: Templates, K: Tensor) -> Tensor:
    """cam_from_obj (M, 4, 4) float64 of objects that look as the templates do."""
    view = candidates.template // TURNS
    # The template was turned to look like the photo, so the photo has to be turned the other way.
    angle = -(candidates.template % TURNS).double() * (2 * torch.pi / TURNS)
    centre, diameter = at_depth_one(query.regions, K)
    return poses_of_views(templates.cam_from_obj[view], templates.circle[view], angle, centre, diameter)


def _boxes(masks: Tensor, crop_K: Tensor, photo_K: Tensor, otherwise: Tensor) -> Tensor:
    """Boxes (B, 4) px of the photo around silhouettes (B, S, S) in crops; `otherwise` for empty ones."""
    photo_from_crop = photo_K.double() @ torch.linalg.inv(crop_K.double())
    corners = boxes_about(masks).double().view(-1, 2, 2)
    boxes = transform(photo_from_crop, corners - 0.5).flatten(1) + 0.5
    return torch.where(masks.any(1).any(1)[:, None], boxes.to(otherwise.dtype), otherwise)
