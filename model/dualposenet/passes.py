"""Estimates of objects in three passes, each without the points that the one before puts outside."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from picopose.model.dualposenet.maps import spherical_maps
from picopose.model.dualposenet.network import DualPoseNet, Estimate, matrices
from picopose.model.dualposenet.quirks import MENDED, Quirks
from picopose.model.dualposenet.refine import Observation

PASSES = 3
FEWEST = 32  # points, or fewer, that say too little
OUTSIDE = 0.6  # canonical distance from the centre; corners of boxes lie at 0.5
DRAWN = 1024  # points that the decoders see
TURNED = np.diag([-1.0, -1.0, 1.0, 1.0])  # from the network's camera frame to OpenCV's

Random = np.random.Generator | np.random.RandomState


class Cloud(NamedTuple):
    """What is seen of one object.

    Attributes:
        points: (N, 3) in metres, in the network's camera frame.
        colours: (N, 3), see `maps.normalised`.
        random: draws the points that the decoders see.
    """

    points: np.ndarray
    colours: np.ndarray
    random: Random


class Pass(NamedTuple):
    """What the network saw of an object, and what it says.

    Attributes:
        seen: made of the `used` points that were inside, around their centroid (3,).
        estimate: by the explicit decoder.
        canonical: (1, 1024, 3) coordinates of the drawn points, by the implicit decoder.
    """

    seen: Observation
    used: int
    centroid: np.ndarray
    estimate: Estimate
    canonical: Tensor


def passes(
    network: DualPoseNet, points: np.ndarray, colours: np.ndarray, random: Random, quirks: Quirks = MENDED
) -> list[Pass]:
    """Those of one object, see `Cloud` and `passes_of_all`."""
    return passes_of_all(network, [Cloud(points, colours, random)], quirks)[0]


@torch.no_grad()
def passes_of_all(network: DualPoseNet, clouds: Sequence[Cloud], quirks: Quirks = MENDED) -> list[list[Pass]]:
    """At most three passes of each object, fewer if too few points are left: none of 32 points or fewer.

    All objects go through the network together.
    """
    found: list[list[Pass]] = [[] for _ in clouds]
    inside = [np.ones(len(cloud.points), bool) for cloud in clouds]
    for _ in range(PASSES):
        rows = [row for row, those in enumerate(inside) if those.sum() > FEWEST]
        seen = [_within(clouds[row], inside[row]) for row in rows]
        for row, done in zip(rows, _pass(network, seen, quirks), strict=True):
            found[row].append(done)
            inside[row] = _distances(done, clouds[row].points) < OUTSIDE
    return found


def _within(cloud: Cloud, inside: np.ndarray) -> Cloud:
    return Cloud(cloud.points[inside], cloud.colours[inside], cloud.random)


def _pass(network: DualPoseNet, clouds: Sequence[Cloud], quirks: Quirks) -> list[Pass]:
    """One pass of each of some objects."""
    if not clouds:
        return []
    device = next(network.parameters()).device
    centroids = [cloud.points.mean(0) for cloud in clouds]
    seen = [
        observe(cloud.points - centroid, cloud.colours, network.side, cloud.random, quirks)
        for cloud, centroid in zip(clouds, centroids, strict=True)
    ]
    together = Observation(*(torch.cat(parts).to(device) for parts in zip(*seen, strict=True)))
    estimate, canonical = network(*together)
    return [
        Pass(
            Observation(*(values[[i]] for values in together)),
            len(cloud.points),
            centroids[i],
            Estimate(*(values[[i]] for values in estimate)),
            canonical[[i]],
        )
        for i, cloud in enumerate(clouds)
    ]


def _distances(done: Pass, points: np.ndarray) -> np.ndarray:
    """Canonical distances (N,) of an object's points (N, 3) from the centre of its box."""
    precise = Estimate(*(values.double().cpu() for values in done.estimate))
    canonical = precise.canonical(torch.from_numpy(points - done.centroid)[None])
    return canonical[0].norm(dim=1).numpy()


def observe(
    centred: np.ndarray,
    colours: np.ndarray,
    side: int,
    random: Random,
    quirks: Quirks = MENDED,
    count: int = DRAWN,
) -> Observation:
    """The maps of points (N, 3), and `count` of the points; some of them repeatedly, if there are no more."""
    maps = spherical_maps(centred, colours, side, quirks)
    drawn = random.choice(len(centred), count, replace=len(centred) <= count)
    inputs = (*maps, centred[drawn].astype(np.float32))
    return Observation(*(torch.from_numpy(values)[None] for values in inputs))


def pose_and_size(estimate: Estimate, centroid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(4, 4) from the object's frame to OpenCV's camera, without scale, and sides (3,), in metres."""
    rotation, translation, size = (values[0].double().cpu() for values in estimate)
    pose = np.eye(4)
    pose[:3, :3] = matrices(rotation[None])[0].numpy().T
    pose[:3, 3] = translation.numpy() + centroid
    return TURNED @ pose, size.numpy()
