"""P3P on a GPU in one kernel, written in Triton: `p3p.p3p_in_places`, which launches 340 without it.

Steps and names are those of `p3p`, which explains them, for a block of triples at a time. Only the root of
the cubic is found in another way, as Triton has no arc cosine.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from picopose.model.solve import p3p

BLOCK = 128  # triples
COLLINEAR, DOUBLE, CONVERGED = (tl.constexpr(value) for value in (p3p.COLLINEAR, p3p.DOUBLE, p3p.CONVERGED))


def solve(rays: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Poses (S, 4, 3, 4) and which places hold one (S, 4), of float64 rays and points (3, 3, S)."""
    count = rays.shape[2]
    rays, points = (
        values if values.stride()[1:] == (count, 1) else values.contiguous() for values in (rays, points)
    )
    pose = rays.new_empty(count, 4, 3, 4)
    exists = torch.empty(count, 4, dtype=torch.bool, device=rays.device)
    with torch.cuda.device_of(rays):
        grid = (triton.cdiv(count, BLOCK), 4)
        _poses[grid](rays, rays.stride(0), points, points.stride(0), pose, exists, count, BLOCK)
    return pose, exists


@triton.jit
def _poses(rays, ray_stride, points, point_stride, pose, exists, count, BLOCK: tl.constexpr):
    """The solutions of one place, for a block of triples: place 2 i + j is root i of line j."""
    triple = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    place = tl.program_id(1)
    inside = triple < count
    r1, r2, r3 = _load(rays, ray_stride, triple, count)
    p1, p2, p3 = _load(points, point_stride, triple, count)

    e12, e23, e31 = _minus(p2, p1), _minus(p3, p2), _minus(p1, p3)
    a12, a23, a31 = _dot(e12, e12), _dot(e23, e23), _dot(e31, e31)
    c12, c23, c31 = _dot(r1, r2), _dot(r2, r3), _dot(r3, r1)
    longest = tl.maximum(tl.maximum(a12, a23), a31)
    normal = _cross(e12, e23)
    limit = longest * COLLINEAR
    sound = _dot(normal, normal) > limit * limit
    a12, a23, a31 = a12 / longest, a23 / longest, a31 / longest

    d1, d2, d3 = _distances(a12, a23, a31, c12, c23, c31, place)
    real = (d1 > 0) & (d2 > 0) & (d3 > 0) & sound
    d1, d2, d3, error = _polish(d1, d2, d3, a12, a23, a31, c12, c23, c31)
    real = real & (error < CONVERGED) & (d1 > 0) & (d2 > 0) & (d3 > 0)

    scale = tl.sqrt(longest)
    q1, q2, q3 = _times(r1, d1 * scale), _times(r2, d2 * scale), _times(r3, d3 * scale)
    x, y, z = _triad(e12, _minus(p3, p1))
    u, v, w = _triad(_minus(q2, q1), _minus(q3, q1))
    at = pose + (4 * triple + place) * 12
    for i in tl.static_range(3):
        left = 0 * scale
        for j in tl.static_range(3):
            entry = u[i] * x[j] + v[i] * y[j] + w[i] * z[j]
            left += entry * p1[j]
            tl.store(at + 4 * i + j, entry, inside)
        tl.store(at + 4 * i + 3, q1[i] - left, inside)
    tl.store(exists + 4 * triple + place, real, inside)


@triton.jit
def _distances(a12, a23, a13, c12, c23, c13, place):
    # The conics' entries 00, 01, 02, 11, 12, 22; those that are not here are 0.
    f00, f01, f11, f12, f22 = a23, -a23 * c12, a23 - a12, a12 * c23, -a12
    s00, s02, s11, s12, s22 = a23, -a23 * c13, -a13, a13 * c23, a23 - a13
    first, second = _degenerate(f00, f01, f11, f12, f22, s00, s02, s11, s12, s22)
    l00, l01, l02 = first * f00 + second * s00, first * f01, second * s02
    l11, l12, l22 = first * f11 + second * s11, first * f12 + second * s12, first * f22 + second * s22
    other = tl.abs(second) > tl.abs(first)
    o00, o01, o02 = tl.where(other, f00, s00), tl.where(other, f01, 0.0), tl.where(other, 0.0, s02)
    o11, o12, o22 = tl.where(other, f11, s11), tl.where(other, f12, s12), tl.where(other, f22, s22)
    swap = tl.abs(l11) > tl.abs(l00)
    l00, l11 = tl.where(swap, l11, l00), tl.where(swap, l00, l11)
    l02, l12 = tl.where(swap, l12, l02), tl.where(swap, l02, l12)
    o00, o11 = tl.where(swap, o11, o00), tl.where(swap, o00, o11)
    o02, o12 = tl.where(swap, o12, o02), tl.where(swap, o02, o12)
    slope, offset = _line(l00, l01, l02, l11, l12, l22, place % 2)
    quadratic = (o00 * slope + 2 * o01) * slope + o11
    half = o02 * slope + o12 + (o00 * slope + o01) * offset
    constant = (o00 * offset + 2 * o02) * offset + o22
    q = -(half + _copysign(tl.sqrt(_difference(half * half, quadratic * constant)), half))
    y = tl.where(place < 2, q / quadratic, constant / q)
    x = slope * y + offset
    x, y = tl.where(swap, y, x), tl.where(swap, x, y)
    d3 = tl.sqrt(a23 / (y * y + 1 - 2 * c23 * y))
    return x * d3, y * d3, d3


@triton.jit
def _degenerate(a00, a01, a11, a12, a22, b00, b02, b11, b12, b22):
    a_minor, b_minor = a11 * a22 - a12 * a12, b11 * b22 - b12 * b12
    mixed = b11 * a22 + a11 * b22 - 2 * a12 * b12
    cross = 2 * a01 * b02
    k0 = a00 * a_minor - a01 * a01 * a22
    k3 = b00 * b_minor - b02 * b02 * b11
    k1 = b00 * a_minor + a00 * mixed - b22 * a01 * a01 + cross * a12
    k2 = a00 * b_minor + b00 * mixed - a11 * b02 * b02 + cross * b12
    swap = tl.abs(k0) > tl.abs(k3)
    k0, k3 = tl.where(swap, k3, k0), tl.where(swap, k0, k3)
    k1, k2 = tl.where(swap, k2, k1), tl.where(swap, k1, k2)
    k3 = tl.where(k3 == 0, 1e-30, k3)
    root = _cubic_root(k2 / k3, k1 / k3, k0 / k3)
    return tl.where(swap, root, 1.0), tl.where(swap, 1.0, root)


@triton.jit
def _cubic_root(b, c, d):
    q = (b * b - 3 * c) / 9
    r = ((2 * b * b - 9 * c) * b + 27 * d) / 54
    # The largest root of y^3 - 3 q y - 2 |r|, to which Newton's method comes down from any larger number.
    y = tl.maximum(tl.sqrt(6 * tl.maximum(q, 0.0)), tl.exp(tl.log(4 * tl.abs(r)) / 3))
    for _ in range(8):
        y -= _finite(((y * y - 3 * q) * y - 2 * tl.abs(r)) / (3 * (y * y - q)))
    x = -_copysign(y, r) - b / 3
    for _ in range(2):
        x -= _finite((((x + b) * x + c) * x + d) / ((3 * x + 2 * b) * x + c))
    return x


@triton.jit
def _line(c00, c01, c02, c11, c12, c22, which):
    ss, uu, su = c01 * c01 - c00 * c11, c02 * c02 - c00 * c22, c01 * c02 - c00 * c12
    squared = tl.maximum(_difference(c01 * c01, c00 * c11), _difference(c02 * c02, c00 * c22))
    larger = tl.sqrt(squared)
    other = tl.where(larger > 0, su / larger, 0.0)
    s, u = tl.where(ss > uu, larger, other), tl.where(ss > uu, other, larger)
    s, u = tl.where(which == 0, s, -s), tl.where(which == 0, u, -u)
    return (s - c01) / c00, (u - c02) / c00


@triton.jit
def _polish(d1, d2, d3, a12, a23, a31, c12, c23, c31):
    e1, e2, e3, worst = _side_errors(d1, d2, d3, a12, a23, a31, c12, c23, c31)
    for _ in range(2):
        u1, u2, u3 = d1 - c12 * d2, d2 - c23 * d3, d3 - c31 * d1
        v1, v2, v3 = d2 - c12 * d1, d3 - c23 * d2, d1 - c31 * d3
        double = 2 * (u1 * u2 * u3 + v1 * v2 * v3)
        t1 = d1 - (u2 * u3 * e1 - v1 * (u3 * e2 - v2 * e3)) / double
        t2 = d2 - (u3 * u1 * e2 - v2 * (u1 * e3 - v3 * e1)) / double
        t3 = d3 - (u1 * u2 * e3 - v3 * (u2 * e1 - v1 * e2)) / double
        f1, f2, f3, trial_worst = _side_errors(t1, t2, t3, a12, a23, a31, c12, c23, c31)
        better = trial_worst < worst
        d1, d2, d3 = tl.where(better, t1, d1), tl.where(better, t2, d2), tl.where(better, t3, d3)
        e1, e2, e3 = tl.where(better, f1, e1), tl.where(better, f2, e2), tl.where(better, f3, e3)
        worst = tl.where(better, trial_worst, worst)
    return d1, d2, d3, worst


@triton.jit
def _side_errors(d1, d2, d3, a12, a23, a31, c12, c23, c31):
    e1 = d2 * d2 - a12 + (d1 - 2 * c12 * d2) * d1
    e2 = d3 * d3 - a23 + (d2 - 2 * c23 * d3) * d2
    e3 = d1 * d1 - a31 + (d3 - 2 * c31 * d1) * d3
    total = e1 + e2 + e3
    worst = tl.maximum(tl.maximum(tl.abs(e1), tl.abs(e2)), tl.abs(e3))
    return e1, e2, e3, tl.where(total == total, worst, float("nan"))


@triton.jit
def _load(pointer, stride, index, count):
    """Three vectors, each of three components."""
    inside = index < count
    at = pointer + index
    first = tl.load(at, inside), tl.load(at + count, inside), tl.load(at + 2 * count, inside)
    at += stride
    second = tl.load(at, inside), tl.load(at + count, inside), tl.load(at + 2 * count, inside)
    at += stride
    third = tl.load(at, inside), tl.load(at + count, inside), tl.load(at + 2 * count, inside)
    return first, second, third


@triton.jit
def _triad(a, b):
    x, z = _unit(a), _unit(_cross(a, b))
    return x, _cross(z, x), z


@triton.jit
def _unit(a):
    return _times(a, 1 / tl.sqrt(_dot(a, a)))


@triton.jit
def _cross(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@triton.jit
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@triton.jit
def _minus(a, b):
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@triton.jit
def _times(a, factor):
    return a[0] * factor, a[1] * factor, a[2] * factor


@triton.jit
def _difference(a, b):
    difference = a - b
    return tl.where(difference > (tl.abs(a) + tl.abs(b)) * -DOUBLE, tl.maximum(difference, 0.0), difference)


@triton.jit
def _copysign(size, sign):
    return tl.where(sign < 0, -size, size)


@triton.jit
def _finite(value):
    return tl.where(tl.abs(value) < float("inf"), value, 0.0)
