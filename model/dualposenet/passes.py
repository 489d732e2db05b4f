"""Estimates of one object in three passes, each without the points that the one before puts outside."""

from typing import NamedTuple

import numpy as np
import torch

from picopose.model.dualposenet.maps import spherical_maps
from picopose.model.dualposenet.network import DualPoseNet, Estimate, matrices
from picopose.model.dualposenet.quirks import MENDED, Quirks
from picopose.model.dualposenet.refine import Observation

PASSES = 3
FEWEST = 32  # points, or fewer, that say too little
OUTSIDE = 0.6  # canonical distance from the centre; corners of boxes lie at 0.5
DRAWN = 1024  # points that the decoders see
TURNED = np.diag([-1.0, -1.0, 1.0, 1.0])  # from the network's camera frame to OpenCV's


class Pass(NamedTuple):
    """What the network saw, around which centroid (3,), and its estimate."""

    seen: Observation
    centroid: np.ndarray
    estimate: Estimate


@torch.no_grad()
def passes(
    network: DualPoseNet,
    points: np.ndarray,
    colours: np.ndarray,
    random: np.random.Generator | np.random.RandomState,
    quirks: Quirks = MENDED,
) -> list[Pass]:
    """At most three passes, fewer if too few points are left: none of 32 points or fewer.

    Args:
        points: (N, 3) in metres, in the network's camera frame. colours: (N, 3), see `maps.normalised`.
        random: draws the points that the decoders see.
    """
    found: list[Pass] = []
    inside = np.ones(len(points), bool)
    while len(found) < PASSES and inside.sum() > FEWEST:
        centroid = points[inside].mean(0)
        seen = observe(points[inside] - centroid, colours[inside], network.side, random, quirks)
        estimate, _ = network(*seen)
        found.append(Pass(seen, centroid, estimate))
        precise = Estimate(*(values.double() for values in estimate))
        canonical = precise.canonical(torch.from_numpy(points - centroid)[None])
        inside = canonical[0].norm(dim=1).numpy() < OUTSIDE
    return found


def observe(
    centred: np.ndarray,
    colours: np.ndarray,
    side: int,
    random: np.random.Generator | np.random.RandomState,
    quirks: Quirks = MENDED,
) -> Observation:
    """The maps of points (N, 3), and 1024 of the points; some of them repeatedly, if there are no more."""
    maps = spherical_maps(centred, colours, side, quirks)
    drawn = random.choice(len(centred), DRAWN, replace=len(centred) <= DRAWN)
    inputs = (*maps, centred[drawn].astype(np.float32))
    return Observation(*(torch.from_numpy(values)[None] for values in inputs))


def scaled_pose(estimate: Estimate, centroid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(4, 4) from canonical coordinates to OpenCV's camera in metres, and extents (3,) of a diagonal of 1."""
    rotation, translation, size = (values[0].double() for values in estimate)
    diagonal = size.norm().item()
    pose = np.eye(4)
    pose[:3, :3] = diagonal * matrices(rotation[None])[0].numpy().T
    pose[:3, 3] = translation.numpy() + centroid
    return TURNED @ pose, size.numpy() / diagonal
