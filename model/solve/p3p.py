"""The minimal solver of the pose estimation: camera poses from three points, for many triples at once.

The arithmetic is written out elementwise over the triples, so that CPU and CUDA run the same code.
"""

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

Vector = list[Tensor]  # the three components
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
    return _take(pose, exact).unflatten(0, (3, 4)), triple[exact]


def p3p_in_places(rays: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """The same poses (3, 4, 4, S), four places for each triple, and which of them hold one (4, S).

    More arithmetic than `p3p`, but its sizes are known beforehand: a GPU need not be waited for.
    """
    triples = _Triples.of(rays, points)
    distances, real = triples.distances()
    pose, exact = triples.map(lambda values: values[..., None, :]).poses(distances)
    return pose.unflatten(0, (3, 4)), exact & real


@dataclass(frozen=True)
class _Triples(Record):
    """Rays and points of S triples, and what is known of their triangles."""

    rays: Tensor  # (3, 3, S)
    origin: Tensor  # (3, S), the first point
    axes: Tensor  # (3, 3, S), of the triangle: [i] is axis i
    longest: Tensor  # (S,) side squared
    sides: Tensor  # (3, S) 12, 13, 23, squared, in units of the longest
    cosines: Tensor  # (3, S) between the rays
    sound: Tensor  # (S,) bool, whether the points are apart and not on a line

    @classmethod
    def of(cls, rays: Tensor, points: Tensor) -> "_Triples":
        x1, x2, x3 = (list(point) for point in points)
        edge12, edge13, edge23 = _minus(x2, x1), _minus(x3, x1), _minus(x3, x2)
        sides = torch.stack([_dot(edge, edge) for edge in (edge12, edge13, edge23)])
        longest = sides.amax(0)
        normal = _cross(edge12, edge13)
        sound = _dot(normal, normal) > (COLLINEAR * longest) ** 2
        cosines = torch.stack([_dot(rays[i], rays[j]) for i, j in ((0, 1), (0, 2), (1, 2))])
        axes = torch.stack([c for axis in _triad(edge12, edge13) for c in axis]).unflatten(0, (3, 3))
        return cls(rays, points[0], axes, longest, sides / longest, cosines, sound)

    def distances(self) -> tuple[Tensor, Tensor]:
        """Distances (3, 4, S) of the points in units of the longest side, and which are solutions (4, S)."""
        distances = _distances(self.sides, self.cosines)
        return distances, (distances > 0).all(0) & self.sound  # false for NaN

    def poses(self, distances: Tensor) -> tuple[Tensor, Tensor]:
        """Poses (12, ...) by rows from distances (3, ...), and which are exact (...)."""
        distances, error = _polish(distances, self.sides, self.cosines)
        p1, p2, p3 = distances[:, None] * self.longest.sqrt() * self.rays
        in_cam = _triad(_minus(p2, p1), _minus(p3, p1))
        rotation = [
            [sum(c[i] * o[j] for c, o in zip(in_cam, self.axes, strict=True)) for j in range(3)]
            for i in range(3)
        ]
        rows = [(*row, p - _dot(row, self.origin)) for row, p in zip(rotation, p1, strict=True)]
        return torch.stack([e for row in rows for e in row]), (error < CONVERGED) & (distances > 0).all(0)


def _distances(sides: Tensor, cosines: Tensor) -> Tensor:
    """Distances (3, 4, S) of the points from the squared sides and ray cosines 12, 13, 23; NaN if complex."""
    a12, a13, a23 = sides
    c12, c13, c23 = cosines
    zero = torch.zeros_like(a12)
    # With (x, y, 1) = (d1, d2, d3) / d3, both conics state a ratio of squared sides.
    first = [a23, -a23 * c12, zero, a23 - a12, a12 * c23, -a12]
    second = [a23, zero, -a23 * c13, -a13, a13 * c23, a23 - a13]
    first_share, second_share = _degenerate(first, second)
    lines = [first_share * f + second_share * s for f, s in zip(first, second, strict=True)]
    # The conic further from the degenerate one; then x and y change places where that divides by more.
    other = _where(second_share.abs() > first_share.abs(), first, second)
    swap = lines[3].abs() > lines[0].abs()
    lines, other = (_where(swap, [c[3], c[1], c[4], c[0], c[2], c[5]], c) for c in (lines, other))
    slope, offset = _line_pair(lines)  # x = slope y + offset, each (2, S)
    o00, o01, o02, o11, o12, o22 = other
    quadratic = (o00 * slope + 2 * o01) * slope + o11
    half = (o00 * slope + o01) * offset + o02 * slope + o12
    constant = (o00 * offset + 2 * o02) * offset + o22
    # The stable formula: no difference of nearly equal numbers.
    q = -(half + torch.copysign(_difference(half**2, quadratic * constant).sqrt(), half))
    y = torch.stack([q / quadratic, constant / q])  # (2, 2, S)
    x = slope * y + offset
    x, y = torch.where(swap, y, x), torch.where(swap, x, y)
    d3 = (a23 / (y**2 + 1 - 2 * c23 * y)).sqrt()
    return torch.stack([x * d3, y * d3, d3]).flatten(1, 2)


def _degenerate(a: Conic, b: Conic) -> tuple[Tensor, Tensor]:
    """Weights s, t that make s a + t b degenerate, one of them 1; a02 and b01 have to be 0."""
    a00, a01, _, a11, a12, a22 = a
    b00, _, b02, b11, b12, b22 = b
    k0 = a00 * (a11 * a22 - a12**2) - a01**2 * a22
    k1 = (
        b00 * (a11 * a22 - a12**2)
        + b11 * a00 * a22
        + b22 * (a00 * a11 - a01**2)
        + 2 * (b02 * a01 * a12 - b12 * a00 * a12)
    )
    k2 = (
        a00 * (b11 * b22 - b12**2)
        + a11 * (b00 * b22 - b02**2)
        + a22 * b00 * b11
        + 2 * (a01 * b02 * b12 - a12 * b00 * b12)
    )
    k3 = b00 * (b11 * b22 - b12**2) - b02**2 * b11
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
        value = ((x + b) * x + c) * x + d
        step = value / ((3 * x + 2 * b) * x + c)
        x = torch.where(step.isfinite(), x - step, x)
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
    """What the law of cosines misses of the squared sides (3, V)."""
    d1, d2, d3 = distances
    pairs = zip((d1, d1, d2), (d2, d3, d3), cosines, sides, strict=True)
    return torch.stack([a * a + b * b - 2 * c * a * b - s for a, b, c, s in pairs])


def _polish(distances: Tensor, sides: Tensor, cosines: Tensor, steps: int = 2) -> tuple[Tensor, Tensor]:
    """Newton's method on the distances (3, V), and the error (V,) that is left; no step makes it larger."""
    c12, c13, c23 = cosines
    errors = _side_errors(distances, sides, cosines)
    worst = errors.abs().amax(0)
    for _ in range(steps):
        d1, d2, d3 = distances
        e1, e2, e3 = errors / 2
        u1, v1 = d1 - d2 * c12, d2 - d1 * c12
        u2, v2 = d1 - d3 * c13, d3 - d1 * c13
        u3, v3 = d2 - d3 * c23, d3 - d2 * c23
        # Half the Jacobian is [[u1, v1, 0], [u2, 0, v2], [0, u3, v3]]; its inverse, written out:
        s1 = v2 * u3 * e1 + v1 * v3 * e2 - v1 * v2 * e3
        s2 = u2 * v3 * e1 - u1 * v3 * e2 + u1 * v2 * e3
        s3 = -u2 * u3 * e1 + u1 * u3 * e2 + v1 * u2 * e3
        trial = distances - torch.stack([s1, s2, s3]) / (u1 * v2 * u3 + v1 * u2 * v3)
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


def _triad(a: Vector, b: Vector) -> list[Vector]:
    """Orthonormal axes: along a, across a towards b, and along a x b."""
    x = _unit(a)
    z = _unit(_cross(a, b))
    return [x, _cross(z, x), z]


def _where(condition: Tensor, yes: list[Tensor], no: list[Tensor]) -> list[Tensor]:
    return [torch.where(condition, y, n) for y, n in zip(yes, no, strict=True)]


def _minus(a: Vector, b: Vector) -> Vector:
    return [p - q for p, q in zip(a, b, strict=True)]


def _dot(a: Vector, b: Vector) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: Vector, b: Vector) -> Vector:
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]


def _scaled(factor: Tensor, a: Vector) -> Vector:
    return [factor * p for p in a]


def _unit(a: Vector) -> Vector:
    return _scaled(_dot(a, a).rsqrt(), a)
