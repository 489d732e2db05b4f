"""Turns painted solids into meshes with a texture atlas or vertex colours, and normals that respect creases.

A paint is a colour (RGB, 0 to 255) or an image; every surface of every solid gets one.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from picopose.rendering.mesh import Mesh
from picopose.rendering.procedural.solids import Solid

Paint = Sequence[float] | np.ndarray  # (3,) or an image (H, W, 3) uint8
CREASE_DEG = 38.0  # faces that meet at a sharper angle are shaded apart
ATLAS_WIDTH = 1024  # px
GUTTER = 4  # px around every image of an atlas: mipmaps do not mix neighbours
SWATCH = 8  # px, side of a plain colour in an atlas


def paint(parts: Sequence[tuple[Solid, Sequence[Paint]]]) -> Mesh:
    """One mesh from several solids, each with one paint for all surfaces or one per surface.

    Images are packed into one atlas; without images the mesh has vertex colours only.
    """
    solids = [solid for solid, _ in parts]
    paints = [_per_surface(solid, paints) for solid, paints in parts]
    corners = np.concatenate([solid.corners for solid in solids])
    normals = np.concatenate([_corner_normals(solid.corners) for solid in solids])
    if not any(_is_image(p) for group in paints for p in group):
        looks = [np.asarray(group, float)[solid.surface] for solid, group in zip(solids, paints, strict=True)]
        colors = np.concatenate(looks).clip(0, 255).astype(np.uint8)[:, None].repeat(3, axis=1)
        return _weld(corners, normals, colors=colors)
    images = [_as_image(p) for group in paints for p in group]
    atlas, places = pack_atlas(images)
    first = np.cumsum([0] + [len(group) for group in paints[:-1]])
    index = np.concatenate([s.surface + start for s, start in zip(solids, first, strict=True)])
    uv = np.concatenate([solid.uv for solid in solids])
    return _weld(corners, normals, uv=atlas_uv(uv, places[index], atlas.shape), texture=atlas)


def _is_image(p: Paint) -> bool:
    return np.ndim(p) == 3


def _per_surface(solid: Solid, paints: Sequence[Paint]) -> list[Paint]:
    if len(paints) not in (1, solid.n_surfaces):
        raise ValueError(f"{len(paints)} paints for {solid.n_surfaces} surfaces: give one, or one for each")
    return list(paints) * (solid.n_surfaces if len(paints) == 1 else 1)


def _as_image(p: Paint) -> np.ndarray:
    if _is_image(p):
        return np.asarray(p)
    return np.full((SWATCH, SWATCH, 3), np.asarray(p, float).clip(0, 255), np.uint8)


def pack_atlas(images: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All images in one, and their left, top, width and height (N, 4) px, by shelf packing."""
    order = sorted(range(len(images)), key=lambda k: -images[k].shape[0])
    width = max(ATLAS_WIDTH, max(image.shape[1] for image in images) + 2 * GUTTER)
    places = np.zeros((len(images), 4), int)
    left = top = shelf = 0
    for k in order:
        height_k, width_k = images[k].shape[:2]
        if left + width_k + 2 * GUTTER > width:
            left, top, shelf = 0, top + shelf, 0
        places[k] = left + GUTTER, top + GUTTER, width_k, height_k
        left, shelf = left + width_k + 2 * GUTTER, max(shelf, height_k + 2 * GUTTER)
    used = (places[:, 0] + places[:, 2]).max() + GUTTER
    atlas = np.zeros((top + shelf, used, 3), np.uint8)
    for image, (x, y, w, h) in zip(images, places, strict=True):
        framed = cv2.copyMakeBorder(image, GUTTER, GUTTER, GUTTER, GUTTER, cv2.BORDER_REPLICATE)
        atlas[y - GUTTER : y + h + GUTTER, x - GUTTER : x + w + GUTTER] = framed
    return atlas, places


def atlas_uv(uv: np.ndarray, places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Atlas coordinates (F, 3, 2) from those in each face's image; v = 1 is the first row."""
    places = places[:, None].astype(float)
    x = places[..., 0] + uv[..., 0] * places[..., 2]
    y = places[..., 1] + (1 - uv[..., 1]) * places[..., 3]
    return np.stack([x / shape[1], 1 - y / shape[0]], axis=-1)


def _groups(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Equal rows of integers (N, D): the first index of each distinct row, each row's group, group sizes."""
    rows = np.ascontiguousarray(keys).view(np.dtype((np.void, keys.dtype.itemsize * keys.shape[1])))
    _, first, group, count = np.unique(
        rows.ravel(), return_index=True, return_inverse=True, return_counts=True
    )
    return first, group, count


def _corner_normals(corners: np.ndarray) -> np.ndarray:
    """(F, 3, 3) unit normals: at each corner the mean of the faces that meet there without a crease."""
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])  # length: twice the area
    unit = cross / np.linalg.norm(cross, axis=1, keepdims=True)
    _, group, count = _groups(np.round(corners.reshape(-1, 3) * 1e6).astype(np.int64))
    order = np.argsort(group, kind="stable")
    start = np.cumsum(count) - count
    size = count[group[order]]  # pairs of each corner with every corner at the same place
    own = np.repeat(order, size)
    within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    other = order[np.repeat(start[group[order]], size) + within]
    smooth = (unit[own // 3] * unit[other // 3]).sum(axis=1) > np.cos(np.radians(CREASE_DEG))
    normals = np.zeros((len(order), 3))
    for axis in range(3):
        shares = np.where(smooth, cross[other // 3, axis], 0.0)
        normals[:, axis] = np.bincount(own, weights=shares, minlength=len(order))
    return (normals / np.linalg.norm(normals, axis=1, keepdims=True)).reshape(-1, 3, 3)


def _weld(corners: np.ndarray, normals: np.ndarray, *, texture: np.ndarray | None = None, **looks) -> Mesh:
    """A mesh whose vertices are the distinct corners: equal place, normal and look (uv or colour)."""
    ((name, look),) = looks.items()
    scaled = [corners * 1e6, normals * 1e3, look if name == "colors" else look * 1e5]
    keys = np.concatenate([np.round(a).reshape(-1, a.shape[-1]).astype(np.int64) for a in scaled], axis=1)
    first, group, _ = _groups(keys)
    look = look.reshape(len(keys), -1)[first]
    return Mesh(
        vertices=corners.reshape(-1, 3)[first].astype(np.float32),
        faces=group.reshape(-1, 3).astype(np.int32),
        normals=normals.reshape(-1, 3)[first].astype(np.float32),
        texture=texture,
        **{name: look if name == "colors" else look.astype(np.float32)},
    )
