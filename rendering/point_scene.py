"""Writes a photo with depth as a 3D scene: its coloured points, with boxes around objects, in one GLB file.

Its frame is glTF's, as in `scene`.
"""

from collections.abc import Sequence

import numpy as np
import torch
import trimesh

from picopose.rendering.boxes import EDGES, corners
from picopose.rendering.overlay import YELLOW
from picopose.rendering.scene import GLTF_FROM_CAM
from picopose.utils.geometry import unproject

MOST_POINTS = 100_000  # of a part of the photo; 16 bytes each

Box = tuple[str, np.ndarray, np.ndarray]  # name, size (3,) m, cam_from_obj (4, 4) m


def point_scene_file(
    image: np.ndarray, depth: np.ndarray, K: np.ndarray, objects: Sequence[np.ndarray], boxes: Sequence[Box]
) -> bytes:
    """A GLB file of the points of a photo (H, W, 3) uint8 with depth (H, W) in m, 0 where it is not known.

    Args:
        K: (3, 3).
        objects: masks (H, W) bool, whose points are kept dense and apart from the rest.
        boxes: of the objects, with axes.
    """
    scene = trimesh.Scene()
    rest = ~np.any([np.zeros(depth.shape, bool), *objects], axis=0)
    for name, mask in [("photo", rest), *((f"object {index}", mask) for index, mask in enumerate(objects))]:
        cloud = _cloud(image, depth, K, mask)
        if len(cloud.vertices):
            scene.add_geometry(cloud, node_name=name, transform=GLTF_FROM_CAM)
    for index, (name, size, cam_from_obj) in enumerate(boxes):
        gltf_from_obj = GLTF_FROM_CAM @ cam_from_obj
        scene.add_geometry(_outline(size), node_name=f"{name} {index}", transform=gltf_from_obj)
        longest = float(size.max())
        axes = trimesh.creation.axis(origin_size=longest / 50, axis_length=0.7 * longest)
        scene.add_geometry(axes, node_name=f"{name} {index} axes", transform=gltf_from_obj)
    return scene.export(file_type="glb")


def _cloud(image: np.ndarray, depth: np.ndarray, K: np.ndarray, mask: np.ndarray) -> trimesh.PointCloud:
    """The points of a mask (H, W), evenly thinned out if there are too many."""
    y, x = np.nonzero(mask & (depth > 0))
    step = -(-len(y) // MOST_POINTS) or 1
    y, x = y[::step], x[::step]
    pixels, z = torch.from_numpy(np.stack([x, y], axis=-1)), torch.from_numpy(depth[y, x])
    xyz = unproject(torch.from_numpy(K), pixels.double(), z.double())
    return trimesh.PointCloud(xyz.numpy(), colors=image[y, x])


def _outline(size: np.ndarray) -> trimesh.path.Path3D:
    """The edges of a box of this size about the origin."""
    path = trimesh.load_path(corners(-size / 2, size / 2)[EDGES])
    path.colors = np.tile([*YELLOW, 255], (len(path.entities), 1))
    return path
