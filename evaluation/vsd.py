"""The Visible Surface Discrepancy of the BOP challenge, with the project's renderer (Hodan et al., 2020).

Poses are (3, 4) float64 [R | t] in m. A surface is rendered only where its box projects to, and everything
after that happens in the window that holds both surfaces: outside, nothing counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from picopose.evaluation.errors import homogeneous
from picopose.evaluation.eval_models import EvalModel
from picopose.evaluation.ground_truth import ImageTruth
from picopose.rendering.renderer import Renderer

TAUS = np.array([0.05 + 0.05 * k for k in range(10)])  # shares of the diameter


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    def join(self, other: Window) -> Window:
        return Window(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def shape(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left


@dataclass(frozen=True, eq=False)
class _Surface:
    """One rendered model: depth (h, w) in m within a window, 0 where there is no surface."""

    window: Window
    depth: np.ndarray

    def within(self, window: Window) -> np.ndarray:
        """The depth in a window that holds this surface's own."""
        depth = np.zeros(window.shape)
        top, left = self.window.top - window.top, self.window.left - window.left
        height, width = self.depth.shape
        depth[top : top + height, left : left + width] = self.depth
        return depth


@dataclass(frozen=True)
class VsdScorer:
    """Renders models and compares them with the measured depth."""

    renderer: Renderer
    delta: float  # m, tolerance of the visibility test (0.015, ITODD: 0.005)

    def errors(
        self,
        estimates: np.ndarray,
        truths: np.ndarray,
        model: EvalModel,
        image: ImageTruth,
        depth: np.ndarray,
    ) -> np.ndarray:
        """VSD (E, G, 10) for `TAUS` of estimates (E, 3, 4) against truths (G, 3, 4) of one object.

        depth: the image's measured depth (H, W) float32, m.
        """
        result = np.ones((len(estimates), len(truths), len(TAUS)))
        overlap = spheres_overlap(estimates[:, None], truths[None], model.diameter / 2)
        true_surfaces = {
            g: self._surface(model, truths[g], image.K, depth.shape)
            for g in np.flatnonzero(overlap.any(axis=0))
        }
        for e in np.flatnonzero(overlap.any(axis=1)):
            surface = self._surface(model, estimates[e], image.K, depth.shape)
            for g in np.flatnonzero(overlap[e]):
                if surface is not None and true_surfaces[g] is not None:
                    result[e, g] = _discrepancy(
                        surface, true_surfaces[g], depth, image.K, self.delta, model.diameter
                    )
        return result

    def _surface(self, model: EvalModel, pose: np.ndarray, K: np.ndarray, size: tuple) -> _Surface | None:
        """The model rendered at a pose in an image of size (H, W); None where nothing can be seen of it."""
        window = visible_window(model.box_corners, pose, K, size)
        if window is None:
            return None
        # The challenge's renderer samples the surface half a pixel right of and below where BOP's K says, but
        # unprojects from where K says; it knows no skew.
        camera = np.array(
            [
                [K[0, 0], 0, K[0, 2] - 0.5 - window.left],
                [0, K[1, 1], K[1, 2] - 0.5 - window.top],
                [0, 0, 1],
            ]
        )
        height, width = window.shape
        drawn = (model.mesh, homogeneous(pose), camera, width, height)
        return _Surface(window, self.renderer.render_depth(*drawn, front_only=True))


def spheres_overlap(estimates: np.ndarray, truths: np.ndarray, radius: float) -> np.ndarray:
    """Whether the projections of two spheres about the origins of poses (..., 3, 4) overlap: (...) bool.

    By the challenge's approximation; False for NaN and for an origin in the camera's plane.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inverse_depths = 1 / estimates[..., 2, 3], 1 / truths[..., 2, 3]
        projections = [
            pose[..., :2, 3] * inverse[..., None]
            for pose, inverse in zip((estimates, truths), inverse_depths, strict=True)
        ]
        distance = np.linalg.norm(projections[0] - projections[1], axis=-1)
        return np.isfinite(distance) & (distance < radius * sum(inverse_depths))


def visible_window(corners: np.ndarray, pose: np.ndarray, K: np.ndarray, size: tuple) -> Window | None:
    """The pixels onto which a box (8, 3) can project in an image of size (H, W).

    None outside the image, and where the box reaches behind the camera: the challenge's renderer then draws
    nothing.
    """
    xyz = corners @ pose[:, :3].T + pose[:, 3]
    if not np.isfinite(xyz).all() or xyz[:, 2].min() <= 0:
        return None
    xy = xyz[:, :2] / xyz[:, 2:] * K[[0, 1], [0, 1]] + K[:2, 2]
    height, width = size
    ends = np.floor(xy.min(axis=0)) - 1, np.ceil(xy.max(axis=0)) + 1
    (left, top), (right, bottom) = (np.clip(end, 0, [width, height]).astype(int).tolist() for end in ends)
    return Window(left, top, right, bottom) if left < right and top < bottom else None


def _discrepancy(
    estimate: _Surface, truth: _Surface, depth: np.ndarray, K: np.ndarray, delta: float, diameter: float
) -> np.ndarray:
    """VSD (10,) of two surfaces before the measured depth (H, W)."""
    window = estimate.window.join(truth.window)
    rays = ray_lengths(K, window)
    estimated, true = estimate.within(window) * rays, truth.within(window) * rays
    measured = (depth[window.slices] * rays).astype(np.float32)
    free = measured == 0  # where nothing was measured, nothing hides a surface
    true_visible = (true > 0) & ((true.astype(np.float32) - measured <= delta) | free)
    visible = (estimated.astype(np.float32) - measured <= delta) | free | true_visible
    visible &= estimated > 0
    both = true_visible & visible
    n_both = np.count_nonzero(both)
    n_union = np.count_nonzero(true_visible) + np.count_nonzero(visible) - n_both
    if n_union == 0:
        return np.ones(len(TAUS))
    difference = np.abs(estimated[both] - true[both]) / diameter
    mismatches = np.count_nonzero(difference >= TAUS[:, None], axis=1)
    return (mismatches + n_union - n_both) / n_union


def ray_lengths(K: np.ndarray, window: Window) -> np.ndarray:
    """Distance from the camera per depth, (h, w), for the pixels of a window; their centres are integers."""
    x = (np.arange(window.left, window.right) - K[0, 2]) / K[0, 0]
    y = (np.arange(window.top, window.bottom) - K[1, 2]) / K[1, 1]
    return np.sqrt(x**2 + (y**2)[:, None] + 1)
