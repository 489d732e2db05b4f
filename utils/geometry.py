"""Transforms, cameras and sampling; the pixel convention is implemented here and nowhere else.

Convention: camera x right, y down, z forward; pixels are `(x, y)` and the centre of the top-left pixel is
`(0, 0)`, as in OpenCV and BOP. Cell i of n over a side of S px has its centre at `(i + 1/2) S/n - 1/2`.
Transforms are named `b_from_a` and act on column vectors: `xyz_b = b_from_a @ xyz_a`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def rigid(rotation: Tensor, translation: Tensor) -> Tensor:
    """(..., 4, 4) transform from a rotation (..., 3, 3) and a translation (..., 3)."""
    top = torch.cat([rotation, translation[..., None]], dim=-1)
    bottom = torch.eye(4, dtype=top.dtype, device=top.device)[3:].expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, bottom], dim=-2)


def nearest_rotation(matrix: Tensor) -> Tensor:
    """The rotations (..., 3, 3) nearest to matrices, R (R^T R)^(-1/2), by singular values."""
    left, _, right = torch.linalg.svd(matrix)
    return left @ right


def upright(cam_from_obj: Tensor) -> Tensor:
    """Poses (..., 4, 4) with the rotations nearest to their own, which files store to a few digits."""
    return rigid(nearest_rotation(cam_from_obj[..., :3, :3]), cam_from_obj[..., :3, 3])


def invert(b_from_a: Tensor) -> Tensor:
    """a_from_b of a rigid transform (..., 4, 4)."""
    rotation = b_from_a[..., :3, :3].mT
    return rigid(rotation, -(rotation @ b_from_a[..., :3, 3:])[..., 0])


def transform(b_from_a: Tensor, points: Tensor) -> Tensor:
    """Points (..., N, d) moved by the affine transform (..., d+1, d+1)."""
    return points @ b_from_a[..., :-1, :-1].mT + b_from_a[..., None, :-1, -1]


def project(K: Tensor, xyz_cam: Tensor) -> Tensor:
    """Pixels (..., N, 2) of points (..., N, 3) in front of the camera K (..., 3, 3)."""
    xyw = xyz_cam @ K.mT
    return xyw[..., :2] / xyw[..., 2:]


def unproject(K: Tensor, xy: Tensor, depth: Tensor) -> Tensor:
    """Camera points (..., N, 3) at pixels (..., N, 2) and depths (..., N) along the optical axis."""
    inverse = torch.linalg.inv_ex(K).inverse  # unlike `inv` it does not wait for a GPU to say if there is one
    rays = torch.cat([xy, torch.ones_like(xy[..., :1])], dim=-1) @ inverse.mT
    return rays * depth[..., None]


def cell_centres(n: int, size: int, device: torch.device | str | None = None) -> Tensor:
    """(n*n, 2) pixels, row-major: the centres of n x n cells over a square of `size` px."""
    centre = torch.arange(0.5, n, device=device) * (size / n) - 0.5
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def sample(maps: Tensor, xy: Tensor, *, mode: str = "bilinear", padding: str = "zeros") -> Tensor:
    """Values (B, C, N) of maps (B, C, H, W) at pixels xy (B, N, 2)."""
    height, width = maps.shape[-2:]
    grid = _sampling_grid(xy, width, height)
    values = F.grid_sample(maps, grid, mode=mode, padding_mode=padding, align_corners=False)
    return values[..., 0]


def _sampling_grid(xy: Tensor, width: int, height: int) -> Tensor:
    """Pixels xy (B, N, 2) of maps width x height as `grid_sample` wants them: (B, N, 1, 2) in -1 to 1."""
    x, y = (2 * (xy + 0.5)).unbind(-1)
    return (torch.stack([x / width, y / height], dim=-1) - 1)[:, :, None]


# Neighbouring depths that differ by more than this share lie on different surfaces and are not blended.
DEPTH_EDGE = 0.02


def sample_depth(depth: Tensor, xy: Tensor) -> Tensor:
    """Depths (B, N) of depth maps (B, H, W) at sub-pixel positions xy (B, N, 2); 0 where there is no surface.

    Interpolated where that can be done; across a depth edge, at the rim and next to missing pixels the
    nearest pixel's depth is taken instead.
    """
    nearest, interpolated = depths_at(depth, xy)
    return torch.where(interpolated > 0, interpolated, nearest)


def depths_at(depth: Tensor, xy: Tensor) -> tuple[Tensor, Tensor]:
    """Depths (B, N) of the nearest pixels and interpolated ones, of maps (B, H, W) at positions xy (B, N, 2).

    A plane's inverse depth is affine in the image, so inverse depth is interpolated. Both are 0 where there
    is no surface, and the latter also across a depth edge, at the rim and next to missing pixels.
    """
    grid = _sampling_grid(xy, depth.shape[-1], depth.shape[-2])
    nearest = F.grid_sample(depth[:, None], grid, mode="nearest", align_corners=False)[:, 0, :, 0]
    present = depth > 0
    inverse = torch.where(present, depth.clamp(min=1e-9).reciprocal(), 0.0)
    maps = torch.stack([present.to(depth.dtype), inverse, inverse**2], dim=1)
    weight, blended, squared = F.grid_sample(maps, grid, align_corners=False)[..., 0].unbind(1)
    # A small variance under the bilinear weights means that the four neighbours lie on one surface.
    spread = (squared - blended**2).clamp(min=0).sqrt()
    smooth = (weight > 1 - 1e-4) & (spread < 0.5 * DEPTH_EDGE * blended) & (nearest > 0)
    return nearest, torch.where(smooth, blended.clamp(min=1e-9).reciprocal(), 0.0)


def rotation_angle(rotation: Tensor) -> Tensor:
    """Angle in [0, pi] of rotations (..., 3, 3), accurate for small angles too (rad)."""
    skew = rotation - rotation.mT
    sine = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1).norm(dim=-1) / 2
    cosine = (rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return torch.atan2(sine, cosine)


def cross_matrix(vector: Tensor) -> Tensor:
    """Matrices (..., 3, 3) that multiply like the cross product with vectors (..., 3)."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def rotation_between(source: Tensor, target: Tensor) -> Tensor:
    """Smallest rotations (..., 3, 3) that turn unit vectors `source` (..., 3) into `target` (..., 3).

    Rodrigues' formula; undefined for opposite vectors.
    """
    axis = torch.linalg.cross(source, target)
    cross = cross_matrix(axis)
    cosine = (source * target).sum(-1)[..., None, None]
    identity = torch.eye(3, dtype=axis.dtype, device=axis.device)
    return identity + cross + cross @ cross / (1 + cosine)
