"""Neighbourhoods of a mesh's vertices at several scales, for kernel point convolutions.

After KPConv (Thomas et al., ICCV 2019), with SciPy's k-d tree.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from picopose.utils.records import Record

LEVELS = 4  # of the original's networks


@dataclass(frozen=True)
class PointPyramid(Record):
    """Levels of ever fewer points, the vertices first, N_l points at level l.

    Lists of neighbours are sorted by distance and filled up with the number of points they index, a point
    that does not exist.
    """

    points: tuple[Tensor, ...]  # (N_l, 3), about the vertices' mean, the longest side of their box being 1
    neighbors: tuple[Tensor, ...]  # (N_l, n_l) long: points of the same level
    pools: tuple[Tensor, ...]  # (N_l+1, n_l) long: points of level l about those of level l + 1
    upsamples: tuple[Tensor, ...]  # (N_l,) long: the nearest point of level l + 1


def normalisation(vertices: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (3,) of vertices (V, 3) and the longest side () of their box."""
    return vertices.mean(dim=0), (vertices.amax(dim=0) - vertices.amin(dim=0)).max()


def build_pyramid(
    vertices: Tensor, *, radius: float = 0.0625, cell: float = 0.05, levels: int = LEVELS, keep: float = 0.8
) -> PointPyramid:
    """The pyramid of the vertices (V, 3) of a mesh, in any unit.

    Args:
        radius: of the neighbourhoods at level 0, in the unit of `PointPyramid.points`; doubles every level.
        cell: side of the cells whose points are averaged for level 1; doubles every level. The vertices
            themselves are never averaged.
        keep: share of a level's points whose neighbours are all listed; longer lists are cut.
    """
    mean, scale = normalisation(vertices)
    points = [((vertices - mean) / scale).cpu().numpy()]
    for level in range(levels - 1):
        points.append(_averaged(points[-1], cell * 2**level))
    trees = [cKDTree(level) for level in points]
    reach = [radius * 2**level for level in range(levels)]
    longest = [_longest(*level, keep) for level in zip(trees, points, reach, strict=True)]
    lists = list(zip(trees, reach, longest, strict=True))
    return PointPyramid(
        points=tuple(torch.from_numpy(level) for level in points),
        neighbors=tuple(_neighbors(*own, level) for own, level in zip(lists, points, strict=True)),
        pools=tuple(_neighbors(*finer, level) for finer, level in zip(lists, points[1:], strict=False)),
        upsamples=tuple(
            torch.from_numpy(tree.query(level)[1]) for tree, level in zip(trees[1:], points, strict=False)
        ),
    ).to(vertices.device)


def _averaged(points: np.ndarray, cell: float) -> np.ndarray:
    """The mean of the points in each occupied cell of a grid."""
    corner = np.floor(points.min(axis=0) / np.float32(cell)) * np.float32(cell)
    cells = np.floor((points - corner) / np.float32(cell)).astype(np.int64)
    _, owner, count = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    sums = np.zeros((len(count), 3))
    np.add.at(sums, owner, points)
    return (sums / count[:, None]).astype(np.float32)


def _longest(tree: cKDTree, points: np.ndarray, radius: float, keep: float) -> int:
    """The smallest length that a share `keep` of the points' own lists do not exceed."""
    counts = tree.query_ball_point(points, radius, return_length=True)
    return int(np.quantile(counts, keep, method="inverted_cdf"))


def _neighbors(tree: cKDTree, radius: float, longest: int, points: np.ndarray) -> Tensor:
    """(N, longest): the points of the tree nearer than the radius to each of N points."""
    return torch.from_numpy(tree.query(points, k=range(1, longest + 1), distance_upper_bound=radius)[1])
