"""Reads STL files, ASCII and binary, with the facet colours of VisCAM, SolidView and Magics."""

import logging
import re
from pathlib import Path

import numpy as np

from picopose.rendering.mesh_formats.part import GREY, Part
from picopose.rendering.mesh_formats.text import numbers, plain

LOG = logging.getLogger(__name__)
_HEADER = 80  # bytes
_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_KEYWORD = re.compile(rb"\b(facet|vertex|endfacet)\b", re.IGNORECASE)
_VERTEX = re.compile(rb"\bvertex\s+(\S+\s+\S+\s+\S+)", re.IGNORECASE)
_COLOURED = 1 << 15
_SEARCHED = 1 << 16  # bytes


def read(path: Path) -> list[Part]:
    """The facets of an STL file, each with vertices of its own."""
    content = path.read_bytes()
    if _is_text(content):
        return [_of_facets(_ascii(plain(content)))]
    facets = _binary(content, path)
    colors = _colors(facets["attribute"], content[:_HEADER])
    return [_of_facets(facets["corners"].astype(np.float64), colors)]


def names(content: bytes) -> list[bytes]:
    """None: an STL file names no others."""
    return []


def _of_facets(corners: np.ndarray, colors: np.ndarray | None = None) -> Part:
    faces = np.arange(3 * len(corners)).reshape(-1, 3)
    return Part(corners.reshape(-1, 3), faces, colors=None if colors is None else colors.repeat(3, axis=0))


def _is_text(content: bytes) -> bool:
    """Whether it is ASCII; binary files may begin with `solid` too, but have the length they state."""
    if len(content) >= _HEADER + 4 and len(content) == _HEADER + 4 + _count(content) * _FACET.itemsize:
        return False
    start = plain(content[:_SEARCHED]).lower()
    return start.lstrip().startswith(b"solid") and (b"facet" in start or b"endsolid" in start)


def _count(content: bytes) -> int:
    return int.from_bytes(content[_HEADER : _HEADER + 4], "little")


def _ascii(text: bytes) -> np.ndarray:
    """Corners (F, 3, 3)."""
    words = [word.lower() for word in _KEYWORD.findall(text)]
    count = words.count(b"facet")
    if words != [b"facet", b"vertex", b"vertex", b"vertex", b"endfacet"] * count:
        raise ValueError("a facet does not have three vertices or does not end")
    if count and b"endsolid" not in text.lower():
        raise ValueError("it ends before its endsolid")
    values = numbers(b" ".join(_VERTEX.findall(text)))
    return values.reshape(count, 3, 3)


def _binary(content: bytes, path: Path) -> np.ndarray:
    count = _count(content) if len(content) >= _HEADER + 4 else 0
    size = _HEADER + 4 + count * _FACET.itemsize
    if len(content) < size:
        raise ValueError(f"it says that it has {count} facets, but is too short")
    rest = len(content) - size
    if rest >= _FACET.itemsize and rest % _FACET.itemsize == 0 and any(content[size:]):
        raise ValueError(f"it says that it has {count} facets, but has bytes of {count + rest // 50}")
    if rest:
        LOG.warning("%s: the %d bytes behind its %d facets are not read", path, rest, count)
    return np.frombuffer(content, _FACET, count, _HEADER + 4)


def _colors(attributes: np.ndarray, header: bytes) -> np.ndarray | None:
    """(F, 3) uint8; None where no facet has a colour.

    VisCAM and SolidView set the highest bit of coloured facets and store blue in the lowest bits. Magics puts
    a colour of the whole into the header, clears the bit of coloured facets and stores red in the lowest.
    """
    whole = header.find(b"COLOR=")
    own = (attributes & _COLOURED > 0) == (whole < 0)
    if whole >= 0 and not attributes.any():
        own[:] = False  # Autodesk's tools state only the colour of the whole and leave the facets' bits zero
    default = (
        np.frombuffer(header[whole + 6 : whole + 9], np.uint8) if whole >= 0 else np.full(3, GREY, np.uint8)
    )
    if len(default) < 3 or (whole < 0 and not own.any()):
        return None
    shifts = (0, 5, 10) if whole >= 0 else (10, 5, 0)
    values = np.stack([(attributes >> shift) & 31 for shift in shifts], axis=1)
    return np.where(own[:, None], np.round(values * (255 / 31)), default).astype(np.uint8)
