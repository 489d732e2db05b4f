"""Takes meshes and scenes of the trimesh library, with the colours and textures that they show there."""

from collections.abc import Iterator

import numpy as np
import trimesh
from trimesh.visual.color import DEFAULT_COLOR, to_float
from trimesh.visual.material import PBRMaterial, SimpleMaterial

from picopose.rendering.mesh_formats.part import Part, tinted
from picopose.utils.errors import InputError
from picopose.utils.pixels import rgb_of


def parts_of(given: trimesh.Trimesh | trimesh.Scene) -> Iterator[Part]:
    """The triangles of each geometry, in the frame of the scene."""
    textures: dict[bytes, np.ndarray] = {}  # equal ones are kept once
    for geometry in given.dump() if isinstance(given, trimesh.Scene) else [given]:
        if isinstance(geometry, trimesh.Trimesh) and len(geometry.faces):
            yield _part(geometry, textures)


def _part(mesh: trimesh.Trimesh, textures: dict[bytes, np.ndarray]) -> Part:
    visual = mesh.visual
    if visual.kind == "face":
        colors = visual.face_colors[:, :3]
        return Part.of_corners(mesh.vertices, mesh.faces[..., None], face_colors=colors)
    colors = visual.vertex_colors[:, :3] if visual.kind == "vertex" else None
    if visual.kind != "texture":
        return Part(mesh.vertices, mesh.faces, mesh.vertex_normals, colors)
    picture, tint = _look(visual.material)
    colors = tinted(visual.vertex_attributes.get("color"), tint, len(mesh.vertices))
    uv = texture = None
    if picture is not None and visual.uv is not None:
        uv, texture = visual.uv, textures.setdefault(picture.tobytes(), rgb_of(picture, "mesh: its texture"))
    return Part(mesh.vertices, mesh.faces, mesh.vertex_normals, colors, uv, texture)


def _look(material):
    """The picture of a material, or None, and the colour (3,) in [0, 1] that it is multiplied by, or None."""
    if isinstance(material, SimpleMaterial):
        picture, color = material.image, material.diffuse
        color = None if np.array_equal(color, DEFAULT_COLOR) else color  # it was not told one
    elif isinstance(material, PBRMaterial):
        picture, color = material.baseColorTexture, material.baseColorFactor
    else:
        raise InputError(f"mesh with a {type(material).__name__}: give a Scene, one material a mesh")
    return picture, None if color is None else to_float(color)[:3]
