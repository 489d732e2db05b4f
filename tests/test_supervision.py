"""Supervision from a pair agrees with casting rays through its meshes, and with the pose it was made from."""

import numpy as np
import pytest
import torch

from picopose.model.picopose.affine import Similarity, object_origin, pose_from_similarity
from picopose.model.picopose.supervision import (
    MAX_ANGLE_DEG,
    MAX_LOG_SCALE,
    StartNoise,
    disturb,
    draw_noise,
    patch_of,
    true_positions,
    true_similarity,
)
from picopose.utils.geometry import cell_centres, rotation_angle, transform
from picopose.utils.records import Pair
from tests import rendered
from tests.raycast import cast, surface_points

SIZE = 224


def float64(tensor: torch.Tensor) -> np.ndarray:
    return tensor.double().numpy()


def first_hit(points_cam: np.ndarray, instances: list) -> np.ndarray:
    """Distance to the first surface along the rays to points, in units of the points' distance."""
    hits = []
    for mesh, cam_from_obj in instances:
        vertices = mesh.vertices @ cam_from_obj[:3, :3].T + cam_from_obj[:3, 3]
        hits.append(cast(np.zeros(3), points_cam, vertices, mesh.faces))
    return np.min(hits, axis=0)


@pytest.mark.parametrize("index", range(5))
def test_positions_agree_with_ray_casting(index: int):
    """Where a ray through the template meets the mesh, seen from the photo's camera: within 0.1 px.

    What lies hidden, behind the occluder or the object, by more than 1.5 % of the crop's width and over
    a pixel off the rim of what hides it is not visible; what nothing hides is, but for some at edges.
    """
    scene = rendered.scene(index, size=SIZE, occluder=True)
    real, template = scene.pair.real, scene.pair.template
    cells = 64
    positions = true_positions(Pair.stack([scene.pair]), sides=[cells])[0][0]
    centres = float64(cell_centres(cells, SIZE))
    xyz, hit = surface_points(
        centres, float64(template.K), float64(template.cam_from_obj), scene.mesh.vertices, scene.mesh.faces
    )
    pose = float64(real.cam_from_obj)
    points = xyz @ pose[:3, :3].T + pose[:3, 3]
    projected = points @ float64(real.K).T
    projected = projected[:, :2] / projected[:, 2:]

    visible = positions.visible.numpy()
    assert visible.sum() > 100
    assert hit[visible].all()
    error = np.linalg.norm(positions.xy.numpy() - projected, axis=1)
    assert error[visible].max() < 0.1
    points, visible, known = points[hit], visible[hit], positions.known.numpy()[hit]

    width = points[:, 2] * SIZE / float64(real.K)[0, 0]
    px = points[:, 2:] / float64(real.K)[0, 0]  # m
    around = [points + px * np.array([dx, dy, 0]) for dx, dy in [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]]
    behind = [
        (1 - first_hit(p, scene.instances)) * p[:, 2] for p in around
    ]  # m, by which something is nearer
    hidden = np.min(behind, axis=0) > 0.015 * width
    assert hidden.sum() > 20
    assert not (visible & hidden).any()
    open_to_view = (behind[0] < 1e-4) & known
    assert (visible & open_to_view).sum() > 0.9 * open_to_view.sum()


def test_outside_of_the_crop_is_not_visible():
    pair = rendered.batch(1, size=SIZE)
    shift = torch.tensor([[1.0, 0, 150], [0, 1, 0], [0, 0, 1]])
    moved = Pair(
        real=type(pair.real)(
            rgb=pair.real.rgb,
            mask=torch.ones_like(pair.real.mask),
            K=shift @ pair.real.K,
            depth=torch.full_like(pair.real.depth, pair.real.cam_from_obj[0, 2, 3].item()),
            cam_from_obj=pair.real.cam_from_obj,
        ),
        template=pair.template,
    )
    positions = true_positions(moved, sides=[32])[0]
    outside = positions.xy[..., 0] > SIZE - 0.5
    assert outside.sum() > 20
    assert not positions.visible[outside].any()


def test_patch_of():
    xy = torch.tensor([[0.0, 0.0], [13.4, 0.0], [13.6, 0.0], [0.0, 14.0], [223.4, 223.4]])
    assert patch_of(xy, cells=16, size=224).tolist() == [0, 0, 1, 16, 255]


@pytest.mark.parametrize("viewing_ray", [True, False])
def test_similarity_gives_the_pose_back(viewing_ray: bool):
    """Translation exactly; the rotation better than with any other in-plane angle."""
    pair = rendered.batch(6, size=SIZE)
    true = true_similarity(pair, viewing_ray=viewing_ray)

    def pose(turned_deg: float) -> torch.Tensor:
        turn = torch.deg2rad(torch.tensor(turned_deg))
        none = torch.zeros(6)
        noise = StartNoise(log_scale=none, angle=turn.expand(6), shift=torch.zeros(6, 2))
        return pose_from_similarity(disturb(true, noise), pair.template, pair.real.K, viewing_ray=viewing_ray)

    def error(estimate: torch.Tensor) -> torch.Tensor:
        return rotation_angle(estimate[:, :3, :3] @ pair.real.cam_from_obj[:, :3, :3].mT)

    assert (pose(0)[:, :3, 3] - pair.real.cam_from_obj[:, :3, 3]).norm(dim=-1).max() < 1e-5
    assert (error(pose(0)) < error(pose(2))).all()
    assert (error(pose(0)) < error(pose(-2))).all()


def test_viewing_ray_similarity_is_exact_for_a_template_of_the_same_side():
    """The same side seen from another distance and place in the photo, turned by 40 degrees."""
    pair = rendered.batch(4, size=SIZE)
    similarity = Similarity(
        translation=torch.tensor([[30.0, -20.0]]).expand(4, 2),
        scale=torch.full((4,), 0.7),
        rotation=torch.tensor([[40.0]]).deg2rad().expand(4, 1),
    )
    rotation = torch.cat([similarity.rotation.cos(), -similarity.rotation.sin()], dim=-1)
    similarity = Similarity(similarity.translation, similarity.scale, rotation)
    pose = pose_from_similarity(similarity, pair.template, pair.real.K, viewing_ray=True)
    moved = Pair(real=type(pair.real)(**vars(pair.real) | {"cam_from_obj": pose}), template=pair.template)
    found = true_similarity(moved, viewing_ray=True)
    torch.testing.assert_close(found.rotation, similarity.rotation, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.scale, similarity.scale, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.translation, similarity.translation, atol=1e-2, rtol=0)


def test_noise_turns_about_the_object():
    pair = rendered.batch(3, size=SIZE)
    true = true_similarity(pair, viewing_ray=True)
    noise = StartNoise(
        torch.full((3,), 0.3), torch.full((3,), -0.5), torch.tensor([[4.0, -7.0]]).expand(3, 2)
    )
    matrix = disturb(true, noise).matrix(pair.template)
    origin = object_origin(pair.template.K, pair.template.cam_from_obj)[:, None]
    target = object_origin(pair.real.K, pair.real.cam_from_obj)[:, None]
    torch.testing.assert_close(transform(matrix, origin), target + noise.shift[:, None], atol=1e-2, rtol=0)
    change = matrix[:, :2, :2] @ torch.linalg.inv(true.matrix(pair.template)[:, :2, :2])
    angle = torch.atan2(change[:, 1, 0], change[:, 0, 0])
    torch.testing.assert_close(angle, noise.angle, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.linalg.det(change).sqrt().log(), noise.log_scale, atol=1e-4, rtol=0)


def test_noise_is_a_function_of_its_seed_and_bounded():
    draws = [draw_noise(512, size=112, generator=torch.Generator().manual_seed(seed)) for seed in range(40)]
    again = draw_noise(512, size=112, generator=torch.Generator().manual_seed(7))
    assert torch.equal(again.shift, draws[7].shift) and torch.equal(again.angle, draws[7].angle)
    angles_deg = torch.stack([draw.angle for draw in draws]).rad2deg()
    assert angles_deg.abs().max() <= MAX_ANGLE_DEG + 1e-3
    assert (angles_deg.mean(dim=1).abs() < 3).all()  # both signs
    stds = {round(std.item()) for std in angles_deg.std(dim=1)}
    assert stds >= {1, 2, 5, 10} and max(stds) >= 14
    assert torch.stack([draw.log_scale for draw in draws]).abs().max() <= MAX_LOG_SCALE
    assert torch.stack([draw.shift for draw in draws]).abs().max() <= 28
