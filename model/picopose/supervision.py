"""What the network should have answered, computed from a training pair alone.

Dense positions for matching and flow, the 2D similarity for affine, and disturbed starts for flow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from picopose.model.picopose.affine import SCALE_RANGE, Similarity, object_origin
from picopose.utils.geometry import (
    cell_centres,
    depths_at,
    invert,
    project,
    rotation_between,
    sample,
    sample_depth,
    transform,
    unproject,
)
from picopose.utils.records import Pair, Record, View

# A point is hidden where the photo's surface is nearer, or elsewhere, by more than this share of the width
# (in metres, at the point's depth) of what the crop shows.
DEPTH_TOLERANCE = 0.01

# Cells whose position in the real crop the neighbouring pixels' depth would move by more are left out.
MAX_KINK_PX = 0.1

# Standard deviations of the starts' noise (one of each is drawn for every batch) and where it is cut off;
# px are of a crop of 224 px.
SCALE_STDS = (0.01, 0.05, 0.1, 0.15, 0.2)  # of the scale's logarithm
ANGLE_STDS_DEG, MAX_ANGLE_DEG = (1.0, 2.0, 5.0, 10.0, 15.0), 45.0
SHIFT_STDS_PX, MAX_SHIFT_PX = (2.0, 5.0, 10.0, 15.0, 20.0), 56.0
MAX_LOG_SCALE = 0.6
NOISE_CROP_PX = 224


@dataclass(frozen=True)
class Positions(Record):
    """Where the surface seen at the centres of n x n template cells (row-major) lies in the real crop."""

    xy: Tensor  # (B, n*n, 2) px; 0 where the template shows no surface
    visible: Tensor  # (B, n*n) bool: the template shows it, and the photo too
    known: Tensor  # (B, n*n) bool: false at the template's edges, where neither can be told


@dataclass(frozen=True)
class Truth(Record):
    """What the network should answer to a batch of pairs."""

    positions: tuple[Positions, ...]  # at the sides of the three levels, coarse to fine
    similarity: Similarity


@torch.no_grad()
def truth_of(pair: Pair, *, cells: int, viewing_ray: bool) -> Truth:
    """The truth for a network with cells x cells patches; viewing_ray: see `true_similarity`."""
    return Truth(
        positions=true_positions(pair, sides=(cells, 2 * cells, 4 * cells)),
        similarity=true_similarity(pair, viewing_ray=viewing_ray),
    )


def true_positions(pair: Pair, *, sides: Sequence[int]) -> tuple[Positions, ...]:
    """The true positions in the real crop of all cells of the template, on grids of several sides.

    A cell is visible if the template shows the object there and its surface point lies inside the real crop
    at the depth that the photo has there: hidden by nothing, itself included. The photo's mask has no say:
    like a detector's it may be wrong, while depth tells what is seen. Cells within a pixel of an edge or a
    sharp bend of the template's surface are left out, since depth between pixels is not known there.
    """
    size, depth = pair.template.depth.shape[-1], pair.template.depth
    grids = [cell_centres(side, size, depth.device) for side in sides]
    found = _positions(pair, torch.cat(grids).to(depth.dtype))  # a GPU is slower to start than to compute
    xy, visible, known = (part.split([len(grid) for grid in grids], dim=1) for part in found)
    return tuple(map(Positions, xy, visible, known))


def _positions(pair: Pair, centres: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The fields of `Positions` of cells with centres (N, 2) px."""
    template, size = pair.template, pair.template.depth.shape[-1]
    step = torch.eye(2, dtype=centres.dtype, device=centres.device)[:, None]
    around = torch.cat([centres[None], centres + step, centres - step])  # itself, right, below, left, above
    around = around.expand(len(template.depth), -1, -1, -1)
    nearest, interpolated = depths_at(template.depth, around.flatten(1, 2))
    interpolated = interpolated.unflatten(1, around.shape[1:3])
    nearest = nearest[:, : len(centres)]
    depth = torch.where(interpolated[:, 0] > 0, interpolated[:, 0], nearest)
    shown = (depth > 0) & _on(template.mask, around[:, 0])
    xy, means, z = _moved_with_means(pair, around[:, 0], depth, interpolated)
    # A kink of a piecewise linear function within half a pixel changes the mean of both sides by at least as
    # much as it changes the function interpolated between two pixels, so this bounds the error of `xy`.
    straight = ((means - xy[:, None]).norm(dim=-1) < MAX_KINK_PX).all(dim=1)
    smooth = shown & (interpolated > 0).all(dim=1) & straight
    inside = (z > 0) & ((xy > -0.5) & (xy < size - 0.5)).all(dim=-1)
    visible = smooth & inside & _unhidden(pair.real, xy, z)
    return xy.masked_fill(~smooth[..., None], 0.0), visible, smooth | ~shown


def _on(mask: Tensor, xy: Tensor) -> Tensor:
    return sample(mask[:, None].to(xy.dtype), xy, mode="nearest")[:, 0] > 0.5


def _moved_with_means(
    pair: Pair, centres: Tensor, depth: Tensor, around: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Where centres (B, N, 2) at depths (B, N) lie in the real crop: px (B, N, 2) and depth (B, N).

    In between: where they would lie at the mean (of inverse depth) of both sides of the depths `around`
    (B, 5, N), from left to right and from above to below: px (B, 2, N, 2).
    """
    inverse = around[:, 1:].clamp(min=1e-9).reciprocal()
    mean = 2 / (inverse[:, :2] + inverse[:, 2:])
    depths = torch.cat([depth[:, None], mean], dim=1)
    moved, z = _moved(pair, centres.repeat(1, 3, 1), depths.flatten(1))
    moved = moved.unflatten(1, depths.shape[1:])
    return moved[:, 0], moved[:, 1:], z[:, : centres.shape[1]]


def _moved(pair: Pair, xy: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
    """Where template pixels (B, N, 2) at depths (B, N) lie in the real crop: px (B, N, 2), depth (B, N)."""
    real_from_template = pair.real.cam_from_obj @ invert(pair.template.cam_from_obj)
    xyz = transform(real_from_template, unproject(pair.template.K, xy, depth))
    z = xyz[..., 2]
    return project(pair.real.K, xyz.masked_fill(~(z > 0)[..., None], 1.0)), z


def _unhidden(view: View, xy: Tensor, depth: Tensor) -> Tensor:
    """(B, N) bool: whether the view's surface at xy (B, N, 2) px has the given depths (B, N) m."""
    surface = sample_depth(view.depth, xy)
    focal = (view.K[:, 0, 0] * view.K[:, 1, 1]).sqrt()[:, None]
    width = depth * view.depth.shape[-1] / focal  # m, of what the crop shows at that depth
    return (surface > 0) & ((surface - depth).abs() < DEPTH_TOLERANCE * width)


def patch_of(xy: Tensor, *, cells: int, size: int) -> Tensor:
    """Index (..., N) long, row-major, of the patch that holds each position xy (..., N, 2) px in the crop."""
    column, row = ((xy + 0.5) * (cells / size)).floor().long().clamp(0, cells - 1).unbind(-1)
    return row * cells + column


def true_similarity(pair: Pair, *, viewing_ray: bool) -> Similarity:
    """The 2D transform from which `affine.pose_from_similarity` makes the true pose as nearly as it can.

    Translation and depth come back exactly; the rotation up to the templates' out-of-plane difference.

    Args:
        viewing_ray: the convention of the in-plane angle, as in `affine.pose_from_similarity`.
    """
    real, template = pair.real, pair.template
    origins = [object_origin(view.K, view.cam_from_obj) for view in (real, template)]
    focal = [(view.K[:, 0, 0] * view.K[:, 1, 1]).sqrt() for view in (real, template)]
    depth_ratio = template.cam_from_obj[:, 2, 3] / real.cam_from_obj[:, 2, 3]
    turn = real.cam_from_obj[:, :3, :3] @ template.cam_from_obj[:, :3, :3].mT
    if viewing_ray:
        to_real, to_template = _axis_to_rays([real, template])
        turn = to_real.mT @ turn @ to_template
    # The rotation about z nearest to `turn` (largest trace of the remainder).
    cosine, sine = turn[:, 0, 0] + turn[:, 1, 1], turn[:, 1, 0] - turn[:, 0, 1]
    return Similarity(
        translation=origins[0] - origins[1],
        scale=focal[0] / focal[1] * depth_ratio,
        rotation=torch.nn.functional.normalize(torch.stack([cosine, sine], dim=-1), dim=-1),
    )


def _axis_to_rays(views: Sequence[View]) -> Tensor:
    """(len(views), B, 3, 3): the smallest rotations from the optical axis to the ray through the origin."""
    origins = torch.stack([view.cam_from_obj[:, :3, 3] for view in views])
    axis = torch.eye(3, dtype=origins.dtype, device=origins.device)[2]
    return rotation_between(axis.expand_as(origins), torch.nn.functional.normalize(origins, dim=-1))


@dataclass(frozen=True)
class StartNoise(Record):
    """How far from the truth flow starts in training, for every sample of a batch."""

    log_scale: Tensor  # (B,)
    angle: Tensor  # (B,) rad
    shift: Tensor  # (B, 2) px


def draw_noise(batch: int, *, size: int, generator: torch.Generator) -> StartNoise:
    """Noise for a batch at crops of `size` px, each of its three standard deviations drawn once per batch."""

    def pick(stds: tuple[float, ...]) -> float:
        return stds[torch.randint(len(stds), (1,), generator=generator).item()]

    stds = pick(SCALE_STDS), pick(ANGLE_STDS_DEG), pick(SHIFT_STDS_PX)
    unit = torch.randn(batch, 4, generator=generator)
    log_scale = (stds[0] * unit[:, 0]).clamp(-MAX_LOG_SCALE, MAX_LOG_SCALE)
    angle_deg = (stds[1] * unit[:, 1]).clamp(-MAX_ANGLE_DEG, MAX_ANGLE_DEG)
    shift = (stds[2] * unit[:, 2:]).clamp(-MAX_SHIFT_PX, MAX_SHIFT_PX) * (size / NOISE_CROP_PX)
    return StartNoise(log_scale, torch.deg2rad(angle_deg), shift)


def disturb(similarity: Similarity, noise: StartNoise) -> Similarity:
    """A similarity turned, scaled and shifted by noise, the first two about the object's projected origin.

    `Similarity` itself turns and scales about that origin, so its parts can be disturbed one by one.
    """
    (cosine, sine), (c, s) = similarity.rotation.unbind(-1), (noise.angle.cos(), noise.angle.sin())
    return Similarity(
        translation=similarity.translation + noise.shift,
        scale=(similarity.scale * noise.log_scale.exp()).clamp(*SCALE_RANGE),
        rotation=torch.stack([cosine * c - sine * s, sine * c + cosine * s], dim=-1),
    )
