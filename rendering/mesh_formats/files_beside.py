"""Finds the files that a mesh file names: materials, textures and buffers."""

import os
import unicodedata
from pathlib import Path

from picopose.rendering.mesh_formats.text import shown, spellings
from picopose.utils.errors import InputError

# Of ShapeNet, of others, and of Gazebo (GSO).
TEXTURE_FOLDERS = (("..", "images"), ("..", "textures"), ("..", "materials"))


class FilesBeside:
    """Looks only in a mesh file's own folder and in a texture folder beside it."""

    def __init__(self, mesh: Path):
        self._mesh, self._folder = mesh, mesh.parent

    def require(self, name: bytes) -> Path:
        """The file that the mesh names; an `InputError` if it is not there."""
        found = self.find(name)
        if found is None:
            raise InputError(
                f"{self._mesh} names {shown(name)}, which is not beside it: put that file there or remove "
                "its name"
            )
        return found

    def find(self, name: bytes) -> Path | None:
        """The file of a name in any capitalisation; None if it does not exist."""
        for spelling in spellings(name.strip().replace(b"\\", b"/")):
            base = Path(spelling).name
            for candidate in (spelling, base, f"../materials/textures/{base}"):
                found = self._inside(candidate)
                if found is not None:
                    return found
        return None

    def _inside(self, name: str) -> Path | None:
        parts = Path(os.path.normpath(name)).parts
        if "\0" in name or parts[:1] in ((), ("/",), ("//",)):
            return None
        if parts[0] == ".." and parts[:2] not in TEXTURE_FOLDERS:
            return None
        return _file(self._folder.joinpath(*parts))


def _file(path: Path) -> Path | None:
    """The file of a path, or one whose name differs only in capitalisation or Unicode form."""
    try:
        if path.is_file():
            return path
        alike = [other for other in path.parent.iterdir() if _folded(other.name) == _folded(path.name)]
    except OSError:  # no such folder, or too long a name
        return None
    return alike[0] if len(alike) == 1 and alike[0].is_file() else None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
