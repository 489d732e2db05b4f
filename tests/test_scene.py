"""The 3D scene of a result: objects, camera and photo are where they belong."""

import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

from picopose.rendering.mesh import load_mesh
from picopose.rendering.scene import scene_file
from tests.box_and_cone import PHOTO, K


def test_the_scene_holds_objects_where_they_are(meshes):
    mesh = load_mesh(meshes / "box.ply")
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", (0.4, 0.1, -0.3)).as_matrix()
    pose[:3, 3] = 0.05, -0.02, 0.6
    content = scene_file([("box", mesh, pose)], PHOTO, np.array(K))
    scene = trimesh.load_scene(trimesh.util.wrap_as_stream(content), file_type="glb")
    assert {"camera", "photo", "box 0 0", "box 0 axes"} <= set(scene.graph.nodes_geometry)
    transform, name = scene.graph["box 0 0"]
    corners = trimesh.transform_points(scene.geometry[name].vertices, transform) * [1, -1, -1]
    expected = trimesh.transform_points(mesh.vertices, pose)
    assert np.allclose(corners.min(axis=0), expected.min(axis=0), atol=1e-5)
    assert np.allclose(corners.max(axis=0), expected.max(axis=0), atol=1e-5)
    # The photo's corners are seen where the camera has the photo's corners, behind the object.
    transform, name = scene.graph["photo"]
    seen = trimesh.transform_points(scene.geometry[name].vertices, transform) * [1, -1, -1]
    assert seen[:, 2].min() > expected[:, 2].max()
    pixels = (seen / seen[:, 2:]) @ np.array(K).T
    assert np.allclose(sorted(pixels[:, 0]), [-0.5, -0.5, 159.5, 159.5], atol=1e-3)
