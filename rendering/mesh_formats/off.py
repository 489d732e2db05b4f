"""Reads OFF files: ASCII, with normals, colours and texture coordinates of vertices, and colours of faces."""

import logging
import re
from pathlib import Path

import numpy as np

from picopose.rendering.mesh_formats.part import GREY, Part, as_bytes_of_any
from picopose.rendering.mesh_formats.text import integers, numbers, plain, whole_numbers
from picopose.rendering.mesh_formats.triangulation import triangulate
from picopose.utils.errors import InputError

LOG = logging.getLogger(__name__)
_HEADER = re.compile(rb"\s*(ST)?(C)?(N)?(4)?(n)?OFF(\s*BINARY)?")


def read(path: Path) -> list[Part]:
    """The faces of an OFF file."""
    text = re.sub(rb"#[^\n]*", b"", plain(path.read_bytes()))
    header = _HEADER.match(text)
    if header is None:
        raise ValueError("it does not begin with OFF")
    if any(header.group(4, 5, 6)):
        raise InputError(
            f"{path} is a binary OFF file or one of four dimensions: save it as ASCII OFF or PLY"
        )
    lines = [line for line in text[header.end() :].splitlines() if line.strip()]
    count, faces, *_ = integers(lines[0]).tolist()
    if not (0 <= count <= len(lines) - 1 and faces == len(lines) - 1 - count):
        raise ValueError(f"it says that it has {count} vertices and {faces} faces in {len(lines) - 1} lines")
    return [_part(lines[1 : count + 1], lines[count + 1 :], header, path)]


def names(content: bytes) -> list[bytes]:
    """None: an OFF file names no others."""
    return []


def _part(vertex_lines: list[bytes], face_lines: list[bytes], header: re.Match, path: Path) -> Part:
    st, coloured, with_normals = header.group(1, 2, 3)
    table = numbers(b" ".join(vertex_lines)).reshape(len(vertex_lines), -1)
    place = 6 if with_normals else 3
    colours = table.shape[1] - place - (2 if st else 0)
    if not vertex_lines or colours not in ((3, 4) if coloured else (0,)):
        raise ValueError(
            f"its vertices have {table.shape[1]} numbers each, which its first word does not say"
        )
    normals = table[:, 3:6] if with_normals else None
    # With alpha, which shows the range.
    colors = as_bytes_of_any(table[:, place : place + colours])[:, :3] if coloured else None
    vertices = table[:, :3]
    rows = [numbers(line) for line in face_lines]
    sizes = np.array([int(row[0]) for row in rows], dtype=int)
    corners = np.concatenate([row[1 : size + 1] for row, size in zip(rows, sizes, strict=True)] or [[]])
    if len(corners) != sizes.sum():
        raise ValueError("a face has fewer corners than it says")
    corners = whole_numbers(corners)
    triangles, owner = triangulate(vertices, corners, sizes)
    behind = [row[size + 1 :] for row, size in zip(rows, sizes, strict=True)]
    of_faces = None if coloured else _face_colors(behind, path)
    if of_faces is None:
        return Part(vertices, corners[triangles], normals, colors)
    return Part.of_corners(vertices, corners[triangles][..., None], face_colors=of_faces[owner])


def _face_colors(behind: list[np.ndarray], path: Path) -> np.ndarray | None:
    """(P, 3) uint8 of the numbers after each face's corners; None if there are none."""
    if any(len(row) == 1 for row in behind):
        LOG.warning("%s: its faces name colours of a map, which is not in the file: they are not shown", path)
        return None
    if not all(len(row) in (0, 3, 4) for row in behind):
        raise ValueError("a face has another number of corners than it says")
    given = np.array([len(row) > 0 for row in behind], dtype=bool)
    if not given.any():
        return None
    colors = np.full((len(behind), 3), GREY, np.uint8)
    colors[given] = as_bytes_of_any(np.stack([row[:3] for row in behind if len(row)]))
    return colors
