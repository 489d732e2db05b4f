"""One object in files of other units, origins, formats and looks gets one pose, by the default method.

A photo of the textured object has a pose that is known and found. The grey one shows little that could be
matched, and its pose is some 10 degrees off; so files without colours are compared with one another only, on
a photo of the grey object.
"""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from picopose.demo.shots import CameraHint, PlaceHint, read_shot, unit_of
from picopose.rendering.mesh import bounding_sphere
from tests import mesh_variants, shipped
from tests.mesh_variants import HEIGHT, PLAIN, TEXTURED, WIDTH, K, Variant

SAME = 0.3, 1.5  # degrees and mm between two files' poses: they round texture coordinates and vertices
TRUE = 2.0, 5.0  # degrees and mm from the true pose, at a distance of 710 mm


def distance(pose: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Degrees, and mm between the object's middles, of two poses (4, 4) in its original frame."""
    middle = np.append(bounding_sphere(mesh_variants.look(True).vertices)[0], 1)
    turn = Rotation.from_matrix(pose[:3, :3].T @ other[:3, :3]).magnitude()
    return np.degrees(turn), 1000 * np.linalg.norm((pose @ middle - other @ middle)[:3])


def found_pose(folder, variant: Variant, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The pose in the original frame, through files and the guess of their unit, as a user has it."""
    cv2.imwrite(str(folder / "photo.png"), image[..., ::-1])
    cv2.imwrite(str(folder / "mask.png"), 255 * mask.astype(np.uint8))
    camera = CameraHint(K=[str(K[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2))])
    shot = read_shot(folder / "photo.png", camera, PlaceHint([folder / "mask.png"]), ["object"])
    mesh = mesh_variants.write(folder, variant)
    unit = unit_of(mesh, "object", shot)
    assert unit == variant.unit
    estimator = shipped.estimator().add_object(mesh, name="object", unit=unit)
    (pose,) = estimator.estimate(shot.image, shot.K, masks=[mask])
    original_from_file = np.eye(4)
    original_from_file[:3, 3] = variant.offset
    return pose.cam_from_obj @ original_from_file


@pytest.mark.parametrize("variants", [TEXTURED, PLAIN], ids=["textured", "plain"])
def test_the_same_pose_up_to_the_frame(tmp_path, variants):
    image, mask = mesh_variants.photo(variants[0].textured)
    assert image.shape == (HEIGHT, WIDTH, 3)
    poses = []
    for variant in variants:
        folder = tmp_path / variant.file
        folder.mkdir()
        poses.append(found_pose(folder, variant, image, mask))
    for variant, pose in zip(variants, poses, strict=True):
        assert np.less(distance(pose, poses[0]), SAME).all(), variant.file
    if variants is TEXTURED:
        assert np.less(distance(poses[0], mesh_variants.true_pose()), TRUE).all()
