"""Poses from correspondences: RANSAC for a batch of PnP problems of unequal sizes, on CPU and CUDA alike.

The last step of the pipeline, which solves the 2D-3D matches of all detections and hypotheses at once.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from picopose.model.solve.p3p import COLLINEAR, p3p, p3p_in_places
from picopose.model.solve.reprojection import Points, anneal, joined, msac, noise, refine, residuals
from picopose.utils.geometry import rigid
from picopose.utils.records import Correspondences, Record

# Every problem is resampled to POOL points. Triples are drawn from them; all hypotheses of a round are scored
# on the first SCREEN points, the best SCREENED of each problem on the first SIFT, and the best OPTIMISED of
# those are refined there and compared on the whole pool.
POOL, SIFT, SCREEN = 1024, 512, 128
SCREENED, OPTIMISED = 32, 4
# A triple's noise grows in its pose, so hypotheses are scored with so many times the threshold.
LENIENCE = 6.0
# Standard deviations of the local optimisation's steps, in thresholds: the first draw a rough pose near.
GRADUATION = (4.0, 4.0, 2.0, 1.0, 0.5)
# A problem rests once it has drawn a triple of inliers with this probability.
CONFIDENCE = 0.9999
# With fewer inliers a pose is not moved: six unknowns need three, and chance some more.
LEAST_INLIERS = 8


@dataclass(frozen=True)
class Rounds:
    """How hypotheses are drawn and tried: as suits a device. The poses are as good either way."""

    first: int  # triples per problem in the first round; every later round has three times what came before
    packed: bool  # whether hypotheses are tried without gaps, which takes less time but waits for the device


ON_CPU, ON_GPU = Rounds(first=128, packed=True), Rounds(first=2048, packed=False)


@dataclass(frozen=True)
class PnPResult(Record):
    """Poses of B problems. Where `solved` is false the pose is the identity and nothing is an inlier."""

    cam_from_obj: Tensor  # (B, 4, 4) m
    inlier_ratio: Tensor  # (B,) share of the weight within the threshold
    inliers: Tensor  # (B, N) bool
    solved: Tensor  # (B,) bool


@torch.no_grad()
def solve_pnp(
    matches: Correspondences,
    K: Tensor,
    *,
    threshold_px: float | Tensor = 2.0,
    iterations: int = 8192,
    seed: int = 0,
    rounds: Rounds | None = None,
) -> PnPResult:
    """The camera poses under which most of the matches' weight lies within a threshold.

    RANSAC (Fischler and Bolles, 1981) with P3P, the MSAC score (Torr and Zisserman, 2000), scoring in stages
    (Nistér, "Preemptive RANSAC", 2005) and local optimisation (Chum et al., "LO-RANSAC", 2003) by
    Levenberg-Marquardt. Points are drawn in proportion to their weight, and weigh so in the final fit.
    A problem's outcome does not depend on the others of the batch, save for rounding.

    Not solved are problems with fewer than four usable points (three have up to four poses, and the fourth
    has to choose), with all inliers on a line or on three spots, and those whose inliers could be chance.
    A point is usable if its weight is positive and its coordinates are finite.

    Args:
        matches: xy (B, N, 2) in px, xyz (B, N, 3) and weight (B, N); of any floating type.
        K: (B, 3, 3) cameras of the pixels xy.
        threshold_px: largest distance of an inlier from its projection, one for all or (B,).
        iterations: triples drawn at most per problem; 8192 find a pose among 10 % inliers.
        seed: of the only random numbers, which are the same for each problem.
        rounds: None takes those for the matches' device.
    """
    threshold = _thresholds(threshold_px, K)
    points, centre, spread = _normalised(matches, K)
    if points.weight.numel() == 0:
        return _result(matches, torch.zeros_like(matches.weight, dtype=torch.bool), K.new_zeros(len(K), 3, 4))
    rounds = rounds or (ON_CPU if K.device.type == "cpu" else ON_GPU)
    with torch.autocast(K.device.type, enabled=False), _exact_products():
        pose, cost = _search(points, threshold, iterations, rounds, torch.Generator().manual_seed(seed))

    pose, inliers = _settled(points, pose[:, None], threshold, steps=2)
    meaningful = _log_false_alarms(points, inliers, threshold) < 0
    solved = (cost < torch.inf) & _spread_out(points, inliers) & meaningful

    return _result(matches, inliers & solved[:, None], torch.cat(_in_metres(pose, centre, spread), dim=-1))


@torch.no_grad()
def improve_pose(
    matches: Correspondences, K: Tensor, cam_from_obj: Tensor, *, threshold_px: float | Tensor
) -> Tensor:
    """The poses (B, 4, 4) float64 that matches pull given ones to.

    No random search as `solve_pnp` is: the points' pull is followed from the pose on, about their middle, at
    first with wide limits. Right where the pose is near, and where few matches of one spot would admit any.
    A pose stays as it is where the matches do not tell another.

    Args:
        matches, K, threshold_px: as for `solve_pnp`.
    """
    threshold = _thresholds(threshold_px, K)
    points, centre, spread = _normalised(matches, K)
    start = cam_from_obj.double()
    rotation = start[:, :3, :3]
    shift = (start[:, :3, 3:] + rotation @ centre[..., None]) / spread[:, None, None]
    pose = torch.cat([rotation, shift], dim=-1)[:, None]
    pose = anneal(points, pose, threshold, GRADUATION)
    pose, inliers = _settled(points, pose, threshold, steps=3)
    R, t = _in_metres(pose, centre, spread)
    found = rigid(R, t[..., 0])
    sound = found.isfinite().all(dim=2).all(dim=1) & (t[:, 2, 0] > 0) & (inliers.sum(1) >= LEAST_INLIERS)
    return torch.where(sound[:, None, None], found, start)


def _thresholds(threshold_px: float | Tensor, K: Tensor) -> Tensor:
    """(B,) float64 on the device of K."""
    if isinstance(threshold_px, Tensor):
        return threshold_px.to(K.device, torch.float64).expand(len(K))
    return torch.full((len(K),), threshold_px, dtype=torch.float64, device=K.device)


def _settled(points: Points, pose: Tensor, threshold: Tensor, *, steps: int) -> tuple[Tensor, Tensor]:
    """Poses (B, 1, 3, 4) after the last steps, by the points' own noise, and their inliers (B, N) bool."""
    pose = refine(points, pose, noise(points, pose, threshold), steps=steps)
    return pose, (residuals(points, pose)[:, 0] < threshold[:, None] ** 2) & (points.weight > 0)


def _in_metres(pose: Tensor, centre: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations (B, 3, 3) and translations (B, 3, 1) m of poses (B, 1, 3, 4) of `_normalised` points."""
    R, t = pose[:, 0, :, :3], pose[:, 0, :, 3:]
    return R, t * spread[:, None, None] - R @ centre[..., None]


def _result(matches: Correspondences, inliers: Tensor, pose: Tensor) -> PnPResult:
    solved = inliers.any(1)
    cam_from_obj = rigid(pose[..., :3], pose[..., 3])
    identity = torch.eye(4, dtype=pose.dtype, device=pose.device)
    cam_from_obj = torch.where(solved[:, None, None], cam_from_obj, identity)
    weight = torch.where(matches.weight > 0, matches.weight, 0.0)
    ratio = (weight * inliers).sum(1) / weight.sum(1).clamp(min=torch.finfo(weight.dtype).tiny)
    return PnPResult(cam_from_obj.to(matches.xyz.dtype), ratio, inliers, solved)


def _normalised(matches: Correspondences, K: Tensor) -> tuple[Points, Tensor, Tensor]:
    """The points about their centre (B, 3) in units of their spread (B,); unusable ones weigh 0. Float64."""
    coordinates = torch.cat([matches.xyz.mT, matches.xy.mT], dim=1).double()
    unusable = ~((matches.weight > 0) & (coordinates.abs().amax(1) < torch.inf))  # false for NaN
    weight = matches.weight.double().masked_fill(unusable, 0)
    xyz, xy = coordinates.masked_fill(unusable[:, None], 0).split([3, 2], dim=1)
    share = weight / weight.sum(1, keepdim=True).clamp(min=1e-300)
    centre = (xyz @ share[:, :, None])[..., 0]
    xyz = (xyz - centre[..., None]).masked_fill(unusable[:, None], 0)
    spread = (xyz.square() @ share[:, :, None]).sum((1, 2)).sqrt()
    spread = spread.masked_fill(spread == 0, 1)
    camera = K.to(torch.float64, copy=True)
    xyz, xy = xyz / spread[:, None, None], xy - camera[:, :2, 2:]
    camera[:, :2, 2] = 0
    return Points(xyz, xy, weight, camera), centre, spread


@contextmanager
def _exact_products() -> Iterator[None]:
    """Without TF32 on CUDA, which would cost whole pixels."""
    before, torch.backends.cuda.matmul.fp32_precision = torch.backends.cuda.matmul.fp32_precision, "ieee"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def _search(
    points: Points, threshold: Tensor, iterations: int, rounds: Rounds, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The best pose (B, 3, 4) found for each problem, and its MSAC cost (B,): infinite if there is none."""
    pool = _pool(points, generator)
    samples = torch.cat([_rays(pool), pool.xyz], dim=1)  # (B, 6, POOL)
    pool, limit = pool.to(torch.float32), threshold.to(torch.float32)
    pose = torch.eye(3, 4, dtype=torch.float64, device=threshold.device).repeat(len(threshold), 1, 1)
    cost = torch.full_like(limit, torch.inf)
    active, done = slice(None), 0  # of the problems, at first all
    while done < iterations:
        count = min(max(rounds.first, 3 * done), iterations - done)
        triples = torch.randint(POOL, (3, count), generator=generator).to(threshold.device)
        new_pose, new_cost = _round(
            pool[active], samples[active], triples, limit[active], packed=rounds.packed
        )
        better = new_cost < cost[active]
        cost[active] = torch.where(better, new_cost, cost[active])
        pose[active] = torch.where(better[:, None, None], new_pose, pose[active])
        done += count
        if done == iterations:
            break
        share = (residuals(pool, pose[:, None])[:, 0] < limit[:, None] ** 2).double().mean(1)
        missed = (1 - share**3) ** done  # the probability that no triple was of inliers alone
        active = (missed > 1 - CONFIDENCE).nonzero()[:, 0]
        if not len(active):
            break
    return pose, cost


def _pool(points: Points, generator: torch.Generator) -> Points:
    """POOL points of each problem, of weight 1, and each repeated as often as its own weight demands.

    The multiples of the golden ratio spread any number of first points evenly over a problem's points.
    """
    start = torch.rand((), generator=generator, dtype=torch.float64)
    share = (start + torch.arange(POOL, dtype=torch.float64) * (math.sqrt(5) - 1) / 2) % 1
    total = points.weight.cumsum(1)
    index = torch.searchsorted(total, share.to(total.device) * total[:, -1:], right=True)
    index = index.clamp(max=total.shape[1] - 1)[:, None]
    xyz, xy = (value.gather(2, index.expand(-1, value.shape[1], -1)) for value in (points.xyz, points.xy))
    return Points(xyz, xy, torch.ones_like(xyz[:, 0]), points.camera)


def _rays(points: Points) -> Tensor:
    """Unit viewing directions (B, 3, M)."""
    xy1 = F.pad(points.xy, (0, 0, 0, 1), value=1.0)
    rays = torch.linalg.inv_ex(points.camera).inverse @ xy1
    return rays / rays.norm(dim=1, keepdim=True)


def _round(
    pool: Points, samples: Tensor, triples: Tensor, threshold: Tensor, *, packed: bool
) -> tuple[Tensor, Tensor]:
    """The best pose (B, 3, 4) from triples (3, S) of the pool, locally optimised, and its MSAC cost (B,)."""
    lenient = LENIENCE * threshold
    # So many triples at a time keep within a processor's cache or a GPU's memory.
    block = max(1, (2**13 if samples.device.type == "cpu" else 2**18) // len(threshold))
    screened = []
    for some in triples.split(block, dim=1):
        pose, exists = (_packed if packed else _in_places)(_drawn(samples, some))
        cost = msac(pool.first(SCREEN), pose, lenient).masked_fill(~exists, torch.inf)
        screened.append(_best(pose, cost, SCREENED))
    pose, cost = _best(*(joined(parts) for parts in zip(*screened, strict=True)), SCREENED)
    sift = pool.first(SIFT)
    pose, cost = _best(pose, torch.where(cost < torch.inf, msac(sift, pose, lenient), cost), OPTIMISED)
    pose = anneal(sift, pose, threshold, GRADUATION)
    pose, cost = _best(pose, torch.where(cost < torch.inf, msac(pool, pose, threshold), cost), 1)
    return pose[:, 0], cost[:, 0]


def _drawn(samples: Tensor, triples: Tensor) -> Tensor:
    """The samples (B, 6, POOL) of the triples (3, S): rays and points (3, 6, B, S)."""
    batch, count = len(samples), triples.shape[1]
    chosen = samples.gather(2, triples.flatten().expand(batch, 6, -1)).view(batch, 6, 3, count)
    return chosen.permute(2, 1, 0, 3)


def _packed(drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Poses (B, H, 3, 4) of the triples (3, 6, B, S), and which are not padding (B, H)."""
    batch, count = drawn.shape[2:]
    drawn = drawn.flatten(2)
    pose, triple = p3p(drawn[:, :3], drawn[:, 3:])
    problem = triple // count  # in rising order
    start = torch.searchsorted(problem, torch.arange(batch + 1, device=problem.device))
    number = start.diff()
    width = max(1, int(number.max()))
    place = problem * width + torch.arange(len(problem), device=problem.device) - start[problem]
    padded = pose.new_zeros(batch * width, 12).index_copy_(0, place, pose.flatten(0, 1).T)
    exists = torch.arange(width, device=number.device) < number[:, None]
    return padded.view(batch, width, 3, 4), exists


def _in_places(drawn: Tensor) -> tuple[Tensor, Tensor]:
    """As `_packed`, four places for each triple: poses (B, 4 S, 3, 4)."""
    batch, count = drawn.shape[2:]
    drawn = drawn.flatten(2)
    pose, exists = p3p_in_places(drawn[:, :3], drawn[:, 3:])
    return pose.view(batch, 4 * count, 3, 4), exists.view(batch, 4 * count)


def _best(pose: Tensor, cost: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The poses (B, count, 3, 4) of least cost (B, count); all of them if there are no more."""
    if cost.shape[1] <= count:
        return pose, cost
    cost, index = cost.topk(count, dim=1, largest=False)
    return pose.gather(1, index[..., None, None].expand(-1, -1, 3, 4)), cost


def _spread_out(points: Points, inliers: Tensor) -> Tensor:
    """Whether the inliers (B, N) are on four or more different spots that do not lie on one line (B,)."""
    xyz, outliers = points.xyz, ~inliers

    def farthest(measure: Tensor) -> Tensor:
        index = measure.masked_fill(outliers, -1).argmax(1)
        return xyz.gather(2, index[:, None, None].expand(-1, 3, 1))

    def squared(vectors: Tensor) -> Tensor:
        return vectors.square().sum(1)

    first = farthest(squared(xyz))
    from_first = squared(xyz - first)
    second = farthest(from_first)
    from_second, axis = squared(xyz - second), second - first
    length = squared(axis)
    area = from_first * length - (axis.mT @ (xyz - first))[:, 0] ** 2  # squared, by Pythagoras
    third = farthest(area)
    gap = torch.minimum(torch.minimum(from_first, from_second), squared(xyz - third))
    largest = torch.stack([area / length, gap]).masked_fill(outliers, 0).amax(2)
    return largest.amin(0) > COLLINEAR**2 * length[:, 0]


def _log_false_alarms(points: Points, inliers: Tensor, threshold: Tensor) -> Tensor:
    """Logarithm (B,) of the number of poses with as many inliers that are expected in random matches.

    The a-contrario criterion (Moisan and Stival, IJCV 2004; for P3P: Moulon et al., ACCV 2012), with
    points that lie anywhere in the box of the observed ones.
    """
    usable = points.weight > 0
    unusable = ~usable[:, None]
    low = points.xy.masked_fill(unusable, torch.inf).amin(2)
    high = points.xy.masked_fill(unusable, -torch.inf).amax(2)
    chance = (2 * threshold[:, None] / (high - low)).clamp(0, 1).prod(1)
    n, k = (which.sum(1, dtype=torch.float64) for which in (usable, inliers))
    # How often three of the k inliers make up to four poses: n! / (n - k)! / k! times k! / (k - 3)! / 3!, ...
    choices = torch.lgamma(n + 1) - torch.lgamma(n - k + 1) - torch.lgamma(k - 2) + math.log(4 / 6)
    alarms = choices + torch.log(n - 3) + torch.xlogy(k - 3, chance)
    return alarms.masked_fill(k <= 3, torch.inf)
