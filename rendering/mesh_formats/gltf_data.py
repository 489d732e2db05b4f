"""Reads and checks the lists, buffers and numbers of glTF 2.0 files (.gltf and .glb)."""

import base64
import json
import re
import struct
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np

from picopose.rendering.mesh_formats.files_beside import FilesBeside
from picopose.rendering.mesh_formats.text import plain, shown
from picopose.utils.errors import InputError

_HEADER = struct.Struct("<4sII")  # magic, version, length
_CHUNK = struct.Struct("<I4s")
_DATA = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)
_TYPES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_KINDS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_COMPRESSED = ("EXT_meshopt_compression", "KHR_meshopt_compression")


class Document:
    """A glTF file's JSON and bytes.

    Raises a `ValueError`, `KeyError`, `TypeError` or the like for damaged files.
    """

    def __init__(self, path: Path):
        self.path = path
        self._content = path.read_bytes()
        text, self._binary = _chunks(self._content)
        self.lists: dict[str, Any] = json.loads(text)
        version = str(self.lists["asset"]["version"])
        if not version.startswith("2."):
            raise InputError(f"{path} is glTF {shown(version)}: export it as glTF 2.0")
        self._beside = FilesBeside(path)
        self._buffers: dict[int, bytes] = {}
        self._numbers: dict[int, np.ndarray] = {}

    def entry(self, kind: str, index: Any) -> dict[str, Any]:
        """An entry of a list, such as `meshes`, by its index."""
        return self.lists[kind][whole(index, len(self.lists[kind]))]

    def accessor(self, index: Any) -> np.ndarray:
        """The numbers (N, C) of an accessor; float64 in [-1, 1] if it is normalized, else as stored."""
        key = whole(index)
        if key not in self._numbers:
            values = self._values(self.entry("accessors", key), self.count(key))
            values.flags.writeable = False
            self._numbers[key] = values
        return self._numbers[key]

    def count(self, index: Any) -> int:
        """Number of an accessor's entries; an `InputError` if the file is too short for them."""
        accessor = self.entry("accessors", index)
        count = whole(accessor["count"])
        if count > len(self._content) and "bufferView" not in accessor:
            raise InputError(f"{self.path} has {count} numbers that it does not bring: export it again")
        return count

    def view(self, index: Any) -> memoryview:
        """The bytes of a buffer view."""
        view = self.entry("bufferViews", index)
        buffer = self.entry("buffers", view["buffer"])
        for extension in _COMPRESSED:
            fallback = buffer.get("extensions", {}).get(extension, {}).get("fallback", False)
            if extension in view.get("extensions", {}) and (fallback or "uri" not in buffer):
                refuse_compressed(self.path, extension)
        start, length = whole(view.get("byteOffset", 0)), whole(view["byteLength"])
        content = self._buffer(whole(view["buffer"]))
        if start + length > len(content):
            raise ValueError(f"it says that it has {start + length} bytes, but has {len(content)}")
        return memoryview(content)[start : start + length]

    def file(self, uri: str) -> bytes:
        """The data in a URI, or of the file beside the mesh that it names."""
        data = _DATA.match(uri)
        if data:
            return base64.b64decode("".join(uri[data.end() :].split()), validate=True)
        return self._beside.require(unquote_to_bytes(uri)).read_bytes()

    def _buffer(self, index: int) -> bytes:
        if index not in self._buffers:
            buffer = self.entry("buffers", index)
            content = self.file(buffer["uri"]) if "uri" in buffer else self._binary
            if len(content) < whole(buffer["byteLength"]):
                raise ValueError(f"a buffer of {buffer['byteLength']} bytes has {len(content)}")
            self._buffers[index] = content
        return self._buffers[index]

    def _values(self, accessor: dict, count: int) -> np.ndarray:
        kind, width = np.dtype(_KINDS[accessor["componentType"]]), _TYPES[accessor["type"]]
        if "bufferView" in accessor:
            values = self._table(accessor, count, width, kind)
        elif "sparse" in accessor:
            values = np.zeros((count, width), kind)
        else:
            raise ValueError(f"it says that it has {count} numbers, but not where")
        if "sparse" in accessor:
            values = self._with_sparse(values, accessor["sparse"])
        if accessor.get("normalized", False) and kind.kind != "f":
            return normalised(values)
        return values.astype(np.float64) if kind.kind == "f" else values

    def _table(self, accessor: dict, count: int, width: int, kind: np.dtype) -> np.ndarray:
        view = self.view(accessor["bufferView"])
        start = whole(accessor.get("byteOffset", 0))
        own = width * kind.itemsize
        stride = whole(self.entry("bufferViews", accessor["bufferView"]).get("byteStride", own))
        if count and (stride < own or start + stride * (count - 1) + own > len(view)):
            raise ValueError(f"it says that it has {count} numbers in {len(view)} bytes")
        return np.ndarray((count, width), kind, view, start if count else 0, (stride, kind.itemsize)).copy()

    def _with_sparse(self, values: np.ndarray, sparse: dict) -> np.ndarray:
        count, where = whole(sparse["count"]), sparse["indices"]
        places = self._table(where, count, 1, np.dtype(_KINDS[where["componentType"]]))[:, 0]
        values = values.copy()
        values[places] = self._table(sparse["values"], count, values.shape[1], values.dtype)
        return values


def whole(value: Any, below: int | None = None) -> int:
    """A JSON number as an index or a size; a `ValueError` if it is none or too large."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{str(value)[:40]} stands where a whole number is expected")
    if below is not None and value >= below:
        raise ValueError(f"entry {value} of a list of {below}")
    return value


def normalised(values: np.ndarray) -> np.ndarray:
    """Integers divided by the largest of their type, float64."""
    return np.maximum(values / float(np.iinfo(values.dtype).max), -1.0)


def refuse_compressed(path: Path, extension: str) -> None:
    """Raises an `InputError` for an unsupported compression."""
    raise InputError(f"{path} is compressed by {extension}: export it without compression")


def names(content: bytes) -> list[bytes]:
    """The files that a glTF file names."""
    lists = json.loads(_chunks(content)[0])
    entries = [*lists.get("buffers", []), *lists.get("images", [])]
    uris = [entry["uri"] for entry in entries if "uri" in entry]
    return [unquote_to_bytes(uri) for uri in uris if not _DATA.match(uri)]


def _chunks(content: bytes) -> tuple[bytes, bytes]:
    """The JSON text and the binary chunk."""
    if content[:4] != b"glTF":
        return plain(content), b""
    _, version, length = _HEADER.unpack_from(content)
    if version != 2:
        raise ValueError(f"it is GLB of version {version}")
    if length > len(content):
        raise ValueError(f"it says that it has {length} bytes, but has {len(content)}")
    found, position = {}, _HEADER.size
    while position + _CHUNK.size <= length:
        size, kind = _CHUNK.unpack_from(content, position)
        position += _CHUNK.size
        if position + size > length:
            raise ValueError("a chunk is cut short")
        found.setdefault(kind, content[position : position + size])
        position += size
    return found[b"JSON"].rstrip(b"\0"), found.get(b"BIN\0", b"")
