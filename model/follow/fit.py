"""Robust least squares for the pose: texture, contour, and the expected pose as a prior."""

from dataclasses import dataclass

import numpy as np

from picopose.model.follow.contour import locate
from picopose.utils.motion import moved, step

# Scales of Geman and McClure's weights in px of the crop, one for each step: far matches pull only at first.
SCALES = (6.0, 4.0, 3.0, 3.0, 3.0)
REACHES = ((8, 3.0), (8, 2.0), (8, 1.5), (8, 1.0), (8, 1.0))  # `reach` and `step` of `locate`
TEXTURE_PX, CONTOUR_PX = 3.0, 1.5  # standard deviations: of matches; of contours, beside that of `locate`
NEAR = 3.0  # px: contour points whose offset and standard deviation are below it agree
FEWEST = 30  # contour points, of `contour.POINTS`, that full agreement needs
TURN, SHIFT = np.radians(4.0), 0.02  # the prior's standard deviations: rad, and share of the distance


@dataclass(frozen=True, eq=False)
class Measurements:
    """What a crop shows of an object: matches and contour, in px of the crop with camera K."""

    K: np.ndarray  # (3, 3)
    xy: np.ndarray  # (M, 2) px, matches
    xyz: np.ndarray  # (M, 3) m, the matched points of the surface, object frame
    weight: np.ndarray  # (M, 2, 2), how well each match is located along x and y; at most 1
    rim: np.ndarray  # (N, 3) m, points of the contour, object frame
    normal: np.ndarray  # (N, 2) unit, away from the object
    probability: np.ndarray  # (S, S) that a pixel belongs to the object


def fit(seen: Measurements, cam_from_obj: np.ndarray) -> np.ndarray:
    """The pose (4, 4) after one Gauss-Newton step for each scale; turns are about the object's origin."""
    expected, pose = cam_from_obj, cam_from_obj
    distance = np.linalg.norm(expected[:3, 3])
    prior = np.concatenate([np.full(3, TURN), np.full(3, SHIFT * distance)]) ** -2.0
    for scale, (reach, gap) in zip(SCALES, REACHES, strict=True):
        normal, right = np.diag(prior), prior * step(pose, expected)
        for matrix, vector in (
            _texture(seen, pose, scale),
            _contour(seen, pose, scale, reach, gap),
        ):
            normal += matrix
            right += vector
        pose = moved(pose, np.linalg.solve(normal, right))
    return pose


def _texture(seen: Measurements, pose: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The matches' terms of the normal equations: matrix (6, 6) and right side (6,)."""
    xy, jacobian = _projected(seen.K, pose, seen.xyz)
    residual = seen.xy - xy
    squares = np.einsum("ni,nij,nj->n", residual, seen.weight, residual)
    weight = seen.weight / (TEXTURE_PX * (1 + squares / scale**2))[:, None, None] ** 2
    weighted = weight @ jacobian
    return np.einsum("nij,nik->jk", jacobian, weighted), np.einsum("nij,ni->j", weighted, residual)


def _contour(
    seen: Measurements, pose: np.ndarray, scale: float, reach: int, gap: float
) -> tuple[np.ndarray, np.ndarray]:
    """The contour's terms of the normal equations, as `_texture`."""
    xy, jacobian = _projected(seen.K, pose, seen.rim)
    offset, variance = locate(seen.probability, xy, seen.normal, reach, gap)
    along = np.einsum("ni,nij->nj", seen.normal, jacobian)
    weight = 1 / (variance + CONTOUR_PX**2) / (1 + (offset / scale) ** 2) ** 2
    return along.T @ (weight[:, None] * along), along.T @ (weight * offset)


def _projected(K: np.ndarray, pose: np.ndarray, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 2) of points (N, 3) m, and their derivatives (N, 2, 6) by the object's turn and shift."""
    arm = xyz @ pose[:3, :3].T
    x, y, z = (arm + pose[:3, 3]).T
    z = np.maximum(z, 1e-6)
    xy = np.stack([K[0, 0] * x / z + K[0, 1] * y / z + K[0, 2], K[1, 1] * y / z + K[1, 2]], axis=1)
    zero = np.zeros_like(z)
    by_point = np.stack(
        [
            np.stack([K[0, 0] / z, zero, -K[0, 0] * x / z**2], axis=1),
            np.stack([zero, K[1, 1] / z, -K[1, 1] * y / z**2], axis=1),
        ],
        axis=1,
    )
    return xy, np.concatenate([np.cross(arm[:, None], by_point), by_point], axis=2)


def agreement(seen: Measurements, pose: np.ndarray) -> float:
    """The share of the contour that the colours confirm at a pose (4, 4).

    A few points agree by chance, so a contour of which little is visible cannot reach full agreement.
    """
    if len(seen.rim) == 0:
        return 0.0
    xy, _ = _projected(seen.K, pose, seen.rim)
    offset, variance = locate(seen.probability, xy, seen.normal, *REACHES[-1])
    agree = (np.abs(offset) < NEAR) & (variance < NEAR**2)
    return float(agree.sum() / max(len(agree), FEWEST))
