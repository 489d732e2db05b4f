"""Digests of a mesh, its files and the way it is rendered, to recognise stale templates."""

import hashlib
from pathlib import Path

import numpy as np

from picopose.rendering.mesh import Mesh, files_named
from picopose.utils import template_files


def mesh_digest(path: Path, *parameters: object) -> str:
    """The template version and a digest of a mesh file, the files it names, and `parameters`.

    Raises an `OSError` if the mesh is missing.
    """
    digest = hashlib.sha256(repr(parameters).encode())
    for file in [path, *files_named(path)]:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return f"{template_files.VERSION} {digest.hexdigest()}"


def content_digest(shown: Mesh, *parameters: object) -> str:
    """As `mesh_digest`, for a mesh in memory."""
    digest = hashlib.sha256(repr(parameters).encode())
    for name, values in vars(shown).items():
        if values is not None:
            digest.update(f"{name} {values.shape}".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
    return f"{template_files.VERSION} {digest.hexdigest()}"
