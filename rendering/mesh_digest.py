"""Digests of a mesh, its files and the way it is drawn, by which stale templates are told.

Names are looked for in the text of the files, which is quicker than to read the mesh.
"""

import hashlib
import re
from pathlib import Path

import numpy as np

from rendering.mesh import FilesBeside, Mesh
from utils import layouts

# PLY's and OBJ's ways to name a texture or a library of materials, and glTF's.
_NAMED = re.compile(
    rb"^[ \t]*(?:comment TextureFile|mtllib|map_K[ads])[ \t]+(.+?)[ \t]*\r?$"
    rb"|\"uri\"\s*:\s*\"([^\"]{1,255})\"",
    re.MULTILINE | re.IGNORECASE,
)
_MAX_NAME = 255  # bytes


def mesh_digest(path: Path, *parameters: object) -> str:
    """Of a mesh file, the files it names, and `parameters`, after the version of the way of rendering.

    Raises an `OSError` if the mesh is missing.
    """
    digest = hashlib.sha256(repr(parameters).encode())
    for file in files_of(path):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return f"{layouts.TEMPLATE_VERSION} {digest.hexdigest()}"


def content_digest(shown: Mesh, *parameters: object) -> str:
    """As `mesh_digest`, of a mesh as it was read."""
    digest = hashlib.sha256(repr(parameters).encode())
    for name, values in vars(shown).items():
        if values is not None:
            digest.update(f"{name} {values.shape}".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
    return f"{layouts.TEMPLATE_VERSION} {digest.hexdigest()}"


def files_of(path: Path) -> list[Path]:
    """A mesh file, then the materials and textures that it and these name, where they exist."""
    files, beside = [path], FilesBeside(path)
    for file in files:  # grows while materials are read
        for names in _NAMED.findall(file.read_bytes()):
            name = b"".join(names)
            found = beside.find(name.decode(errors="ignore")) if len(name) <= _MAX_NAME else None
            if found is not None and found not in files:
                files.append(found)
    return files
