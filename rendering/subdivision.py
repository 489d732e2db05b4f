"""Divides large triangles, for methods that know a surface by its vertices."""

from dataclasses import replace

import numpy as np
import trimesh

from picopose.rendering.mesh import Mesh

ASIDE = 1e-9  # of a mesh's size: a vertex's looks, so scaled, do not count in the length of edges
# Edges are compared in a slightly sheared space: where two are equally long, which is common in regular
# meshes, rounding does not decide between them, so a mesh in another unit is divided in the same way.
SHEAR = np.eye(3) + 1e-3 * np.array([[0.0, 0.31, 0.73], [0.59, 0.0, 0.23], [0.97, 0.41, 0.0]])


def subdivided(mesh: Mesh, longest_edge: float) -> Mesh:
    """The mesh with its edges halved until none is longer than `longest_edge` metres; it looks the same."""
    count = len(mesh.vertices)
    looks = {"normals": mesh.normals, "colors": mesh.colors, "uv": mesh.uv}
    looks = {name: values for name, values in looks.items() if values is not None}
    columns = np.concatenate(
        [
            mesh.vertices @ SHEAR / longest_edge,
            *(ASIDE * values.reshape(count, -1) for values in looks.values()),
        ],
        axis=1,
        dtype=np.float64,
    )
    rows, faces = trimesh.remesh.subdivide_to_size(columns, mesh.faces, 1.0, max_iter=20)
    rows, place = _distinct(rows)
    parts = np.split(rows, np.cumsum([3, *(values.shape[1] for values in looks.values())])[:-1], axis=1)
    arrays = {name: part / ASIDE for name, part in zip(looks, parts[1:], strict=True)}
    normals = arrays.pop("normals")
    arrays["normals"] = normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)
    if "colors" in arrays:
        arrays["colors"] = np.rint(arrays["colors"])
    arrays = {name: values.astype(getattr(mesh, name).dtype) for name, values in arrays.items()}
    vertices = (longest_edge * parts[0] @ np.linalg.inv(SHEAR)).astype(np.float32)
    return replace(mesh, vertices=vertices, faces=place[faces].astype(np.int32), **arrays)


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows in the order of their first occurrence, and the place (N,) of each row among them.

    An order by value would be another one for a mesh that was rounded.
    """
    rows, first, place = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return rows[order], np.argsort(order)[place.ravel()]
