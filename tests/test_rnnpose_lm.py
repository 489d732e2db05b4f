"""The Levenberg-Marquardt step on an ellipsoid whose depth is known in closed form."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from picopose.model.rnnpose import lm
from picopose.model.rnnpose.quirks import MENDED, RELEASED, Quirks
from picopose.utils.geometry import cell_centres, invert, rigid, rotation_angle, transform, unproject

AXES = (0.05, 0.04, 0.03)  # m, half of the ellipsoid's
EXTENT = 0.13  # m, what a view shows
DEGREES, SHIFT = 15.0, (0.01, 0.01, 0.05)


@dataclass(frozen=True)
class Views:
    """Ellipsoids at wrong poses, and where their points should be seen."""

    truth: Tensor  # (B, 4, 4)
    start: Tensor  # (B, 4, 4)
    K: Tensor  # (B, 3, 3)
    points: Tensor  # (B, N, 3), camera frame, of the surface at the start; of depth 0 where there is none
    target: Tensor  # (B, N, 2) px, without error
    size: int

    @property
    def weight(self) -> Tensor:
        """(B, N): 1 on the surface."""
        return (self.points[..., 2] > 0).to(self.points.dtype)

    def solve(self, steps: int, quirks: Quirks = MENDED, **other: Tensor) -> list[Tensor]:
        """Poses (B, 4, 4) after each of some steps, in single precision; `other` targets or weights."""
        given = {"target": self.target, "weight": self.weight, "points": self.points, "K": self.K} | other
        given = {name: values.float() for name, values in given.items()}
        motion, centre, poses = torch.eye(4).expand(len(self.K), 4, 4), self.start[:, :3, 3].float(), []
        for _ in range(steps):
            motion = lm.step(motion, **given, centre=centre, diameter=0.1, quirks=quirks)
            poses.append(motion.double() @ self.start)
        return poses

    def degrees(self, poses: Tensor) -> float:
        """The median error of rotations."""
        return rotation_angle(poses[:, :3, :3] @ self.truth[:, :3, :3].mT).rad2deg().median().item()

    def millimetres(self, poses: Tensor) -> float:
        """The median error of translations."""
        return 1000 * (poses - self.truth)[:, :3, 3].norm(dim=1).median().item()


def views(count: int, size: int, seed: int = 0) -> Views:
    rng = np.random.default_rng(seed)
    rotation = torch.from_numpy(Rotation.random(count, random_state=rng).as_matrix())
    truth = rigid(rotation, torch.from_numpy(rng.uniform((-0.1, -0.1, 0.6), (0.1, 0.1, 1.0), (count, 3))))
    turn = Rotation.from_euler("xyz", rng.normal(0, DEGREES, (count, 3)), degrees=True).as_matrix()
    shift = torch.from_numpy(rng.normal(0, SHIFT, (count, 3)))
    start = rigid(torch.from_numpy(turn) @ rotation, truth[:, :3, 3] + shift)
    K = _camera(start[:, :3, 3], size)
    points = _points(start, K, size)
    target = lm.project(K, transform(truth @ invert(start), points))
    return Views(truth, start, K, points, target, size)


def _camera(centre: Tensor, size: int) -> Tensor:
    """Cameras (B, 3, 3) with what is about centres (B, 3) in the middle."""
    focal = size / EXTENT * centre[:, 2]
    K = torch.diag_embed(torch.stack([focal, focal, torch.ones_like(focal)], dim=1))
    K[:, :2, 2] = (size - 1) / 2 - focal[:, None] * centre[:, :2] / centre[:, 2:]
    return K


def _points(cam_from_obj: Tensor, K: Tensor, size: int) -> Tensor:
    """(B, size^2, 3): where the pixels' rays enter the ellipsoid; 0 where they miss it."""
    pixels = cell_centres(size, size).double().expand(len(K), -1, 2)
    rays = unproject(K, pixels, torch.ones(pixels.shape[:2], dtype=torch.float64))
    axes = torch.tensor(AXES, dtype=torch.float64)
    origin = (invert(cam_from_obj)[:, None, :3, 3]) / axes
    direction = rays @ cam_from_obj[:, :3, :3] / axes
    square, half, rest = (direction**2).sum(-1), (origin * direction).sum(-1), (origin**2).sum(-1) - 1
    inside = half**2 - square * rest
    depth = torch.where(inside > 0, (-half - inside.clamp(min=0).sqrt()) / square, 0)
    return rays * depth[..., None]


@pytest.fixture(scope="module")
def many() -> Views:
    return views(24, 48)


def test_perfect_targets_are_met(many):
    assert many.degrees(many.start) > 15
    poses = many.solve(12)
    for step, limit in ((1, 6), (2, 0.6), (3, 0.01), (12, 1e-4)):
        assert many.degrees(poses[step - 1]) < limit
    assert many.millimetres(poses[-1]) < 1e-3


def test_the_originals_steps_halve_the_error(many):
    errors = [many.degrees(pose) for pose in many.solve(12, RELEASED)[2::3]]
    assert errors[0] > 1
    for worse, better in pairwise(errors):
        assert 5 < worse / better < 12
    assert errors[-1] < 0.01


def test_errors_of_a_pixel_average_out():
    some = views(8, 160)
    noise = torch.randn(some.target.shape, generator=torch.Generator().manual_seed(0))
    poses = some.solve(4, target=some.target + noise)
    assert some.degrees(poses[-1]) < 0.1
    assert some.millimetres(poses[-1]) < 0.3


def test_outliers_do_harm_unless_they_weigh_nothing(many):
    rng = torch.Generator().manual_seed(0)
    outlier = torch.rand(many.weight.shape, generator=rng) < 0.3
    wild = many.size * torch.rand(many.target.shape, generator=rng)
    target = torch.where(outlier[..., None], wild, many.target)
    assert many.degrees(many.solve(5, target=target, weight=many.weight * ~outlier)[-1]) < 1e-4
    assert many.degrees(many.solve(5, target=target)[-1]) > 0.5


def test_a_batch_is_solved_as_each_alone(many):
    together = many.solve(2)[-1]
    for i in range(3):
        arrays = [values[i : i + 1] for values in (many.truth, many.start, many.K, many.points, many.target)]
        assert (Views(*arrays, many.size).solve(2)[-1][0] - together[i]).abs().max() < 1e-6


@pytest.mark.parametrize("quirks", [MENDED, Quirks(camera_twist=True)], ids=["object", "camera"])
def test_gradients_are_those_of_finite_differences(quirks):
    view, generator = views(2, 5), torch.Generator().manual_seed(0)
    motion = rigid(view.truth[:, :3, :3] @ view.start[:, :3, :3].mT, torch.full((2, 3), 0.01).double())
    target = view.target + torch.randn(view.target.shape, generator=generator, dtype=torch.float64)
    weight = view.weight * torch.rand(view.weight.shape, generator=generator, dtype=torch.float64)
    frame = {"centre": view.start[:, :3, 3], "diameter": 0.1, "quirks": quirks}

    def step(target: Tensor, weight: Tensor) -> Tensor:
        return lm.step(motion, view.points, target, weight, view.K, **frame)

    assert torch.autograd.gradcheck(step, (target.requires_grad_(), weight.requires_grad_()))


def test_gradients_of_the_exponential_are_those_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    twists = torch.randn(5, 6, generator=generator, dtype=torch.float64)
    twists[1:3] *= torch.tensor([[1e-3], [9e-3]])  # on the side of the series
    assert torch.autograd.gradcheck(lm.exponential, twists.requires_grad_())


def test_exponential_is_that_of_the_matrix():
    generator = torch.Generator().manual_seed(0)
    twists = (
        torch.randn(20, 6, generator=generator, dtype=torch.float64) * torch.logspace(-6, 0.5, 20)[:, None]
    )
    v, (x, y, z) = twists[:, :3], twists[:, 3:].unbind(1)
    matrices = torch.zeros(20, 4, 4, dtype=torch.float64)
    matrices[:, :3, 3] = v
    matrices[:, 0, 1], matrices[:, 0, 2], matrices[:, 1, 2] = -z, y, -x
    matrices[:, 1, 0], matrices[:, 2, 0], matrices[:, 2, 1] = z, -y, x
    assert (lm.exponential(twists) - torch.linalg.matrix_exp(matrices)).abs().max() < 1e-12


def test_where_nothing_can_be_solved_nothing_moves():
    view = views(2, 12)
    motion = rigid(torch.eye(3).expand(2, 3, 3), torch.full((2, 3), 0.01))
    frame = {"centre": view.start[:, :3, 3].float(), "diameter": 0.1, "quirks": MENDED}
    points, target, weight, K = (v.float() for v in (view.points, view.target, view.weight, view.K))
    assert torch.equal(lm.step(motion, points, target, 0 * weight, K, **frame), motion)
    assert torch.equal(lm.step(motion, points, torch.nan * target, weight, K, **frame), motion)


def test_points_too_near_do_not_count():
    """As the original has it those within 0.1 m, else those within a tenth of the object's diameter."""
    assert lm.near_limit(0.5, RELEASED) == 0.1
    assert lm.near_limit(0.5, MENDED) == pytest.approx(0.05)
    K, frame = torch.eye(3)[None], {"centre": torch.tensor([[0.0, 0.0, 1.0]]), "diameter": 0.5}
    for quirks, depth in ((RELEASED, 0.09), (MENDED, 0.04)):
        points = torch.rand(1, 50, 3, generator=torch.Generator().manual_seed(0)) * depth
        target = lm.project(K, points) + 0.1
        still = lm.step(torch.eye(4)[None], points, target, torch.ones(1, 50), K, **frame, quirks=quirks)
        assert torch.equal(still[0], torch.eye(4))
