"""Cameras, transforms and sampling against closed forms and scipy."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from picopose.utils.geometry import (
    cell_centres,
    invert,
    project,
    rigid,
    rotation_angle,
    rotation_between,
    sample,
    sample_depth,
    transform,
    unproject,
)

K = torch.tensor([[500.0, 0.5, 310.2], [0, 490.0, 244.1], [0, 0, 1]], dtype=torch.float64)


def random_rigid(count: int, seed: int) -> torch.Tensor:
    rotation = torch.from_numpy(Rotation.random(count, random_state=seed).as_matrix())
    return rigid(rotation, torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)).double())


def test_inverse_undoes_a_transform():
    b_from_a = random_rigid(5, seed=0)
    points = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(1)).double()
    assert torch.allclose(transform(invert(b_from_a), transform(b_from_a, points)), points, atol=1e-12)
    assert torch.allclose(invert(b_from_a) @ b_from_a, torch.eye(4).double().expand(5, 4, 4), atol=1e-12)


def test_unprojection_is_the_inverse_of_projection():
    xy, depth = torch.rand(9, 2).double() * 400, 0.2 + torch.rand(9).double()
    xyz = unproject(K, xy, depth)
    assert torch.allclose(project(K, xyz), xy, atol=1e-9)
    assert torch.allclose(xyz[:, 2], depth)


def test_cells_tile_the_square():
    centres = cell_centres(4, 224)
    assert centres[0].tolist() == [27.5, 27.5]  # pixels 0 to 55
    assert centres[1].tolist() == [83.5, 27.5]  # row-major: x first
    assert centres[-1].tolist() == [195.5, 195.5]


def test_sampling_at_pixel_centres_gives_the_pixels():
    maps = torch.rand(2, 3, 5, 7)
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
    xy = torch.stack([x, y], dim=-1).reshape(1, -1, 2).expand(2, -1, -1)
    assert torch.allclose(sample(maps, xy).unflatten(-1, (5, 7)), maps, atol=1e-6)
    between = sample(maps, torch.tensor([[[2.5, 3.0]]]).expand(2, -1, -1))[..., 0]
    assert torch.allclose(between, (maps[:, :, 3, 2] + maps[:, :, 3, 3]) / 2, atol=1e-6)


def test_depth_of_a_tilted_plane_is_exact_between_pixels():
    """z = 1 / (a x + b y + c) is a plane in space; plain interpolation of z would be off by 1e-4 m."""

    def depth_at(xy: torch.Tensor) -> torch.Tensor:
        return 1 / (0.002 * xy[..., 0] - 0.003 * xy[..., 1] + 1.2)

    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij")
    depth = depth_at(torch.stack([x, y], dim=-1))[None]
    xy = torch.rand(1, 200, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([58.0, 38.0])
    assert (sample_depth(depth, xy) - depth_at(xy)).abs().max() < 1e-6


def test_depths_of_two_surfaces_are_not_blended():
    depth = torch.full((1, 8, 8), 0.5)
    depth[:, :, 4:] = 0.8
    depth[:, :2] = 0
    xy = torch.tensor([[[3.4, 5.0], [3.6, 5.0], [2.0, 1.6], [2.0, 1.4]]])
    assert sample_depth(depth, xy)[0].tolist() == pytest.approx([0.5, 0.8, 0.5, 0.0])


@pytest.mark.parametrize("degrees", [1e-4, 0.5, 90, 179.9])
def test_rotation_angle(degrees):
    matrix = Rotation.from_rotvec(np.deg2rad(degrees) * np.array([0.6, 0, 0.8])).as_matrix()
    assert math.degrees(rotation_angle(torch.from_numpy(matrix))) == pytest.approx(degrees, rel=1e-6)


def test_rotation_between_is_the_smallest_one():
    generator = torch.Generator().manual_seed(2)
    source, target = torch.nn.functional.normalize(
        torch.randn(2, 20, 3, generator=generator).double(), dim=-1
    )
    rotation = rotation_between(source, target)
    assert torch.allclose((rotation @ source[..., None])[..., 0], target, atol=1e-9)
    assert torch.allclose(rotation_angle(rotation), (source * target).sum(-1).clamp(-1, 1).acos(), atol=1e-6)
