"""A mesh on disk and what is needed to read it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MESH_SUFFIXES = (".ply", ".obj", ".glb", ".gltf", ".stl", ".off")  # that `rendering.mesh` reads


@dataclass(frozen=True)
class MeshFile:
    """A mesh on disk."""

    path: Path
    # Metres per unit of the mesh: 0.001 for BOP, 0.1 for MegaPose's normalised ones, else 1; or a function
    # of the mesh's diameter in its unit.
    unit: float | Callable[[float], float]
    aim: str = "origin"  # of its templates' cameras, see `rendering.viewpoints.object_poses`


def is_gltf(path: Path) -> bool:
    """Whether a mesh file is glTF, whose unit is the metre."""
    return path.suffix.lower() in (".glb", ".gltf")
