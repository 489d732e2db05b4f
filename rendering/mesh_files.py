"""Meshes by id, read from files on demand."""

from collections.abc import Iterator, Mapping

from picopose.rendering.mesh import Mesh, load_mesh
from picopose.utils.lru import Lru
from picopose.utils.mesh_file import MeshFile

KEPT = 1e9  # bytes of meshes and textures


class MeshFiles(Mapping[int, Mesh]):
    """Reads meshes and keeps the most recently used.

    Args:
        files: by id.
    """

    def __init__(self, files: Mapping[int, MeshFile]):
        self._files = dict(files)
        self._kept = Lru(KEPT, _bytes_of)

    def __getitem__(self, obj_id: int) -> Mesh:
        return self._kept.get(self._files[obj_id], lambda file: load_mesh(file.path, unit=file.unit))

    def __contains__(self, obj_id: object) -> bool:
        return obj_id in self._files  # without reading it

    def __iter__(self) -> Iterator[int]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _bytes_of(mesh: Mesh) -> int:
    return sum(values.nbytes for values in vars(mesh).values() if values is not None)
