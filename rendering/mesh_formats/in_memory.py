"""Converts meshes and scenes of the trimesh library, with their colours and textures."""

from dataclasses import replace

import numpy as np
import trimesh
from PIL import Image
from trimesh.visual.color import DEFAULT_COLOR, to_float, to_rgba
from trimesh.visual.material import Material, PBRMaterial, SimpleMaterial

from picopose.rendering.mesh_formats.gltf import copies
from picopose.rendering.mesh_formats.part import Part, tinted
from picopose.utils.errors import InputError
from picopose.utils.pixels import rgb_of


def parts_of(given: trimesh.Trimesh | trimesh.Scene) -> list[Part]:
    """The triangles of each geometry, in the frame of the scene."""
    if isinstance(given, trimesh.Trimesh):
        return [_part(given)] if len(given.faces) else []
    nodes = given.graph.geometry_nodes
    return [
        copies(_part(geometry), np.stack([given.graph[node][0] for node in nodes[name]]))
        for name, geometry in given.geometry.items()
        if name in nodes and isinstance(geometry, trimesh.Trimesh) and len(geometry.faces)
    ]


def _part(mesh: trimesh.Trimesh) -> Part:
    vertices, faces = np.array(mesh.vertices), np.array(mesh.faces)
    visual = mesh.visual
    if visual.kind == "face":
        return Part.of_corners(vertices, faces[..., None], face_colors=visual.face_colors[:, :3])
    part = Part(vertices, faces, np.array(mesh.vertex_normals))
    if visual.kind == "vertex":
        return replace(part, colors=np.array(visual.vertex_colors[:, :3]))
    if visual.kind != "texture":
        return part
    picture, tint = _look(visual.material)
    colors = visual.vertex_attributes.get("color")
    colors = None if colors is None else to_rgba(colors)[:, :3]
    part = replace(part, colors=tinted(colors, tint, len(vertices)))
    if picture is None or visual.uv is None:
        return part
    return replace(part, uv=np.array(visual.uv), texture=rgb_of(picture, "mesh: its texture"))


def _look(material: Material) -> tuple[Image.Image | None, np.ndarray | None]:
    """The texture of a material, and the colour (3,) in [0, 1] that it is multiplied by."""
    if isinstance(material, SimpleMaterial):
        picture, color = material.image, material.diffuse
        color = None if np.array_equal(color, DEFAULT_COLOR) else color  # trimesh's own where none was given
    elif isinstance(material, PBRMaterial):
        picture, color = material.baseColorTexture, material.baseColorFactor
    else:
        raise InputError(f"mesh with a {type(material).__name__}: give a Scene, one material a mesh")
    return picture, None if color is None else to_float(color)[:3]
