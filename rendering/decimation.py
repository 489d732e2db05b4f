"""Simplifies meshes by merging vertices that lie close together.

Vertex clustering by Rossignac and Borrel (1993); surfaces that face different ways are kept apart, so thin
plates keep both sides. It is fast and closes no gaps, but coarsens fine parts: for training, not for testing.
"""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from picopose.rendering.mesh import Mesh

SAME_PLACE = 1 << 14  # to a part of the box's side vertices in one place agree
CELLS = (96, 64, 48, 36, 27, 20)  # along the longest side of the box, tried in turn


def decimated(mesh: Mesh, max_faces: int) -> Mesh:
    """The mesh itself if small enough, else the finest clustering with at most `max_faces` faces.

    If even the coarsest has more, that one is returned.
    """
    coarser = mesh
    for cells in CELLS:
        if len(coarser.faces) <= max_faces:
            break
        coarser = clustered(mesh, cells)
    return coarser


def clustered(mesh: Mesh, cells: int) -> Mesh:
    """Moves the vertices in one grid cell, on one side of the surface, to their mean.

    Vertices that no edge joins within the cell, as on both sides of a texture seam, keep their own looks.
    """
    offset = mesh.vertices - mesh.vertices.min(axis=0)
    side = offset.max() / cells
    place = _labels(np.rint(offset * (SAME_PLACE / offset.max())).astype(np.int64))
    normals = _means(mesh.normals, place)
    cell = np.floor(_means(offset, place) / side).astype(np.int64)[place]
    axis = np.abs(normals).argmax(axis=1)
    facing = (2 * axis + (np.take_along_axis(normals, axis[:, None], 1)[:, 0] > 0))[place]
    spot = _labels(np.column_stack([cell, facing]))
    group = _pieces(mesh.faces, spot)
    corners = spot[mesh.faces]
    kept = (corners != np.roll(corners, 1, axis=1)).all(axis=1)
    used, faces = np.unique(group[mesh.faces[kept]], return_inverse=True)
    looks = {
        name: np.rint(values).astype(np.uint8) if name == "colors" else values.astype(np.float32)
        for name in ("colors", "uv")
        if (source := getattr(mesh, name)) is not None
        for values in [_means(source, group)[used]]
    }
    normals = _means(mesh.normals, group)[used]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)
    first = np.zeros(group.max() + 1, np.int64)
    first[group] = np.arange(len(group))
    return Mesh(
        vertices=_means(mesh.vertices, spot)[spot[first[used]]].astype(np.float32),
        faces=faces.reshape(-1, 3).astype(np.int32),
        normals=normals.astype(np.float32),
        texture=mesh.texture,
        **looks,
    )


def _labels(rows: np.ndarray) -> np.ndarray:
    """Labels (N,) from 0 on, equal for equal rows (N, D)."""
    spans = rows.max(axis=0) + 1
    return np.unique(np.ravel_multi_index(rows.T, spans), return_inverse=True)[1].ravel()


def _means(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(G, D) float64: the mean of the rows (N, D) of each group (N,)."""
    count = np.bincount(group).clip(1)
    return np.stack([np.bincount(group, weights=column) / count for column in values.T], axis=1)


def _pieces(faces: np.ndarray, spot: np.ndarray) -> np.ndarray:
    """(V,): the piece of the surface that each vertex belongs to, where edges between spots (V,) are cut."""
    start, end = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).T
    inside = spot[start] == spot[end]
    edges = start[inside], end[inside]
    joined = coo_array((np.ones(inside.sum(), bool), edges), shape=(len(spot), len(spot)))
    return connected_components(joined, directed=False)[1]
