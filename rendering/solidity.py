"""Recognises solid bodies, whose back faces, half of the triangles, need not be drawn."""

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


def is_solid(vertices: np.ndarray, faces: np.ndarray) -> bool:
    """Whether every connected part of a mesh is closed and has its faces turned outward.

    vertices (V, 3); faces (F, 3), counter-clockwise seen from outside. Every ray from outside then meets a
    front face first. (A part that runs through itself may show a dent where it is turned inside out.)
    """
    start, end = faces.astype(np.int64).T.reshape(-1), faces[:, [1, 2, 0]].astype(np.int64).T.reshape(-1)
    forth, back = np.sort(start * len(vertices) + end), np.sort(end * len(vertices) + start)
    if len(faces) == 0 or not np.array_equal(forth, back):  # an edge that no neighbour runs along in reverse
        return False
    edges = coo_matrix((np.ones(len(start), np.int8), (start, end)), shape=(len(vertices),) * 2)
    part = connected_components(edges, directed=False)[1][faces[:, 0]]
    a, b, c = (vertices[faces] - vertices.mean(axis=0)).astype(np.float64).transpose(1, 0, 2)
    volumes = np.bincount(part, weights=np.einsum("ij,ij->i", a, np.cross(b, c)))
    return bool((volumes[np.unique(part)] > 0).all())
