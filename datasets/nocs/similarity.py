"""The similarity that brings points to their counterparts, also where some of these are wrong.

Umeyama, Least-squares estimation of transformation parameters between two point patterns, TPAMI 1991, within
RANSAC with the parameters of NOCS. All in float64: float32 would cost 2e-5 of the scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_DRAWN = 5  # points a hypothesis
_THRESHOLD = 0.1  # of the source's diameter
_MOST_DRAWS = 128
_CONFIDENCE = 0.99
_FEWEST = 0.1  # share of inliers


@dataclass(frozen=True)
class Similarity:
    """target = scale * R @ source + t."""

    scale: float
    R: np.ndarray  # (3, 3) float64
    t: np.ndarray  # (3,) float64

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 3) of the source in the frame of the target."""
        return self.scale * points @ self.R.T + self.t


@dataclass(frozen=True)
class RobustFit:
    """A similarity with how it was found."""

    similarity: Similarity
    inliers: np.ndarray  # (N,) bool
    draws: int


def fit_similarity(source: np.ndarray, target: np.ndarray) -> Similarity | None:
    """The least-squares similarity of points (N, 3) float64; None if the source's are all the same."""
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centred = source - source_mean
    variance = (centred**2).sum() / len(source)
    if variance == 0:
        return None
    U, D, Vh = np.linalg.svd((target - target_mean).T @ centred / len(source))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(U) * np.linalg.det(Vh))])  # no reflections
    R = (U * signs) @ Vh
    scale = float((D * signs).sum() / variance)
    return Similarity(scale, R, target_mean - scale * R @ source_mean)


def fit_robustly(source: np.ndarray, target: np.ndarray, random: np.random.RandomState) -> RobustFit | None:
    """The similarity of most of the points (N, 3); None if fewer than a tenth of them agree on one.

    Draws five points at a time, with replacement, until a better hypothesis is unlikely.
    """
    diameter = 2 * np.linalg.norm(source - source.mean(axis=0), axis=1).max()
    best, inliers = 0.0, np.zeros(len(source), dtype=bool)
    for index in range(_MOST_DRAWS):
        drawn = random.randint(len(source), size=_DRAWN)
        hypothesis = fit_similarity(source[drawn], target[drawn])
        if hypothesis is not None:
            errors = np.linalg.norm(target - hypothesis(source), axis=1)
            agreeing = errors < hypothesis.scale * _THRESHOLD * diameter
            if agreeing.mean() > best:
                best, inliers = agreeing.mean(), agreeing
        if 1 - (1 - best**_DRAWN) ** index > _CONFIDENCE:
            break
    fit = fit_similarity(source[inliers], target[inliers]) if best >= _FEWEST else None
    return None if fit is None else RobustFit(fit, inliers, index + 1)
