"""Meshes and scenes of the trimesh library become the same meshes as their files."""

import numpy as np
import pytest
import trimesh
from trimesh.visual.material import PBRMaterial

from picopose.rendering.mesh import from_trimesh, load_mesh, read_mesh
from tests import mesh_variants, shipped
from tests.shared import ROOT


@pytest.mark.parametrize("variant", mesh_variants.TEXTURED, ids=lambda variant: variant.file)
def test_meshes_of_trimesh_are_those_of_their_files(variant, tmp_path):
    """A mesh of a PLY or OBJ file, a scene of a glTF file: shape, normals, texture and all."""
    path = mesh_variants.write(tmp_path, variant)
    same_mesh(from_trimesh(trimesh.load(path, process=False)), read_mesh(path))


def same_mesh(found, expected) -> None:
    assert np.array_equal(found.vertices, expected.vertices) and np.array_equal(found.faces, expected.faces)
    for name in ("normals", "colors", "uv", "texture"):
        values = getattr(found, name), getattr(expected, name)
        assert (values[0] is None) == (values[1] is None) and (values[0] is None or np.array_equal(*values))


def test_colours_of_trimesh_are_kept(tmp_path):
    path = ROOT / "data" / "mini" / "models" / "obj_000004.ply"  # with colours of vertices
    same_mesh(from_trimesh(trimesh.load(path, process=False)), read_mesh(path))
    cube = trimesh.creation.box((1, 1, 1))
    cube.visual.face_colors = np.arange(36).reshape(12, 3)
    painted = from_trimesh(cube)
    for corners, colour in zip(cube.triangles, cube.visual.face_colors[:, :3], strict=True):
        (face,) = [
            face
            for face in painted.faces
            if sorted(painted.vertices[face].tolist()) == sorted(corners.tolist())
        ]
        assert (painted.colors[face] == colour).all()
    red = trimesh.creation.box((1, 1, 1))
    red.visual = trimesh.visual.TextureVisuals(material=PBRMaterial(baseColorFactor=[255, 0, 0, 255]))
    assert (from_trimesh(red).colors == [255, 0, 0]).all()
    assert from_trimesh(trimesh.creation.box((1, 1, 1))).colors is None


def test_scenes_of_trimesh_are_put_together_as_their_files_are(tmp_path):
    """Two instances of one mesh, one of them mirrored, beside another."""
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box((0.1, 0.2, 0.3)), geom_name="box", node_name="first")
    mirrored = trimesh.transformations.compose_matrix(
        scale=(-1, 1, 1), angles=(0.1, 0.2, 0.3), translate=(1, 0, 0)
    )
    scene.graph.update("second", geometry="box", matrix=mirrored)
    scene.add_geometry(trimesh.creation.cone(0.1, 0.2), node_name="cone")
    scene.add_geometry(trimesh.load_path([[(0, 0, 0), (9, 9, 9)]]), node_name="line")
    path = tmp_path / "scene.glb"
    scene.export(path)
    found, expected = from_trimesh(scene), read_mesh(path)

    def triangles(mesh) -> np.ndarray:
        flat = mesh.vertices[mesh.faces].reshape(-1, 9)
        return flat[np.lexsort(flat.round(4).T)]

    assert len(found.faces) == 24 + len(trimesh.creation.cone(0.1, 0.2).faces)
    assert np.allclose(triangles(found), triangles(expected), atol=1e-6)


def test_objects_of_meshes_at_hand(meshes, tmp_path):
    """The pose is that of the same mesh's file, which is in millimetres, to what is rounded in metres."""
    estimator = shipped.estimator()
    image, mask = mesh_variants.photo(True)
    path = mesh_variants.write(tmp_path, mesh_variants.TEXTURED[0])
    loaded = trimesh.load(path, process=False)
    estimator.add_object(path, name="file").add_object(loaded, name="trimesh", unit="mm")
    loaded.apply_scale(0.001)
    estimator.add_object(loaded, name="metres").add_object(loaded.scene(), name="scene")
    estimator.add_object(load_mesh(path), name="mesh")
    poses = {
        name: estimator.estimate(image, mesh_variants.K, masks=mask, objects=name)[0].cam_from_obj
        for name in estimator.objects
    }
    assert np.array_equal(poses["trimesh"], poses["file"]) and np.array_equal(poses["mesh"], poses["file"])
    assert np.array_equal(poses["scene"], poses["metres"])
    assert np.allclose(poses["metres"], poses["file"], atol=1e-3)
