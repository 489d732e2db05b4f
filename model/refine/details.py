"""Adds matches of fine detail, by XFeat's descriptors, to those of the flow."""

import torch

from picopose.model.drawn.matcher import Matcher, Query
from picopose.model.drawn.solving import draw
from picopose.model.refine.compare import Comparison
from picopose.model.stage import Drawings
from picopose.utils.geometry import transform
from picopose.utils.records import Correspondences, Estimates

REACH = 3  # cells that a match may lie away from its place in the drawing: poses are nearly right by now
WEIGHT = 3.0  # of a match of detail: there are fewer of them than of confident cells of the flow


def with_details(
    seen: Comparison,
    found: Estimates,
    query: Query,
    owner: torch.Tensor,
    matcher: Matcher,
    drawings: Drawings,
) -> Correspondences:
    """A comparison's matches together with those of detail, in the comparison's crops.

    query: what the photo shows of the detections; owner (B,): the detection of each estimate.
    """
    K = query.crop.K[owner]
    matches = matcher.match(query, owner, draw(drawings, found, K).to(matcher.device), reach=REACH)
    crop_from_crop = seen.drawn.K.double() @ torch.linalg.inv(K.double())
    xy = transform(crop_from_crop, matches.xy.double()).to(seen.matches.xy.dtype)
    details = Correspondences(xy, matches.xyz.to(seen.matches.xyz.dtype), WEIGHT * matches.weight)
    parts = (vars(seen.matches), vars(details))
    return Correspondences(**{name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]})
