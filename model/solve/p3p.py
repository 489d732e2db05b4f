"""The minimal solver of the pose estimation: camera poses from three points, for many triples at once.

The arithmetic is written out elementwise over the triples, so that CPU and CUDA run the same code.
"""

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from picopose.utils.records import Record

# A triangle whose doubled area is below this share of its longest side squared counts as a line.
COLLINEAR = 1e-3
# Relative difference below which two roots are taken for one.
DOUBLE = 1e-12
# Relative error of the squared sides that a solution may have after Newton's method.
CONVERGED = 1e-6

Conic = list[Tensor]  # entries 00, 01, 02, 11, 12, 22 of the symmetric matrix


def p3p(rays: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """All poses that put three points on three rays: up to four for each of S triples.

    The ratios of the three distances to the camera are where two conics intersect. A degenerate member of
    the conics' pencil is a pair of lines, and each line meets a conic twice (Persson and Nordberg, "Lambda
    Twist", ECCV 2018; Ding et al., "Revisiting the P3P Problem", CVPR 2023). As in Lambda Twist, Newton's
    method on the three distance equations then removes the rounding errors of these steps.

    Args:
        rays: (3, 3, S) unit directions in the camera frame: [i, j] is component j of ray i.
        points: (3, 3, S) points in the object frame, in the same order. Both should be float64.

    Returns:
        cam_from_obj (3, 4, V) of the V solutions, and the index of the triple that each solves (V,), in
        rising order. Collinear and coincident points have no solution.
    """
    triples = _Triples.of(rays, points)
    distances, real = triples.distances()
    triple, root = real.T.contiguous().nonzero().unbind(1)
    chosen = triples.map(lambda values: _take(values, triple))
    pose, exact = chosen.poses(_take(distances.flatten(1), root * real.shape[1] + triple))
    exact = exact.nonzero()[:, 0]
    return _take(pose, exact), triple[exact]


@torch.library.custom_op("picopose::p3p_in_places", mutates_args=())
def p3p_in_places(rays: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """The same poses (S, 4, 3, 4), four places for each triple, and which of them hold one (S, 4).

    More arithmetic than `p3p`, but its sizes are known beforehand: a GPU need not be waited for. There it is
    a single kernel, if Triton can build one.
    """
    return _in_many_steps(rays, points)


@p3p_in_places.register_kernel("cuda")
def _(rays: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    return (_kernel(rays.device) or _in_many_steps)(rays, points)


@functools.cache
def _kernel(device: torch.device) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """`p3p_triton.solve`, if it can be built for a card: that takes Triton, and a C compiler."""
    nothing = torch.zeros(3, 3, 1, dtype=torch.float64, device=device)
    try:
        from picopose.model.solve import p3p_triton

        p3p_triton.solve(nothing, nothing)
    except Exception as error:  # whatever the tools that Triton calls may raise
        reason = str(error).strip().split("\n")[-1]
        warnings.warn(
            f"P3P takes many small steps, as Triton cannot build its kernel: {reason}", stacklevel=2
        )
        return None
    return p3p_triton.solve


def _in_many_steps(rays: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    triples = _Triples.of(rays, points)
    distances, real = triples.distances()
    pose, exact = triples.map(lambda values: values[..., None, :]).poses(distances)
    return pose.permute(3, 2, 0, 1).contiguous(), (exact & real).T.contiguous()


@dataclass(frozen=True)
class _Triples(Record):
    """Rays and points of S triples, and what is known of their triangles."""

    rays: Tensor  # (3, 3, S)
    origin: Tensor  # (3, S), the first point
    axes: Tensor  # (3, 3, S), of the triangle: [i] is axis i
    longest: Tensor  # (S,) side squared
    sides: Tensor  # (3, S) 12, 23, 31, squared, in units of the longest
    cosines: Tensor  # (3, S) between the rays
    sound: Tensor  # (S,) bool, whether the points are apart and not on a line

    @classmethod
    def of(cls, rays: Tensor, points: Tensor) -> "_Triples":
        edges = points.roll(-1, 0) - points  # 12, 23, 31
        sides = (edges**2).sum(1)
        longest = sides.amax(0)
        normal = _cross(edges[0], edges[1])
        sound = _dot(normal, normal) > (COLLINEAR * longest) ** 2
        cosines = (rays * rays.roll(-1, 0)).sum(1)
        axes = _triad(edges[0], -edges[2])
        return cls(rays, points[0], axes, longest, sides / longest, cosines, sound)

    def distances(self) -> tuple[Tensor, Tensor]:
        """Distances (3, 4, S) of the points in units of the longest side, and which are solutions (4, S)."""
        distances = _distances(self.sides, self.cosines)
        return distances, (distances.amin(0) > 0) & self.sound  # false for NaN

    def poses(self, distances: Tensor) -> tuple[Tensor, Tensor]:
        """Poses (3, 4, ...) from distances (3, ...), and which are exact (...)."""
        distances, error = _polish(distances, self.sides, self.cosines)
        in_cam = distances[:, None] * self.longest.sqrt() * self.rays
        axes = _triad(in_cam[1] - in_cam[0], in_cam[2] - in_cam[0])
        rotation = (axes[:, :, None] * self.axes[:, None]).sum(0)
        shift = in_cam[0] - (rotation * self.origin).sum(1)
        pose = torch.cat([rotation, shift[:, None]], dim=1)
        return pose, (error < CONVERGED) & (distances.amin(0) > 0)


def _distances(sides: Tensor, cosines: Tensor) -> Tensor:
    """Distances (3, 4, S) of the points from the squared sides and ray cosines 12, 23, 31; NaN if complex."""
    a12, a23, a13 = sides
    c12, c23, c13 = cosines
    zero = torch.zeros_like(a12)
    # With (x, y, 1) = (d1, d2, d3) / d3, both conics state a ratio of squared sides.
    first = [a23, -a23 * c12, zero, a23 - a12, a12 * c23, -a12]
    second = [a23, zero, -a23 * c13, -a13, a13 * c23, a23 - a13]
    first_share, second_share = _degenerate(first, second)
    first, second = torch.stack(first), torch.stack(second)
    lines = torch.addcmul(first_share * first, second_share, second)
    # The conic further from the degenerate one; then x and y change places where that divides by more.
    other = torch.where(second_share.abs() > first_share.abs(), first, second)
    swap = lines[3].abs() > lines[0].abs()
    lines, other = (
        torch.where(swap, torch.stack([c[3], c[1], c[4], c[0], c[2], c[5]]), c) for c in (lines, other)
    )
    slope, offset = _line_pair(lines)  # x = slope y + offset, each (2, S)
    o00, o01, o02, o11, o12, o22 = other
    quadratic = torch.addcmul(o11, torch.addcmul(2 * o01, o00, slope), slope)
    half = torch.addcmul(torch.addcmul(o12, o02, slope), torch.addcmul(o01, o00, slope), offset)
    constant = torch.addcmul(o22, torch.addcmul(2 * o02, o00, offset), offset)
    # The stable formula: no difference of nearly equal numbers.
    q = -(half + torch.copysign(_difference(half**2, quadratic * constant).sqrt(), half))
    y = torch.stack([q / quadratic, constant / q])  # (2, 2, S)
    x = torch.addcmul(offset, slope, y)
    x, y = torch.where(swap, y, x), torch.where(swap, x, y)
    d3 = (a23 / (y**2 + 1 - 2 * c23 * y)).sqrt()
    return torch.stack([x * d3, y * d3, d3]).flatten(1, 2)


def _degenerate(a: Conic, b: Conic) -> tuple[Tensor, Tensor]:
    """Weights s, t that make s a + t b degenerate, one of them 1; a02 and b01 have to be 0."""
    a00, a01, _, a11, a12, a22 = a
    b00, _, b02, b11, b12, b22 = b
    a_minor, b_minor = (
        torch.addcmul(c11 * c22, c12, c12, value=-1) for c11, c12, c22 in ((a11, a12, a22), (b11, b12, b22))
    )
    k0 = torch.addcmul(a00 * a_minor, a01 * a01, a22, value=-1)
    k3 = torch.addcmul(b00 * b_minor, b02 * b02, b11, value=-1)
    k1 = (
        b00 * a_minor
        + a00 * torch.addcmul(b11 * a22, b12, a12, value=-2)
        + b22 * torch.addcmul(a00 * a11, a01, a01, value=-1)
        + 2 * a01 * a12 * b02
    )
    k2 = (
        a00 * b_minor
        + b00 * torch.addcmul(a22 * b11, a12, b12, value=-2)
        + a11 * torch.addcmul(b00 * b22, b02, b02, value=-1)
        + 2 * b02 * b12 * a01
    )
    swap = k0.abs() > k3.abs()
    k0, k1, k2, k3 = _where(swap, [k3, k2, k1, k0], [k0, k1, k2, k3])
    k3 = torch.where(k3 == 0, 1e-30, k3)  # then the root tends to infinity, and the weights to (0, 1)
    root = _cubic_root(k2 / k3, k1 / k3, k0 / k3)
    one = torch.ones_like(root)
    return torch.where(swap, root, one), torch.where(swap, one, root)


def _cubic_root(b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """The real root of x^3 + b x^2 + c x + d that lies farthest from the two others."""
    q = (b**2 - 3 * c) / 9
    r = ((2 * b**2 - 9 * c) * b + 27 * d) / 54
    size = q.clamp(min=0).sqrt()
    cosine = (r / size**3).clamp(-1, 1).nan_to_num()
    three = -2 * torch.copysign(size * torch.cos(torch.acos(cosine.abs()) / 3), r)
    radical = -torch.copysign((r.abs() + (r**2 - q**3).clamp(min=0).sqrt()) ** (1 / 3), r)
    one = radical + torch.where(radical == 0, 0.0, q / radical)
    x = torch.where(r**2 < q**3, three, one) - b / 3
    for _ in range(2):
        value = torch.addcmul(d, torch.addcmul(c, x + b, x), x)
        step = value / torch.addcmul(c, 3 * x + 2 * b, x)
        x = x - step.nan_to_num(0.0, 0.0, 0.0)
    return x


def _line_pair(conic: Conic) -> tuple[Tensor, Tensor]:
    """Slopes and offsets (2, S) of the lines x = slope y + offset that make up a conic; NaN if complex."""
    c00, c01, c02, c11, c12, c22 = conic
    # Solved for x, the root is taken of (s y + u)^2.
    ss, uu, su = c01**2 - c00 * c11, c02**2 - c00 * c22, c01 * c02 - c00 * c12
    larger = torch.maximum(_difference(c01**2, c00 * c11), _difference(c02**2, c00 * c22)).sqrt()
    other = torch.where(larger > 0, su / larger, 0.0)
    s, u = _where(ss > uu, [larger, other], [other, larger])
    return torch.stack([s - c01, -s - c01]) / c00, torch.stack([u - c02, -u - c02]) / c00


def _difference(a: Tensor, b: Tensor) -> Tensor:
    """a - b, or 0 where only rounding makes that negative: a double root stays real."""
    difference = a - b
    return torch.where(difference > -DOUBLE * (a.abs() + b.abs()), difference.clamp(min=0), difference)


def _side_errors(distances: Tensor, sides: Tensor, cosines: Tensor) -> Tensor:
    """What the law of cosines misses of the squared sides (3, ...)."""
    following = distances.roll(-1, 0)
    share = torch.addcmul(distances, cosines, following, value=-2)
    return torch.addcmul(following**2 - sides, share, distances)


def _polish(distances: Tensor, sides: Tensor, cosines: Tensor, steps: int = 2) -> tuple[Tensor, Tensor]:
    """Newton's method on the distances (3, ...), and the error (...) left; no step makes it larger."""
    errors = _side_errors(distances, sides, cosines)
    worst = errors.abs().amax(0)
    for _ in range(steps):
        following = distances.roll(-1, 0)
        u = torch.addcmul(distances, cosines, following, value=-1)
        v = torch.addcmul(following, cosines, distances, value=-1)
        # Half the Jacobian is [[u1, v1, 0], [0, u2, v2], [v3, 0, u3]]; its inverse, written out:
        u2, u3, v2, e2, e3 = (x.roll(-by, 0) for x, by in ((u, 1), (u, 2), (v, 1), (errors, 1), (errors, 2)))
        rest = torch.addcmul(u3 * e2, v2, e3, value=-1)
        solution = torch.addcmul(u2 * u3 * errors, v, rest, value=-1) / (u.prod(0) + v.prod(0))
        trial = distances.sub(solution, alpha=0.5)
        trial_errors = _side_errors(trial, sides, cosines)
        trial_worst = trial_errors.abs().amax(0)
        better = trial_worst < worst  # false for NaN, which a double root may give
        distances = torch.where(better, trial, distances)
        errors = torch.where(better, trial_errors, errors)
        worst = torch.where(better, trial_worst, worst)
    return distances, worst


def _take(values: Tensor, index: Tensor) -> Tensor:
    """values[..., index]; `gather` is several times faster than indexing on CPU."""
    return values.gather(-1, index.expand(*values.shape[:-1], -1))


def _triad(a: Tensor, b: Tensor) -> Tensor:
    """Orthonormal axes (3, 3, ...): along a (3, ...), across a towards b, and along a x b."""
    x = _unit(a)
    z = _unit(_cross(a, b))
    return torch.stack([x, _cross(z, x), z])


def _where(condition: Tensor, yes: list[Tensor], no: list[Tensor]) -> list[Tensor]:
    return [torch.where(condition, y, n) for y, n in zip(yes, no, strict=True)]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(0)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.cross(a, b, dim=0)


def _unit(a: Tensor) -> Tensor:
    return a * _dot(a, a).rsqrt()
