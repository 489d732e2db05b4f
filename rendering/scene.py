"""Writes the estimated poses as a 3D scene: the objects in front of the photo, in one GLB file.

Its frame is glTF's: y up, the camera looks along -z.
"""

import io
from collections.abc import Sequence

import cv2
import numpy as np
import trimesh
from PIL import Image
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from picopose.rendering.mesh import Mesh, vertex_colors

GLTF_FROM_CAM = np.diag([1.0, -1.0, -1.0, 1.0])
LARGEST_PHOTO = 1024  # px


def scene_file(instances: Sequence[tuple[str, Mesh, np.ndarray]], image: np.ndarray, K: np.ndarray) -> bytes:
    """A GLB file of objects (name, mesh, cam_from_obj (4, 4) m) in a photo (H, W, 3) uint8 of camera K."""
    scene = trimesh.Scene()
    far = 0.5
    for index, (name, mesh, cam_from_obj) in enumerate(instances):
        gltf_from_obj = GLTF_FROM_CAM @ cam_from_obj
        for part, geometry in enumerate(geometries(mesh)):
            scene.add_geometry(geometry, node_name=f"{name} {index} {part}", transform=gltf_from_obj)
        size = float(np.ptp(mesh.vertices, axis=0).max())
        axes = trimesh.creation.axis(origin_size=size / 50, axis_length=0.7 * size)
        scene.add_geometry(axes, node_name=f"{name} {index} axes", transform=gltf_from_obj)
        far = max(far if index else 0.0, float(cam_from_obj[2, 3]) + 1.5 * size)
    corners = _corners(image.shape, K) * far
    scene.add_geometry(_photo(image, corners), node_name="photo", transform=GLTF_FROM_CAM)
    rays = np.stack([np.zeros_like(corners), corners], axis=1)
    scene.add_geometry(trimesh.load_path(rays), node_name="camera", transform=GLTF_FROM_CAM)
    return scene.export(file_type="glb")


def geometries(mesh: Mesh) -> list[trimesh.Trimesh]:
    """A mesh as trimesh objects, one for each texture layer."""
    if mesh.texture is None:
        return [_geometry(mesh, mesh.faces)]
    layers = mesh.texture.reshape(-1, *mesh.texture.shape[-3:])
    layer_of = mesh.uv[:, 2] if mesh.uv.shape[1] == 3 else np.zeros(len(mesh.uv))
    of_faces = layer_of[mesh.faces[:, 0]].round().astype(int)
    return [
        _geometry(mesh, mesh.faces[of_faces == layer], layers[layer] if layer >= 0 else None)
        for layer in np.unique(of_faces)
    ]


def _geometry(mesh: Mesh, faces: np.ndarray, texture: np.ndarray | None = None) -> trimesh.Trimesh:
    used, faces = np.unique(faces, return_inverse=True)
    geometry = trimesh.Trimesh(
        mesh.vertices[used],
        faces.reshape(-1, 3),
        vertex_normals=mesh.normals[used],
        process=False,
    )
    if texture is None:
        geometry.visual = trimesh.visual.ColorVisuals(geometry, vertex_colors=vertex_colors(mesh)[used])
    else:
        material = PBRMaterial(baseColorTexture=_as_jpeg(texture), metallicFactor=0.0, roughnessFactor=1.0)
        geometry.visual = TextureVisuals(uv=mesh.uv[used, :2], material=material)
    return geometry


def _corners(shape: Sequence[int], K: np.ndarray) -> np.ndarray:
    """Rays (4, 3) at depth 1 through an image's corners, in order around it."""
    height, width = shape[:2]
    xy = np.array([[0, 0], [width, 0], [width, height], [0, height]]) - 0.5
    return np.column_stack([xy, np.ones(4)]) @ np.linalg.inv(K).T


def _photo(image: np.ndarray, corners: np.ndarray) -> trimesh.Trimesh:
    """A photo on an emissive rectangle, so that a viewer's lights do not change it."""
    scale = min(1.0, LARGEST_PHOTO / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    material = PBRMaterial(
        emissiveTexture=_as_jpeg(small),
        emissiveFactor=[1.0, 1.0, 1.0],
        baseColorFactor=[0, 0, 0, 255],
        doubleSided=True,
    )
    visual = TextureVisuals(uv=np.array([[0, 1], [1, 1], [1, 0], [0, 0.0]]), material=material)
    return trimesh.Trimesh(corners, [[0, 2, 1], [0, 3, 2]], visual=visual, process=False)


def _as_jpeg(rgb: np.ndarray) -> Image.Image:
    """A picture (H, W, 3) uint8 that is stored as JPEG in GLB files, a quarter of PNG's size."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=92)
    return Image.open(file)
