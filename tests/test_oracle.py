"""With true correspondences the path of crop, template, cells and solver gives back the true pose.

Every error of a convention (pixels, crops, frames, units) shows here. The correspondences are an oracle: an
independent ray caster finds where each template cell lies in the photo.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

from picopose.model.picopose.affine import Similarity, pose_from_similarity
from picopose.model.picopose.flow import Flow, correspondences, floored
from picopose.model.solve.pnp import solve_pnp
from picopose.rendering.mesh import Mesh, make_mesh
from picopose.rendering.render_templates import render_view
from picopose.rendering.renderer import Renderer
from picopose.rendering.viewpoints import object_poses
from picopose.utils import template_files
from picopose.utils.crop import crop_image, crop_views, mask_boxes, square_boxes
from picopose.utils.geometry import cell_centres, rotation_angle
from picopose.utils.records import Correspondences, Crop, View
from tests.masks import records
from tests.raycast import surface_points

SCENES = 200
SIZE, CELLS = 224, 64
WIDTH, HEIGHT = 640, 480


@dataclass
class Scenes:
    """SCENES detections with their templates, true poses and true correspondences."""

    real: Crop
    template: View
    cam_from_obj: torch.Tensor  # (S, 4, 4) of the real crops
    zoom: torch.Tensor  # (S,) crop pixels per photo pixel
    matches: Correspondences


def random_mesh(rng: np.random.Generator) -> Mesh:
    """The convex hull of random points, or two of them side by side; the origin lies off the centre."""
    hulls = []
    for part in range(rng.integers(1, 3)):
        points = rng.normal(size=(16, 3)) * rng.uniform(0.4, 1, 3) + [2.0 * part, 0, 0]
        hulls.append((points, ConvexHull(points).simplices))
    vertices = np.concatenate([points for points, _ in hulls])
    faces = np.concatenate([hull + i * 16 for i, (_, hull) in enumerate(hulls)])
    vertices -= vertices.mean(axis=0)
    radius = np.linalg.norm(vertices, axis=1).max()
    vertices = vertices * rng.uniform(0.03, 0.12) / radius + rng.uniform(-0.02, 0.02, 3)
    return make_mesh(vertices, faces)


def random_camera(rng: np.random.Generator) -> np.ndarray:
    focal = rng.uniform(500, 1100)
    x, y = rng.uniform(300, 340), rng.uniform(220, 260)
    return np.array([[focal, 0, x], [0, focal * rng.uniform(0.98, 1.02), y], [0, 0, 1]])


def random_pose(rng: np.random.Generator, K: np.ndarray, radius: float) -> np.ndarray:
    """Anywhere in the photo where the object's sphere is in view, at the size of a usual detection."""
    pixels = rng.uniform(30, 110)
    depth = K[0, 0] * radius / pixels
    pixel = [rng.uniform(pixels + 25, WIDTH - pixels - 25), rng.uniform(pixels + 25, HEIGHT - pixels - 25), 1]
    pose = np.eye(4)
    pose[:3, :3] = Rotation.random(random_state=rng).as_matrix()
    pose[:3, 3] = depth * (np.linalg.inv(K) @ pixel)
    return pose


def nearest_template(pose: np.ndarray, templates: np.ndarray) -> np.ndarray:
    """The template whose camera stands nearest, seen from the object."""

    def directions(poses):
        centres = -np.einsum("...ji,...j->...i", poses[..., :3, :3], poses[..., :3, 3])
        return centres / np.linalg.norm(centres, axis=-1, keepdims=True)

    return templates[(directions(templates) @ directions(pose)).argmax()]


def render_template(renderer: Renderer, mesh: Mesh, pose: np.ndarray) -> View:
    """As it is read from a template folder: depth in whole millimetres."""
    image = render_view(renderer, mesh, pose)
    rgb = torch.from_numpy(image.rgb).permute(2, 0, 1)[None] / 255
    depth = torch.from_numpy(image.depth * 1000).round()[None] / 1000
    K = torch.tensor(template_files.K)[None]
    return crop_views(
        rgb, depth, torch.from_numpy(image.mask)[None], K, torch.from_numpy(pose)[None].float(), SIZE
    )


def crop_photo(renderer: Renderer, mesh: Mesh, pose: np.ndarray, K: np.ndarray) -> Crop:
    photo = renderer.render([(mesh, pose)], K, WIDTH, HEIGHT)
    mask = torch.from_numpy(photo.mask)[None]
    windows = square_boxes(mask_boxes(mask), HEIGHT, WIDTH)
    return crop_image(
        torch.from_numpy(photo.rgb).permute(2, 0, 1), records(mask), windows, torch.from_numpy(K), SIZE
    )


def true_flow(mesh: Mesh, template: View, real: Crop, pose: np.ndarray) -> Flow:
    """Flow on the finest grid from the ray caster; certain where the template's cell sees the object."""
    cells = cell_centres(CELLS, SIZE).double().numpy()
    xyz, hit = surface_points(
        cells,
        template.K[0].double().numpy(),
        template.cam_from_obj[0].double().numpy(),
        mesh.vertices,
        mesh.faces,
    )
    cam = xyz @ pose[:3, :3].T + pose[:3, 3]
    projected = cam @ real.K[0].double().numpy().T
    offset = projected[:, :2] / projected[:, 2:] - cells
    shape = (1, -1, CELLS, CELLS)
    return Flow(
        offset=torch.from_numpy(offset.T.reshape(shape)).float(),
        certainty=torch.from_numpy(np.where(hit, 20.0, -20.0).reshape(shape)).float(),
    )


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    rng = np.random.default_rng(0)
    reals, templates, poses, zooms, matches = [], [], [], [], []
    with Renderer() as renderer:
        for _ in range(SCENES):
            mesh, K = random_mesh(rng), random_camera(rng)
            pose = random_pose(rng, K, np.linalg.norm(mesh.vertices, axis=1).max())
            template = render_template(
                renderer, mesh, nearest_template(pose, object_poses(mesh.vertices, 162))
            )
            real = crop_photo(renderer, mesh, pose, K)
            matches.append(correspondences(true_flow(mesh, template, real, pose), template))
            zooms.append(real.K[0, 0, 0] / K[0, 0])
            reals.append(real)
            templates.append(template)
            poses.append(torch.from_numpy(pose))
    return Scenes(
        Crop.cat(reals),
        View.cat(templates),
        torch.stack(poses),
        torch.stack(zooms),
        Correspondences.cat(matches),
    )


def errors(estimate: torch.Tensor, truth: torch.Tensor) -> tuple[float, float]:
    """Median rotation error (degrees) and translation error (share of the distance)."""
    estimate = estimate.double()
    angle = torch.rad2deg(rotation_angle(estimate[:, :3, :3] @ truth[:, :3, :3].mT))
    distance = (estimate[:, :3, 3] - truth[:, :3, 3]).norm(dim=1) / truth[:, :3, 3].norm(dim=1)
    return angle.median().item(), distance.median().item()


def test_the_scenes_are_hard_enough(scenes: Scenes):
    axis = torch.nn.functional.normalize(scenes.cam_from_obj[:, :3, 3], dim=1)[:, 2]
    assert torch.rad2deg(axis.acos()).median() > 8  # off the optical axis
    assert (scenes.matches.weight > 0).sum(dim=1).min() > 300


def test_true_correspondences_give_the_true_pose(scenes: Scenes):
    solution = solve_pnp(scenes.matches, scenes.real.K, threshold_px=2 * scenes.zoom)
    rotation, translation = errors(solution.cam_from_obj, scenes.cam_from_obj)
    assert solution.solved.all()
    print(f"{rotation:.4f} degrees, {100 * translation:.4f} % of the distance")
    assert rotation < 0.05
    assert translation < 0.001


RELEASED_SCENES = 60


def released_flow(mesh: Mesh, template: View, real: Crop, pose: np.ndarray, K: np.ndarray) -> Flow:
    """What a network answers that has learnt the original's training targets perfectly.

    Written down from the original's training in its own terms: crop coordinates are `zoom * (x - left)`, and
    both the template's points and the query's are rounded down to whole pixels.
    """
    cell = np.arange(CELLS)
    point = np.floor(SIZE / CELLS * cell + SIZE / CELLS / 2)
    x, y = np.meshgrid(point, point)
    crop_xy = np.stack([x, y], axis=-1).reshape(-1, 2)
    K_template, template_pose = np.array(template_files.K), template.cam_from_obj[0].double().numpy()
    zoom, corner = window_of(template.K[0].double().numpy(), K_template)
    image_xy = np.floor(corner + crop_xy / zoom)
    xyz, hit = surface_points(image_xy, K_template, template_pose, mesh.vertices, mesh.faces)
    # The depth is the floored pixel's, the ray is the unrounded point's.
    depth = (xyz @ template_pose[:3, :3].T + template_pose[:3, 3])[:, 2:]
    ray = np.column_stack([corner + crop_xy / zoom, np.ones(len(crop_xy))]) @ np.linalg.inv(K_template).T
    xyz = (ray * depth - template_pose[:3, 3]) @ template_pose[:3, :3]
    seen = (xyz @ pose[:3, :3].T + pose[:3, 3]) @ K.T
    zoom, corner = window_of(real.K[0].double().numpy(), K)
    target = np.floor(zoom * (seen[:, :2] / seen[:, 2:] - corner))
    in_cells = target * CELLS / SIZE - np.stack(np.meshgrid(cell, cell), axis=-1).reshape(-1, 2)
    offset = (in_cells - 0.5) * SIZE / CELLS  # as `FlowDecoder` gives it out: "no motion" is half a cell
    shape = (1, -1, CELLS, CELLS)
    return Flow(
        offset=torch.from_numpy(offset.T.reshape(shape)).float(),
        certainty=torch.from_numpy(np.where(hit, 20.0, -20.0).reshape(shape)).float(),
    )


def window_of(K_crop: np.ndarray, K_image: np.ndarray) -> tuple[float, np.ndarray]:
    """Crop pixels per pixel of the image, and the window's first pixel (2,)."""
    crop_from_image = K_crop @ np.linalg.inv(K_image)
    zoom = crop_from_image[0, 0]
    return zoom, 0.5 - (crop_from_image[:2, 2] + 0.5) / zoom


def test_flow_of_the_released_weights_is_read_as_they_were_trained():
    """The reading that takes the rounding into account is more than twice as exact as the plain one."""
    rng = np.random.default_rng(0)
    found = {"plain": [], "floored": []}
    with Renderer() as renderer:
        for _ in range(RELEASED_SCENES):
            mesh, K = random_mesh(rng), random_camera(rng)
            pose = random_pose(rng, K, np.linalg.norm(mesh.vertices, axis=1).max())
            templates = object_poses(mesh.vertices, 162)
            template = render_template(renderer, mesh, nearest_template(pose, templates))
            real = crop_photo(renderer, mesh, pose, K)
            flow = released_flow(mesh, template, real, pose, K)
            real_zoom = real.K[:, 0, 0] / K[0, 0]
            template_zoom = template.K[:, 0, 0] / template_files.K[0][0]
            for reading, rounding in (("plain", None), ("floored", floored(real_zoom, template_zoom))):
                matches = correspondences(flow, template, rounding)
                solution = solve_pnp(matches, real.K, threshold_px=2 * real_zoom)
                estimate = solution.cam_from_obj[0].double().numpy()
                found[reading].append(released_errors(estimate, pose, K))
    for reading, values in found.items():
        angle, distance, depth, origin = np.median(np.array(values), axis=0)
        print(f"{reading}: {angle:.3f} deg, {distance:.3f} % off, {depth:+.3f} % in depth, {origin:.3f} px")
    assert angle <= 0.08
    assert distance <= 0.05
    assert abs(depth) < 0.02
    assert origin < 0.05
    _, plain_distance, _, plain_origin = np.median(np.array(found["plain"]), axis=0)
    assert plain_distance > 2 * distance and plain_origin > 20 * origin


def released_errors(estimate: np.ndarray, truth: np.ndarray, K: np.ndarray) -> tuple[float, ...]:
    """Rotation in degrees, translation and signed depth in % of the distance, the origin in px."""
    angle = np.degrees(Rotation.from_matrix(estimate[:3, :3] @ truth[:3, :3].T).magnitude())
    shift = estimate[:3, 3] - truth[:3, 3]
    pixels = [(K @ pose[:3, 3])[:2] / pose[2, 3] for pose in (estimate, truth)]
    distance = np.linalg.norm(truth[:3, 3])
    return (
        angle,
        100 * np.linalg.norm(shift) / distance,
        100 * shift[2] / truth[2, 3],
        float(np.linalg.norm(pixels[0] - pixels[1])),
    )


def test_noise_and_outliers_are_survived(scenes: Scenes):
    generator = torch.Generator().manual_seed(0)
    xy = scenes.matches.xy + torch.randn(scenes.matches.xy.shape, generator=generator)
    wrong = torch.rand(xy.shape[:2], generator=generator) < 0.4
    anywhere = SIZE * torch.rand(xy.shape, generator=generator)
    noisy = Correspondences(
        torch.where(wrong[..., None], anywhere, xy), scenes.matches.xyz, scenes.matches.weight
    )
    solution = solve_pnp(noisy, scenes.real.K, threshold_px=2 * scenes.zoom)
    rotation, translation = errors(solution.cam_from_obj, scenes.cam_from_obj)
    print(f"{rotation:.4f} degrees, {100 * translation:.4f} % of the distance")
    assert rotation < 1
    assert translation < 0.01


def test_the_true_2d_transform_places_the_object(scenes: Scenes):
    """The affine transform with the true shift, size and turn: off only by what no 2D transform can say."""
    angle, scale = true_turn_and_scale(scenes)
    origin = project_origin(scenes.real.K, scenes.cam_from_obj.float())
    shift = origin - project_origin(scenes.template.K, scenes.template.cam_from_obj)
    similarity = Similarity(shift, scale, torch.stack([angle.cos(), angle.sin()], dim=1))
    pose = pose_from_similarity(similarity, scenes.template, scenes.real.K, viewing_ray=True)
    rotation, translation = errors(pose, scenes.cam_from_obj)
    print(f"{rotation:.4f} degrees, {100 * translation:.4f} % of the distance")
    assert rotation < 10  # templates stand about 15 degrees apart
    assert translation < 1e-3


def project_origin(K: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
    point = (K @ pose[:, :3, 3:])[..., 0]
    return point[:, :2] / point[:, 2:]


def true_turn_and_scale(scenes: Scenes) -> tuple[torch.Tensor, torch.Tensor]:
    """Angle about the viewing ray by brute force over whole degrees, and the ratio of sizes in pixels."""
    degrees = torch.arange(0, 360, 1.0)
    best = []
    for K, pose, template_pose in zip(
        scenes.real.K, scenes.cam_from_obj.float(), scenes.template.cam_from_obj, strict=True
    ):
        views = View(*(torch.zeros(len(degrees)),) * 2, K=K.expand(len(degrees), 3, 3), depth=torch.zeros(1),
                     cam_from_obj=template_pose.expand(len(degrees), 4, 4))  # fmt: skip
        origin = project_origin(K[None], pose[None]) - project_origin(K[None], template_pose[None])
        turns = torch.deg2rad(degrees)
        similarity = Similarity(
            origin.expand(len(degrees), 2),
            torch.ones(len(degrees)),
            torch.stack([turns.cos(), turns.sin()], dim=1),
        )
        rotations = pose_from_similarity(similarity, views, views.K, viewing_ray=True)[:, :3, :3]
        best.append(turns[rotation_angle(rotations @ pose[:3, :3].T).argmin()])
    zoom = (
        scenes.real.K[:, 0, 0]
        * scenes.real.K[:, 1, 1]
        / (scenes.template.K[:, 0, 0] * scenes.template.K[:, 1, 1])
    )
    return torch.stack(best), zoom.sqrt() * scenes.template.cam_from_obj[:, 2, 3] / scenes.cam_from_obj[
        :, 2, 3
    ].float()
