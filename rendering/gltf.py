"""A look at a glTF file's lists before a reader trusts them.

An accessor may say that it has a billion entries without bringing any, and readers then make as many zeros.
"""

import json
import struct
from pathlib import Path

from utils.errors import InputError

GLTF_SUFFIXES = (".glb", ".gltf")
_HEADER = struct.Struct("<4sIIII")  # magic, version, length; length and kind of the first chunk


def check_gltf(path: Path) -> None:
    """Raises an `InputError` for a file with numbers that it does not bring, or without readable lists."""
    if not path.is_file():
        return  # its reader says so
    content = path.read_bytes()
    try:
        accessors = json.loads(_json_of(content)).get("accessors", [])
        # A view is as long as its bytes; without one all are zeros, but for the few of a sparse accessor.
        claimed = [int(entry["count"]) for entry in accessors if "bufferView" not in entry]
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise InputError(f"{path} cannot be read as a mesh ({error!r}): export it again") from None
    if any(count > len(content) for count in claimed):
        raise InputError(f"{path} has {max(claimed)} numbers that it does not bring: export it again")


def _json_of(content: bytes) -> bytes:
    if content[:4] != b"glTF":
        return content
    *_, length, _ = _HEADER.unpack_from(content)
    return content[_HEADER.size : _HEADER.size + length]
