"""Affine: one 2D similarity transform from the template crop to the real crop, and the pose it implies."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from picopose.utils.geometry import project, rigid, rotation_between
from picopose.utils.records import Record, View

# Scales outside of this range are no sensible answer and would give unbounded depths.
SCALE_RANGE = (0.05, 20.0)


@dataclass(frozen=True)
class Similarity(Record):
    """How the object moves from the template crop to the real crop (Eq. 2 of the paper)."""

    translation: Tensor  # (B, 2) px, of the projected object origin
    scale: Tensor  # (B,) real over template, in crop pixels; a negative one turns by 180 degrees too
    rotation: Tensor  # (B, 2) cosine and sine of the in-plane angle (positive from x to y)

    def matrix(self, template: View) -> Tensor:
        """(B, 3, 3), pixels of the template crop -> pixels of the real crop."""
        origin = object_origin(template.K, template.cam_from_obj)
        scale, rotation = _upright(self)
        cosine, sine = rotation.unbind(-1)
        linear = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], dim=-2)
        linear = linear * scale[:, None, None]
        shift = origin + self.translation - (linear @ origin[..., None])[..., 0]
        matrix = torch.eye(3, dtype=linear.dtype, device=linear.device).repeat(len(linear), 1, 1)
        matrix[:, :2, :2], matrix[:, :2, 2] = linear, shift
        return matrix


def no_motion(count: int, *, like: Tensor) -> Similarity:
    """The transform of `count` crops that lie in their windows exactly as their templates do."""
    rotation = like.new_tensor([1.0, 0.0]).repeat(count, 1)
    return Similarity(translation=like.new_zeros(count, 2), scale=like.new_ones(count), rotation=rotation)


def object_origin(K: Tensor, cam_from_obj: Tensor) -> Tensor:
    """Pixel (B, 2) of the object frame's origin."""
    return project(K, cam_from_obj[:, None, :3, 3])[:, 0]


class AffineRegressor(nn.Module):
    """Similarity volumes (B, n*n, n, n) of `matching.similarity_volume` -> `Similarity`.

    Args:
        cells: n, patches per side.
        patch: side of a patch in px, the unit of the regressed translation.
        width: channels of the convolutions and of the heads.
    """

    def __init__(self, *, cells: int = 16, patch: int = 14, width: int = 256):
        super().__init__()
        self.patch = patch
        self.features = nn.Sequential(
            nn.Conv2d(cells**2, width, 1),
            nn.GroupNorm(32, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            nn.GroupNorm(32, width),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(width * (cells // 2) ** 2, 4 * width),
            nn.LeakyReLU(0.1),
            nn.Linear(4 * width, width),
            nn.LeakyReLU(0.1),
        )
        self.translation = _mlp(width, 2)
        self.scale = _mlp(width, 1)
        self.rotation = _mlp(width, 2)
        with torch.no_grad():  # training starts near "same size, not turned"
            self.scale[-1].bias.fill_(1)
            self.rotation[-1].bias.copy_(torch.tensor([1.0, 0.0]))

    def forward(self, volume: Tensor) -> Similarity:
        features = self.features(volume)
        return Similarity(
            translation=self.translation(features) * self.patch,
            scale=self.scale(features)[:, 0],
            rotation=nn.functional.normalize(self.rotation(features).tanh(), dim=-1),
        )


def _mlp(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
    )


def pose_from_similarity(similarity: Similarity, template: View, K: Tensor, *, viewing_ray: bool) -> Tensor:
    """Poses (B, 4, 4), cam_from_obj in metres, of crops with cameras K (B, 3, 3).

    The object's origin follows the 2D transform, its depth is the template's over the change in size, its
    rotation is the template's turned by the in-plane angle.

    Args:
        viewing_ray: whether that turn is meant about the ray to the object (exact anywhere in the photo) or
            about the optical axis (as the released weights were trained; off by the ray's angle to the axis).
    """
    origin = object_origin(template.K, template.cam_from_obj) + similarity.translation
    scale, turn = _upright(similarity)
    zoom = _focal(K) / (_focal(template.K) * scale)
    depth = template.cam_from_obj[:, 2, 3] * zoom
    ray = (torch.linalg.inv(K) @ nn.functional.pad(origin, (0, 1), value=1.0)[..., None])[..., 0]
    rotation = _about_z(turn)
    if viewing_ray:
        axis = torch.tensor([0.0, 0.0, 1.0], dtype=ray.dtype, device=ray.device).expand_as(ray)
        template_ray = nn.functional.normalize(template.cam_from_obj[:, :3, 3], dim=-1)
        to_real = rotation_between(axis, nn.functional.normalize(ray, dim=-1))
        rotation = to_real @ rotation @ rotation_between(template_ray, axis)
    return rigid(rotation @ template.cam_from_obj[:, :3, :3], ray * depth[:, None])


def _upright(similarity: Similarity) -> tuple[Tensor, Tensor]:
    """Scale (B,) within `SCALE_RANGE` and cosine and sine (B, 2) of a transform."""
    sign = torch.where(similarity.scale < 0, -1.0, 1.0)
    return (sign * similarity.scale).clamp(*SCALE_RANGE), sign[:, None] * similarity.rotation


def _focal(K: Tensor) -> Tensor:
    return (K[:, 0, 0] * K[:, 1, 1]).sqrt()


def _about_z(rotation: Tensor) -> Tensor:
    cosine, sine = rotation.unbind(-1)
    matrix = torch.eye(3, dtype=rotation.dtype, device=rotation.device).repeat(len(rotation), 1, 1)
    matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 0], matrix[:, 1, 1] = cosine, -sine, sine, cosine
    return matrix
