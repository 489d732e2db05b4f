"""The minimal solver against constructed triples, PoseLib and OpenCV."""

import importlib.util
import zlib
from pathlib import Path

import cv2
import numpy as np
import poselib
import pytest
import torch

from picopose.model.solve import p3p as module
from picopose.model.solve.p3p import p3p, p3p_in_places


@pytest.fixture
def random(request) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


def rotations(random: np.random.Generator, count: int) -> torch.Tensor:
    q = torch.linalg.qr(torch.from_numpy(random.standard_normal((count, 3, 3))))[0]
    return q * torch.linalg.det(q)[:, None, None]


def triples(random, count: int):
    """Random triples in front of the camera: rays and points (S, 3, 3), rotations and translations."""
    xyz = torch.from_numpy(random.uniform(-0.5, 0.5, (count, 3, 3)))
    R = rotations(random, count)
    t = torch.from_numpy(random.uniform([-1, -1, 1.5], [1, 1, 8], (count, 3)))
    xyz_cam = xyz @ R.mT + t[:, None]
    return xyz_cam / xyz_cam.norm(dim=-1, keepdim=True), xyz, R, t


def solve_p3p(rays: torch.Tensor, xyz: torch.Tensor):
    pose, triple = p3p(rays.permute(1, 2, 0), xyz.permute(1, 2, 0))
    return pose.permute(2, 0, 1), triple


def test_p3p_finds_the_pose_and_nothing_but_solutions(random):
    rays, xyz, R, t = triples(random, 5000)
    pose, triple = solve_p3p(rays, xyz)
    xyz_cam = xyz[triple] @ pose[:, :, :3].mT + pose[:, None, :, 3]
    assert (xyz_cam / xyz_cam.norm(dim=-1, keepdim=True) - rays[triple]).abs().max() < 1e-9
    identity = pose[:, :, :3] @ pose[:, :, :3].mT - torch.eye(3)
    assert identity.abs().max() < 1e-12
    error = (pose - torch.cat([R, t[..., None]], -1)[triple]).abs().amax((1, 2))
    best = torch.full((5000,), torch.inf, dtype=torch.float64).scatter_reduce(0, triple, error, "amin")
    assert (best < 1e-9).double().mean() > 0.999
    assert best.max() < 1e-5
    assert (triple.diff() >= 0).all()


def test_p3p_counts_as_many_solutions_as_poselib_and_opencv(random):
    rays, xyz, _, _ = triples(random, 1000)
    _, triple = solve_p3p(rays, xyz)
    count = torch.bincount(triple, minlength=1000).numpy()
    with_poselib = [len(poselib.p3p(r, x)) for r, x in zip(rays.numpy(), xyz.numpy(), strict=True)]
    pixels = (rays[..., :2] / rays[..., 2:]).numpy()
    with_opencv = [
        cv2.solveP3P(x, p, np.eye(3), None, flags=cv2.SOLVEPNP_AP3P)[0]
        for x, p in zip(xyz.numpy(), pixels, strict=True)
    ]
    assert (count == with_poselib).mean() > 0.998  # they may differ where two solutions all but coincide
    assert (count == with_opencv).mean() > 0.99


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.0, 1.0), (1.0, 0.3), (-0.5, -0.5)])
@pytest.mark.parametrize("shape", ["equilateral", "isosceles", "right"])
def test_p3p_survives_symmetric_views(shape, shift, order):
    """Frontal triangles with equal sides and angles: double roots and vanishing coefficients."""
    third = 3**0.5 / 2
    xyz = {
        "equilateral": [[1, 0, 0], [-0.5, third, 0], [-0.5, -third, 0]],
        "isosceles": [[0, 0, 0], [1, 0.5, 0], [-1, 0.5, 0]],
        "right": [[0, 0, 0], [1, 0, 0], [0, 1, 0]],
    }[shape]
    xyz = torch.tensor(xyz, dtype=torch.float64)[list(order)]
    t = torch.tensor([*shift, 5], dtype=torch.float64)
    rays = (xyz + t) / (xyz + t).norm(dim=1, keepdim=True)
    pose, _ = solve_p3p(rays[None], xyz[None])
    truth = torch.cat([torch.eye(3, dtype=torch.float64), t[:, None]], 1)
    assert len(pose) > 0
    assert (pose - truth).abs().amax((1, 2)).min() < 1e-6


def test_p3p_has_no_pose_for_lines_and_repeated_points(random):
    rays, xyz, _, _ = triples(random, 3)
    xyz[0] = torch.tensor([[0.0, 0, 0], [0.1, 0.2, 0.3], [0.2, 0.4, 0.6]])  # on a line
    xyz[1, 2] = xyz[1, 1]
    xyz[2] = 0.1
    pose, triple = solve_p3p(rays, xyz)
    assert len(pose) == len(triple) == 0


def test_p3p_in_places_gives_the_same_poses(random):
    rays, xyz, _, _ = triples(random, 500)
    xyz[7, 2] = xyz[7, 1]  # no solution
    rays, xyz = rays.permute(1, 2, 0), xyz.permute(1, 2, 0)
    pose, triple = p3p(rays, xyz)
    places, exists = p3p_in_places(rays, xyz)
    assert places.shape == (500, 4, 3, 4) and not exists[7].any()
    torch.testing.assert_close(places[exists], pose.movedim(2, 0), rtol=0, atol=1e-12)
    assert torch.equal(exists.nonzero()[:, 0], triple)


@pytest.fixture
def interpreted(monkeypatch):
    """The kernel for GPUs, which Triton interprets on a CPU."""
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    path = Path(module.__file__).with_name("p3p_triton.py")
    spec = importlib.util.spec_from_file_location("p3p_triton_interpreted", path)
    kernel = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kernel)
    return kernel


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, where a triple has no solution
def test_the_kernel_gives_the_same_poses_in_the_same_places(interpreted, random):
    rays, xyz, _, _ = triples(random, 120)
    xyz[7, 2] = xyz[7, 1]  # no solution
    xyz[8] = torch.tensor([[0.0, 0, 0], [1, 0.5, 0], [-1, 0.5, 0]])  # a frontal view, with double roots
    seen = xyz[8] + torch.tensor([0, 1.0, 5])
    rays[8] = seen / seen.norm(dim=1, keepdim=True)
    both = torch.cat([rays, xyz], 2).permute(1, 2, 0).contiguous()
    rays, xyz = both[:, :3], both[:, 3:]
    pose, exists = interpreted.solve(rays, xyz)
    expected, expected_exists = p3p_in_places(rays, xyz)
    assert exists[8].any() and not exists[7].any()
    assert torch.equal(exists, expected_exists)
    torch.testing.assert_close(pose[exists], expected[exists], rtol=0, atol=1e-7)


def test_where_the_kernel_cannot_be_built_a_warning_says_so():
    module._kernel.cache_clear()
    with pytest.warns(UserWarning, match="many small steps"):
        assert module._kernel(torch.device("cpu")) is None
