"""What the estimator draws: a pose on its photo, and what the photo was compared with."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from picopose.pipeline.estimator import ObjectPose, PoseEstimator
from picopose.rendering.render_templates import render_view
from picopose.rendering.viewpoints import object_poses
from picopose.utils.errors import InputError
from tests import mesh_variants, shipped
from tests.box_and_cone import PHOTO, K, as_pose
from tests.rendered import renderer


@pytest.fixture(scope="module")
def cereal(tmp_path_factory):
    """A function that finds the cereal box, whose file's origin lies far off, in a photo that was drawn."""
    mesh = mesh_variants.write(tmp_path_factory.mktemp("cereal"), mesh_variants.TEXTURED[2])
    image, mask = mesh_variants.photo(True)

    def find(estimator: PoseEstimator) -> ObjectPose:
        return estimator.add_object(mesh, name="cereal").estimate(image, mesh_variants.K, masks=[mask])[0]

    return find


def filled(xy: np.ndarray, size: int) -> np.ndarray:
    """(size, size) bool: what the convex hull of points (N, 2) px covers."""
    canvas, corners = np.zeros((size, size), np.uint8), cv2.convexHull(np.float32(xy))
    return cv2.fillConvexPoly(canvas, np.int32(np.round(16 * corners)), 1, shift=4) > 0


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return (first & second).sum() / (first | second).sum()


def test_render_and_match_compares_with_the_object_drawn_at_its_pose(cereal):
    """The box is convex: it covers what lies between its vertices as the photo's camera sees them."""
    estimator = shipped.estimator()
    pose = cereal(estimator)
    picture, points = estimator.compared(pose, mesh_variants.K)
    size = len(picture)
    assert picture.shape == (size, size, 3) and points.shape == (len(pose.matches), 2) and len(points) > 20
    # The picture shows the photo's part about the box, a tenth of its side wider on each side.
    middle, side = (pose.box[:2] + pose.box[2:]) / 2, 1.2 * (pose.box[2:] - pose.box[:2]).max()

    def in_picture(photo_xy: np.ndarray) -> np.ndarray:
        return (photo_xy + 0.5 - middle + side / 2) * size / side - 0.5

    assert np.allclose(points, in_picture(pose.matches[:, 2:]), atol=1e-3)
    xyz = trimesh.transform_points(estimator.objects["cereal"].mesh.vertices, pose.cam_from_obj)
    xy = xyz @ mesh_variants.K.T
    silhouette, drawn = filled(in_picture(xy[:, :2] / xy[:, 2:]), size), picture.max(axis=2) > 40
    assert iou(silhouette, drawn) > 0.97
    assert all(silhouette[y, x] for x, y in np.round(points).astype(int))
    # The pose is right, so that the photo shows each point where the drawing does.
    assert np.median(np.linalg.norm(pose.matches[:, :2] - pose.matches[:, 2:], axis=1)) < 2


def test_a_network_compares_with_the_template(cereal):
    """Which is the view of that number, cropped to the square about it."""
    estimator = shipped.estimator(shipped.PICOPOSE_WEIGHTS)
    pose = cereal(estimator)
    picture, points = estimator.compared(pose, mesh_variants.K)
    size = estimator.config.model.size
    assert picture.shape == (size, size, 3)
    assert np.array_equal(points, pose.matches[:, 2:]) and len(points) > 20
    prepared = estimator.objects["cereal"]
    mesh = replace(prepared.mesh, vertices=prepared.mesh.vertices - np.float32(prepared.centre))
    view = render_view(renderer(), mesh, object_poses(mesh.vertices, 42)[pose.template])
    left, top, width, height = cv2.boundingRect(view.mask.astype(np.uint8))
    side = max(width, height)
    left, top = left - (side - width) // 2, top - (side - height) // 2
    assert min(left, top) >= 0
    crop = cv2.resize(view.rgb[top : top + side, left : left + side], (size, size))
    assert np.abs(picture.astype(float) - crop).mean() < 4
    assert all(picture[y, x].any() for x, y in np.round(points).astype(int))


def test_a_pose_is_drawn_where_the_object_is_seen(estimator):
    """The outline of the box is that of its projected corners' hull."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", (0.4, 0.1, -0.3)).as_matrix()
    pose[:3, 3] = 0.01, -0.02, 0.5
    black, camera = np.zeros((480, 640, 3), np.uint8), (1200, 1200, 320, 240)
    photo, given = torch.from_numpy(black).permute(2, 0, 1), replace(as_pose("box", pose), confidence=0.1)
    drawn = estimator.draw(photo, [given], camera)
    assert drawn.shape == black.shape and drawn.dtype == np.uint8 and not black.any()
    xyz = trimesh.transform_points(estimator.objects["box"].mesh.vertices, pose)
    silhouette = filled(1200 * xyz[:, :2] / xyz[:, 2:] + [320, 240], 640)[:480]
    rim = silhouette & ~cv2.erode(silhouette.astype(np.uint8), np.ones((3, 3))).astype(bool)
    assert (np.abs(drawn[rim] - np.float64([235, 50, 50])).max(axis=1) < 60).mean() > 0.8  # red: wrong
    assert np.array_equal(estimator.draw(black, [], K), black)
    with pytest.raises(InputError, match="no object named mug: there are box, cone"):
        estimator.draw(PHOTO, [as_pose("mug", np.eye(4))], K)
