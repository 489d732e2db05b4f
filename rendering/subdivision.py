"""Divides large triangles, for methods that know a surface by its vertices."""

from dataclasses import replace

import numpy as np
import trimesh

from picopose.rendering.mesh import Mesh

ASIDE = 1e-9  # of a mesh's size: a vertex's looks, so scaled, do not count in the length of edges


def subdivided(mesh: Mesh, longest_edge: float) -> Mesh:
    """The mesh with its edges halved until none is longer than `longest_edge` metres; it looks the same."""
    count = len(mesh.vertices)
    looks = {"normals": mesh.normals, "colors": mesh.colors, "uv": mesh.uv}
    looks = {name: values for name, values in looks.items() if values is not None}
    columns = np.concatenate(
        [mesh.vertices / longest_edge, *(ASIDE * values.reshape(count, -1) for values in looks.values())],
        axis=1,
        dtype=np.float64,
    )
    rows, faces = trimesh.remesh.subdivide_to_size(columns, mesh.faces, 1.0, max_iter=20)
    rows, place = np.unique(rows, axis=0, return_inverse=True)
    parts = np.split(rows, np.cumsum([3, *(values.shape[1] for values in looks.values())])[:-1], axis=1)
    arrays = {name: part / ASIDE for name, part in zip(looks, parts[1:], strict=True)}
    normals = arrays.pop("normals")
    arrays["normals"] = normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)
    if "colors" in arrays:
        arrays["colors"] = np.rint(arrays["colors"])
    arrays = {name: values.astype(getattr(mesh, name).dtype) for name, values in arrays.items()}
    vertices = (parts[0] * longest_edge).astype(np.float32)
    return replace(mesh, vertices=vertices, faces=place.ravel()[faces].astype(np.int32), **arrays)
