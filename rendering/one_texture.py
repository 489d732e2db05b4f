"""Bakes several textures, plain colours and tinted textures of a mesh into one texture.

A PLY file holds one texture, without vertex colours beside it.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from picopose.rendering.mesh import MAX_TEXELS, Mesh, vertex_colors
from picopose.rendering.procedural.painting import SWATCH, atlas_uv, pack_atlas
from picopose.utils.errors import InputError

MAX_SURFACES = 4096
NEARLY = 1e-4  # of a texture's side: how far coordinates may leave it without repeating it


def with_one_texture(mesh: Mesh, where: str) -> Mesh:
    """The mesh with vertex colours only, or with one texture (H, W, 3) and uv (V, 2).

    A repeating texture is repeated in the atlas too, unless it is the only one. Untextured faces of a
    textured mesh take the colour of their first corner.

    Raises:
        InputError: the atlas would be too large; the message begins with `where`.
    """
    if mesh.texture is None:
        return replace(mesh, colors=vertex_colors(mesh))
    layers = mesh.texture.reshape(-1, *mesh.texture.shape[-3:])
    layer = mesh.uv[:, 2].astype(int) if mesh.uv.shape[1] == 3 else np.zeros(len(mesh.uv), int)
    looks, look_of_vertex = np.unique(
        np.column_stack([layer, vertex_colors(mesh)]).astype(int), axis=0, return_inverse=True
    )
    if len(looks) == 1 and looks[0, 0] >= 0:
        texture = _image(layers, looks[0], repeats=(1, 1))
        return replace(mesh, texture=texture, uv=np.ascontiguousarray(mesh.uv[:, :2]), colors=None)
    mesh, look = _split(mesh, look_of_vertex.ravel())
    first, repeats = _extents(mesh.uv[:, :2], look, len(looks))
    repeats[looks[:, 0] < 0] = 1
    sides = np.where(looks[:, :1] < 0, SWATCH, layers.shape[1:3])
    if len(looks) > MAX_SURFACES or (sides * repeats).prod(axis=1).sum() > MAX_TEXELS:
        raise InputError(
            f"{where} has too many or too large textures for one: bake its look into one texture"
        )
    images = [_image(layers, row, count) for row, count in zip(looks, repeats, strict=True)]
    atlas, places = pack_atlas(images)
    within = np.where(looks[look, :1] < 0, 0.5, (mesh.uv[:, :2] - first[look]) / repeats[look])
    uv = atlas_uv(within[:, None], places[look], atlas.shape)[:, 0]
    return replace(mesh, texture=atlas, uv=uv.astype(np.float32), colors=None)


def _split(mesh: Mesh, look: np.ndarray) -> tuple[Mesh, np.ndarray]:
    """The mesh with separate vertices (V', ...) for every look, and each vertex's look (V',).

    A face has the look of its first corner; look: (V,), an index.
    """
    corners = np.stack([mesh.faces.ravel(), np.repeat(look[mesh.faces[:, 0]], 3)], axis=1)
    pairs, index = np.unique(corners, axis=0, return_inverse=True)
    source = pairs[:, 0]
    split = Mesh(
        mesh.vertices[source],
        index.reshape(-1, 3).astype(np.int32),
        mesh.normals[source],
        uv=mesh.uv[source],
        texture=mesh.texture,
    )
    return split, pairs[:, 1]


def _extents(uv: np.ndarray, look: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """For each look, the integers (count, 2) at which its uv (V, 2) begin, and how many they span."""
    low, high = np.full((count, 2), np.inf), np.full((count, 2), -np.inf)
    np.minimum.at(low, look, uv)
    np.maximum.at(high, look, uv)
    first = np.floor(np.where(np.isfinite(low), low, 0) + NEARLY)
    last = np.ceil(np.where(np.isfinite(high), high, 1) - NEARLY)
    return first, (last - first).clip(1).astype(int)


def _image(layers: np.ndarray, look: np.ndarray, repeats: Sequence[int]) -> np.ndarray:
    """The picture (H, W, 3) uint8 of a look (layer or -1, RGB), repeated (across, upwards)."""
    layer, color = look[0], look[1:]
    if layer < 0:
        return np.full((SWATCH, SWATCH, 3), color, np.uint8)
    tinted = np.round(layers[layer] * (color / np.float32(255))).astype(np.uint8)
    return np.tile(tinted, (repeats[1], repeats[0], 1))
