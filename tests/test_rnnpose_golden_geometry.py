"""RNNPose's pose updates, crops and renderings reproduce the original's."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from picopose.model.rnnpose import lm
from picopose.model.rnnpose.crops import drawn_camera, patch_window, zoom
from picopose.model.rnnpose.quirks import MENDED, RELEASED
from picopose.model.rnnpose.surface import Drawn, Surface, barycentrics, interpolated, trace
from picopose.rendering.mesh_views import MeshViews
from picopose.utils.geometry import transform
from tests.rnnpose_golden import (
    LM_GRADIENT,
    NORMAL,
    POSE,
    THETA,
    ZOOM_CAMERA,
    ZOOMED,
    arrays,
    difference,
    golden_mesh,
    relative,
    seeded,
    stored_colours,
    stored_triangles,
)

# The Levenberg-Marquardt step

CAMERA = {"centre": torch.zeros(1, 3), "diameter": 1.0, "quirks": RELEASED}


@dataclass(frozen=True)
class Solving:
    """The example of the step: what it is given but for the pose."""

    points: Tensor  # (1, N, 3)
    target: Tensor  # (1, N, 2)
    weight: Tensor  # (1, N)
    K: Tensor  # (1, 3, 3)

    def step(self, motion: Tensor) -> Tensor:
        return lm.step(motion, self.points, self.target, self.weight, self.K, **CAMERA)


def solving(golden: dict[str, Tensor]) -> Solving:
    points = lifted(golden["depth"], golden["K"])
    return Solving(points, golden["target"].view(1, -1, 2), golden["weight"].view(1, -1), golden["K"][None])


def lifted(depth: Tensor, K: Tensor) -> Tensor:
    """Points (1, H*W, 3) at the pixels of a depth map (H, W)."""
    row, column = torch.meshgrid(*(torch.arange(float(side)) for side in depth.shape), indexing="ij")
    x, y = (column - K[0, 2]) / K[0, 0] * depth, (row - K[1, 2]) / K[1, 1] * depth
    return torch.stack([x, y, depth], dim=-1).view(1, -1, 3)


def test_exponential_and_its_gradient():
    golden = arrays("lm")
    twist = golden["se3.xi"].clone().requires_grad_()
    ours = lm.exponential(twist, at_identity=True)
    assert difference(ours, golden["se3.G"]) < POSE
    (ours * seeded("golden.se3.cotangent", 12, 4, 4)).sum().backward()
    assert difference(twist.grad, golden["se3.grad"]) < POSE


def test_steps():
    golden = arrays("lm")
    given = solving(golden)
    motion = golden["poses"][:1]
    for i in range(6):
        moved = transform(motion, given.points)
        valid = (given.points[..., 2] > 0.1) & (moved[..., 2] > 0.1)
        frame = {"pivot": torch.zeros(1, 3), "unit": 1.0}
        normal, right = lm.normal_equations(moved, given.target, given.weight * valid, given.K, **frame)
        assert relative(lm.damped(normal, camera=True)[0].float(), golden["H"][i]) < NORMAL
        assert difference(right[0].float(), golden["b"][i]) < NORMAL * golden["b"].abs().max()
        assert difference(lm.solve(normal, right, camera=True)[0].float(), golden["xi"][i]) < POSE
        motion = given.step(motion)
        assert difference(motion[0], golden["poses"][i + 1]) < POSE
        if i == 2:
            assert difference(motion[0], golden["pose_num_iters3"]) < POSE


def test_components_of_a_step_are_clamped():
    golden = arrays("lm")
    target, weight, K = golden["clamp_target"].view(1, -1, 2), golden["weight"].view(1, -1), golden["K"][None]
    points = lifted(torch.full_like(golden["depth"], 2.0), golden["K"])
    frame = {"pivot": torch.zeros(1, 3), "unit": 1.0}
    normal, right = lm.normal_equations(points, target, weight, K, **frame)
    raw = torch.linalg.solve(lm.damped(normal, camera=True), right)[0].float()
    assert relative(raw, golden["clamp_xi_raw"]) < POSE
    assert (raw.abs() > 1).sum() == 5
    assert difference(lm.solve(normal, right, camera=True)[0].float(), golden["clamp_xi"]) < POSE
    motion = lm.step(torch.eye(4)[None], points, target, weight, K, **CAMERA)
    assert difference(motion[0], golden["clamp_pose"]) < POSE


def test_gradients_of_a_step():
    golden = arrays("lm")
    given = solving(golden)
    for leaf in (given.target, given.weight):
        leaf.requires_grad_()
    motion = given.step(golden["grad_T0"][None])
    assert difference(motion[0], golden["grad_pose"]) < POSE
    (motion * seeded("golden.lm.cotangent", 1, 1, 4, 4)[0]).sum().backward()
    assert relative(given.target.grad[0], golden["grad_target"].view(-1, 2)) < LM_GRADIENT
    assert relative(given.weight.grad[0], golden["grad_weight"].view(-1)) < LM_GRADIENT


# Crops


@pytest.mark.parametrize("case", range(6))
def test_patch(case):
    golden = arrays("crop")
    x, y, width, height = golden[f"bbox{case}"].tolist()
    window = patch_window(arrays("mesh")["verts"], golden[f"T{case}"], golden["K"], 480, 640)
    side = int(max(width, height) * 2.7)
    left, top = max(0, int(x + width / 2 - side / 2)), max(0, int(y + height / 2 - side / 2))
    assert (window.left, window.top, window.side) == (left, top, side)
    patch = torch.from_numpy(window.cut(golden["image"].numpy(), 320))
    assert torch.equal(patch[::16, ::16], golden[f"patch_sub{case}"])
    assert torch.equal(patch.view(-1, 3).sum(0), golden[f"patch_sum{case}"].long())
    if case == 0:
        assert torch.equal(patch, golden["patch0"])
    camera = window.camera(golden["K"], 320, RELEASED)
    assert difference(camera, golden[f"K_patch{case}"]) < 1e-4


@pytest.mark.parametrize("case", range(6))
def test_zoom(case):
    golden = arrays("crop")
    vertices, pose = arrays("mesh")["verts"], golden[f"T{case}"]
    window = zoom(vertices, pose[None], golden[f"K_patch{case}"][None], 320, 240, RELEASED)
    assert difference(window.K[0], golden[f"K_zoom{case}"]) < ZOOM_CAMERA
    assert difference(window.grid[0, ::24, ::24], golden[f"grid_sub{case}"]) < THETA
    assert difference(_theta(window.grid[0]), golden[f"zoom_affine{case}"]) < THETA
    (x_low, x_high, y_low, y_high), (x, y) = golden[f"zoom_extent{case}"], golden[f"zoom_center{case}"]
    side = 2.8 * max(x - x_low, x_high - x, y - y_low, y_high - y)
    assert 320 * _theta(window.grid[0])[0, 0].item() == pytest.approx(side.item(), rel=1e-6)
    assert difference(160 * (_theta(window.grid[0])[:, 2] + 1), torch.stack([x, y])) < 320 * THETA
    cut = patch_window(vertices, pose, golden["K"], 480, 640).cut(golden["image"].numpy(), 320)
    zoomed = window.look(torch.from_numpy(cut).permute(2, 0, 1)[None] / 255)
    assert difference(zoomed[0, :, ::12, ::12], golden[f"zoom_image_sub{case}"]) < ZOOMED


def _theta(grid: Tensor) -> Tensor:
    """The affine map (2, 3) by which a grid (S, S, 2) was made."""
    reach = 1 - 1 / len(grid)  # of the outermost pixels' centres
    across, down = grid[0, -1] - grid[0, 0], grid[-1, 0] - grid[0, 0]
    columns = across / (2 * reach), down / (2 * reach), (grid[0, 0] + grid[-1, -1]) / 2
    return torch.stack(columns, dim=-1)


# The surface


@dataclass(frozen=True)
class Seen:
    """A stored rendering."""

    faces: Tensor  # (1, S, S)
    shares: Tensor  # (P, 3)
    cam_from_obj: Tensor  # (1, 4, 4)
    K: Tensor  # (1, 3, 3), with which it is drawn
    traced: Drawn  # by ourselves, in its triangles


@pytest.fixture(scope="module")
def surface() -> Surface:
    return Surface.of(golden_mesh())


@pytest.fixture(scope="module", params=range(3))
def seen(request, surface) -> tuple[dict[str, Tensor], int, Seen]:
    """The golden loop, the number of one of its cycles, and its rendering."""
    loop, cycle = arrays("loop"), request.param
    faces, shares = stored_triangles(loop, cycle)
    pose = loop[f"cycle{cycle}_T"][None]
    K = drawn_camera(loop[f"cycle{cycle}_K_zoom"][None], 240, RELEASED)
    return loop, cycle, Seen(faces, shares, pose, K, trace(surface, faces, pose, K, RELEASED))


def test_surface_keeps_the_meshs_vertices_and_faces(surface):
    mesh = arrays("mesh")
    assert torch.equal(surface.vertices, mesh["verts"])
    assert torch.equal(surface.faces, mesh["faces"].long())


def test_barycentric_coordinates(surface, seen):
    _, _, seen = seen
    ours = barycentrics(surface, seen.faces, seen.cam_from_obj, seen.K)
    off = (ours - seen.shares).abs().amax(dim=1)
    assert off.median() < 5e-5
    assert (off < 1e-3).float().mean() > 0.999  # slivers apart
    assert off.max() < 5e-3


def test_depth_of_the_nearest_vertex_is_exact_with_its_offset(surface, seen):
    loop, cycle, seen = seen
    stored = interpolated(surface, seen.faces, seen.shares, seen.cam_from_obj, RELEASED)
    golden = loop[f"cycle{cycle}_depth_used_sub"]
    for drawn in (stored, seen.traced):
        assert torch.equal(drawn.depth[0, ::4, ::4], golden)
    background = golden[seen.faces[0, ::4, ::4] < 0]
    assert torch.equal(background, torch.full_like(background, 1e-5))


def test_shading(surface, seen):
    loop, cycle, seen = seen
    colours = arrays("mesh")["colors"].float() / 255
    ours = seen.traced.shaded(seen.traced.spread(colours), surface)
    golden = stored_colours(loop, cycle)
    off = (ours - golden).abs()
    assert off.max() < 1.01 * 0.5 / 255  # rounded
    assert torch.equal(ours > 0, golden > 0)


def test_own_renderer(surface, seen):
    loop, cycle, seen = seen
    views = MeshViews({1: golden_mesh()})
    _, faces = views.draw_faces([1], seen.cam_from_obj, seen.K, 240)
    both = (faces >= 0) & (seen.faces >= 0)
    assert ((faces >= 0) != (seen.faces >= 0)).sum() <= 5
    assert (faces != seen.faces)[both].sum() < 0.001 * both.sum()
    depth = trace(surface, faces, seen.cam_from_obj, seen.K, MENDED).depth
    same = both & (faces == seen.faces)
    assert (depth[0] - loop[f"cycle{cycle}_zbuf"])[same[0]].abs().max() < 5e-5
