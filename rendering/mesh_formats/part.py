"""The readers' result: triangles of one material, in the unit and frame of the file."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import trimesh

from picopose.utils.errors import InputError

GREY = 180  # of faces without colour
MAX_FACES = 1 << 24  # of all parts together


@dataclass(frozen=True, eq=False)
class Part:
    """Triangles of one material; the surface's colour is the vertex colour times the texture's.

    The texture's first row is at v = 1, and it repeats beyond 0 and 1.
    """

    vertices: np.ndarray  # (V, 3) float64
    faces: np.ndarray  # (F, 3) integers
    normals: np.ndarray | None = None  # (V, 3), of any length
    colors: np.ndarray | None = None  # (V, 3) uint8; None where the file has none
    uv: np.ndarray | None = None  # (V, 2); belongs to a texture
    texture: np.ndarray | None = None  # (H, W, 3) uint8

    @classmethod
    def of_corners(
        cls,
        vertices: np.ndarray,
        corners: np.ndarray,
        *,
        uv: np.ndarray | None = None,
        texture: np.ndarray | None = None,
        normals: np.ndarray | None = None,
        colors: np.ndarray | None = None,
        face_colors: np.ndarray | None = None,
    ) -> Self:
        """A part whose triangles index vertices, texture coordinates and normals separately.

        Corners with equal indices become one vertex.

        Args:
            vertices: (V, 3), with the `colors` (V, 3) of each; uv: (T, 2); normals: (N, 3).
            corners: (F, 3, C) indices: of the vertex, then of the uv and of the normal where these are given.
            face_colors: (F, 3) uint8 of the triangles.
        """
        flat = corners.reshape(-1, corners.shape[2])
        if face_colors is not None:
            flat = np.column_stack([flat, face_colors.repeat(3, axis=0)])
        used, faces = unique_rows(flat)
        columns = iter(used.T)
        own = next(columns)
        part = cls(vertices[own], faces.reshape(-1, 3), colors=None if colors is None else colors[own])
        if uv is not None:
            part = replace(part, uv=uv[next(columns)], texture=texture)
        if normals is not None:
            part = replace(part, normals=normals[next(columns)])
        if face_colors is not None:
            part = replace(part, colors=used[:, -3:].astype(np.uint8))
        return part


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals, averaged from the faces by their angles; zeros for vertices without faces."""
    return trimesh.Trimesh(vertices, faces, process=False).vertex_normals


def check_faces(count: int, path: Path) -> None:
    """Refuses a file with more faces than fit into memory."""
    if count > MAX_FACES:
        raise InputError(f"{path} has {count / 1e6:.0f} million faces: simplify the model")


def without_strays(part: Part) -> Part:
    """The part without vertices that no face uses, which would count for its size."""
    used = np.zeros(len(part.vertices), bool)
    used[part.faces] = True
    if used.all():
        return part
    columns = {name: getattr(part, name) for name in ("vertices", "normals", "colors", "uv")}
    kept = {name: values[used] for name, values in columns.items() if values is not None}
    return replace(part, faces=(np.cumsum(used) - 1)[part.faces], **kept)


def unique_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows (U, C) of non-negative integers (N, C), and the index (N,) of each row."""
    index = np.zeros(len(rows), np.int64)
    for column in rows.T:  # one column at a time: a number for each combination so far
        combined = index * (int(column.max(initial=0)) + 1) + column
        _, first, index = np.unique(combined, return_index=True, return_inverse=True)
    return rows[first], index


def as_bytes(colors: np.ndarray) -> np.ndarray:
    """Colours (N, 3) uint8 from numbers in [0, 1]."""
    return np.round(np.clip(colors, 0, 1) * 255).astype(np.uint8)


def as_bytes_of_any(colors: np.ndarray) -> np.ndarray:
    """Colours (N, 3) uint8 from numbers up to 1 or, if any is larger, up to 255."""
    colors = np.nan_to_num(colors)
    return as_bytes(colors / (1.0 if colors.max(initial=0) <= 1 else 255.0))


def tinted(colors: np.ndarray | None, tint: np.ndarray | None, count: int) -> np.ndarray | None:
    """Vertex colours (count, 3) uint8, or None, times the colour (3,) in [0, 1] of a material, or None."""
    if tint is None:
        return colors
    if colors is None:
        return np.tile(as_bytes(tint), (count, 1))
    return as_bytes(colors / 255 * tint)
