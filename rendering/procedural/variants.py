"""Makes new objects from known meshes, with other proportions and surfaces."""

from dataclasses import replace

import numpy as np

from picopose.rendering.mesh import Mesh

STRETCH = 1.5  # of the longest axis over the shortest, at most
TILES = (0.4, 1.5)  # side of an image on the surface, in sides of the mesh's box


def stretched(rng: np.random.Generator, mesh: Mesh) -> Mesh:
    """The mesh with its axes scaled differently; the longest side of its box stays."""
    factors = np.exp(rng.uniform(0, np.log(STRETCH), 3))
    extent = np.ptp(mesh.vertices, axis=0)
    factors *= extent.max() / (extent * factors).max()
    normals = mesh.normals / factors
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)
    vertices = (mesh.vertices * factors).astype(np.float32)
    return replace(mesh, vertices=vertices, normals=normals.astype(np.float32))


def papered(rng: np.random.Generator, mesh: Mesh, image: np.ndarray) -> Mesh:
    """The mesh covered with a repeated image (H, W, 3) uint8.

    The image is projected onto every face along the face's dominant axis.
    """
    corners = mesh.vertices[mesh.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    axis = np.abs(across).argmax(axis=1)
    used, faces = np.unique(3 * mesh.faces.astype(np.int64) + axis[:, None], return_inverse=True)
    vertex, axis = used // 3, used % 3
    in_plane = np.array([[1, 2], [0, 2], [0, 1]])[axis]
    tile = rng.uniform(*TILES) * np.ptp(mesh.vertices, axis=0).max()
    uv = np.take_along_axis(mesh.vertices[vertex], in_plane, axis=1) / tile + rng.random(2)
    return Mesh(
        vertices=mesh.vertices[vertex],
        faces=faces.reshape(-1, 3).astype(np.int32),
        normals=mesh.normals[vertex],
        uv=uv.astype(np.float32),
        texture=image,
    )
