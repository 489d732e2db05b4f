"""Draws objects at their poses, and solves for better poses from matches of the drawings and the photo."""

from dataclasses import replace

import torch
from torch import Tensor

from picopose.model.drawn.matcher import SIZE
from picopose.model.solve.pnp import solve_pnp
from picopose.model.stage import Drawings
from picopose.utils.geometry import project, transform
from picopose.utils.records import Correspondences, Drawing, Estimates, Matches

THRESHOLD = 5.0  # px of the crop: largest error of an inlier, of poses that were found before
SHOWN = 48  # matches kept for pictures


def draw(drawings: Drawings, found: Estimates, K: Tensor) -> Drawing:
    """The objects at their poses, through the cameras K (N, 3, 3) of their crops; on the CPU."""
    return drawings.draw(found.obj_id.tolist(), found.cam_from_obj, K, SIZE)


def solve(
    found: Estimates, matches: Correspondences, K: Tensor, photo_K: Tensor, threshold: float, seed: int
) -> Estimates:
    """Estimates with the poses (float64) that matches (N, ...) give; unsolved ones keep their pose.

    K (N, 3, 3) of the crops that the matches are in, photo_K (3, 3); threshold: px of the crop.
    """
    solution = solve_pnp(matches, K.double(), threshold_px=threshold, seed=seed)
    before = found.cam_from_obj.double()
    pose = torch.where(solution.solved[:, None, None], solution.cam_from_obj.double(), before)
    shown = some_matches(matches, solution.inliers, pose, K, photo_K)
    return replace(found, cam_from_obj=pose, inlier_ratio=solution.inlier_ratio.float(), matches=shown)


def inliers_of(
    matches: Correspondences, cam_from_obj: Tensor, K: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    """Which matches (N, T) lie within a threshold, px of the crop, at a pose; and their share (N,) of weight.

    cam_from_obj (N, 4, 4) m; K (N, 3, 3) of the crops.
    """
    xy = project(K.double(), transform(cam_from_obj.double(), matches.xyz.double()))
    inliers = (xy - matches.xy).norm(dim=-1) < threshold
    weight = matches.weight.clamp(min=0)
    return inliers, (weight * inliers).sum(1) / weight.sum(1).clamp(min=1e-9)


def no_matches(count: int, device: torch.device) -> Matches:
    """Placeholders for poses without matches to show."""
    none = torch.zeros(count, SHOWN, 2, device=device)
    return Matches(none, none, none[..., 0], drawn=True)


def some_matches(
    matches: Correspondences, inliers: Tensor, cam_from_obj: Tensor, K: Tensor, photo_K: Tensor
) -> Matches:
    """At most `SHOWN` of the inliers (N, T), in px of the photo, and where the pose projects them.

    cam_from_obj (N, 4, 4) m; K (N, 3, 3) and photo_K (3, 3) are the cameras of crops and photo.
    """
    weight = matches.weight * inliers
    index = weight.topk(min(SHOWN, weight.shape[1]), dim=1).indices
    at = index[..., None]
    photo_from_crop = photo_K.double() @ torch.linalg.inv(K.double())
    xyz = transform(cam_from_obj.double(), matches.xyz.gather(1, at.expand(-1, -1, 3)).double())
    return Matches(
        photo=transform(photo_from_crop, matches.xy.gather(1, at.expand(-1, -1, 2)).double()).float(),
        template=project(photo_K.double(), xyz).float(),
        weight=weight.gather(1, index),
        drawn=True,
    )
