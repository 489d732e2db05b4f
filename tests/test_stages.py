"""The three levels' own functions against slow loops, and the pose that a 2D transform implies."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation

from picopose.model import correlation
from picopose.model.best import Best
from picopose.model.picopose.affine import Similarity, no_motion, object_origin, pose_from_similarity
from picopose.model.picopose.matching import descriptors, mask_cells, rank, similarity_volume
from picopose.utils.geometry import rotation_angle, transform
from picopose.utils.records import Estimates, Frame, Mask, View


def all_pairs_lookup(template, real, positions, *, radius, scales):
    """RAFT's own way: the whole volume, pooled, read by bilinear sampling."""
    batch, channels, side, _ = template.shape
    volume = torch.einsum("bcij,bckl->bijkl", template, real) / channels**0.5
    volume = volume.reshape(-1, 1, *real.shape[-2:])
    reach = torch.arange(-radius, radius + 1.0)
    dy, dx = torch.meshgrid(reach, reach, indexing="ij")
    windows = []
    for scale in range(scales):
        pooled = F.avg_pool2d(volume, 2**scale) if scale else volume
        centre = positions.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2) / 2**scale
        xy = centre + torch.stack([dx, dy], dim=-1)
        last = torch.tensor([pooled.shape[-1] - 1, pooled.shape[-2] - 1])
        read = F.grid_sample(pooled, 2 * xy / last - 1, align_corners=True, padding_mode="zeros")
        windows.append(read.reshape(batch, side, side, -1).permute(0, 3, 1, 2))
    return torch.cat(windows, dim=1)


@pytest.mark.parametrize(("all_pairs", "at_once"), [(0, 10**6), (10**6, 10**6), (10**6, 144**2)])
def test_lookup_equals_the_pooled_all_pairs_volume(monkeypatch, all_pairs, at_once):
    monkeypatch.setattr(correlation, "ALL_PAIRS", all_pairs)
    monkeypatch.setattr(correlation, "PAIRS_AT_ONCE", at_once)
    generator = torch.Generator().manual_seed(0)
    template, real = torch.randn(2, 2, 8, 12, 12, generator=generator)
    positions = torch.rand(2, 2, 12, 12, generator=generator) * 18 - 3  # some outside of the map
    ours = correlation.lookup(template, real, positions, radius=2, scales=3)
    assert ours.shape == (2, 75, 12, 12)
    slow = all_pairs_lookup(template, real, positions, radius=2, scales=3)
    assert (ours - slow).abs().max() < 1e-4


def test_lookup_in_parts_has_the_same_gradients(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(3, 8, 12, 12, generator=generator, requires_grad=True) for _ in range(2)]
    positions = torch.rand(3, 2, 12, 12, generator=generator) * 18 - 3
    gradients = []
    for at_once in (3 * 144**2, 144**2):
        monkeypatch.setattr(correlation, "PAIRS_AT_ONCE", at_once)
        read = correlation.lookup(*maps, positions, radius=2, scales=2)
        gradients.append(torch.autograd.grad(read.square().sum(), maps))
    for whole, part in zip(*gradients, strict=True):
        torch.testing.assert_close(part, whole)


def test_rank_is_the_mean_best_similarity_of_foreground_patches():
    generator = torch.Generator().manual_seed(1)
    real = F.normalize(torch.randn(2, 9, 5, generator=generator), dim=-1)
    template = F.normalize(torch.randn(4, 9, 5, generator=generator), dim=-1)
    mask = torch.rand(2, 9, generator=generator) < 0.6
    scores, chosen = rank(real, mask, template, k=3)
    for i in range(2):
        expected = []
        for view in template:
            best = [max(float(patch @ other) for other in view) for patch in real[i][mask[i]]]
            expected.append(sum(best) / len(best))
        order = sorted(range(4), key=lambda v: -expected[v])[:3]
        assert chosen[i].tolist() == order
        assert scores[i].tolist() == pytest.approx([expected[v] for v in order], abs=1e-6)


def test_similarity_volume_puts_template_patches_into_channels():
    features = torch.randn(2, 1, 6, 3, 3, generator=torch.Generator().manual_seed(2))
    real, template = descriptors(features[0]), descriptors(features[1])
    mask = torch.tensor([[True] * 8 + [False]])
    volume = similarity_volume(real, template, mask)
    for channel in range(9):
        for y in range(3):
            for x in range(3):
                cosine = F.cosine_similarity(
                    features[1, 0, :, channel // 3, channel % 3], features[0, 0, :, y, x], dim=0
                )
                expected = max(cosine.item(), 0) if channel < 8 else 0
                assert volume[0, channel, y, x].item() == pytest.approx(expected, abs=1e-6)


def test_masks_on_the_patch_grid():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, :4, 4:] = True
    assert mask_cells(mask, 2).tolist() == [[[False, True], [False, False]]]


def one_view(angles: tuple[float, float, float]) -> View:
    pose = torch.eye(4)[None]
    pose[0, :3, :3] = torch.from_numpy(Rotation.from_euler("xyz", angles).as_matrix())
    pose[0, :3, 3] = torch.tensor([0.01, -0.02, 0.3])
    K = torch.tensor([[[400.0, 0, 110], [0, 400, 115], [0, 0, 1]]])
    return View(torch.zeros(1), torch.zeros(1), K=K, depth=torch.zeros(1), cam_from_obj=pose)


def test_similarity_moves_the_origin_and_turns_about_it():
    view, angle = one_view((0.3, 0.2, 0.1)), math.radians(30)
    similarity = Similarity(
        torch.tensor([[5.0, -3.0]]), torch.tensor([1.5]), torch.tensor([[math.cos(angle), math.sin(angle)]])
    )
    matrix = similarity.matrix(view)
    origin = object_origin(view.K, view.cam_from_obj)
    assert torch.allclose(transform(matrix, origin[None])[0], origin + torch.tensor([[5.0, -3.0]]), atol=1e-4)
    right = (
        transform(matrix, origin[None] + torch.tensor([[[10.0, 0.0]]]))[0] - origin - similarity.translation
    )
    assert torch.allclose(right, 15 * torch.tensor([[math.cos(angle), math.sin(angle)]]), atol=1e-4)


@pytest.mark.parametrize("viewing_ray", [True, False])
def test_no_motion_keeps_the_template_pose(viewing_ray):
    view = one_view((0.4, -0.3, 1.0))
    pose = pose_from_similarity(no_motion(1, like=view.K), view, view.K, viewing_ray=viewing_ray)
    assert torch.allclose(pose, view.cam_from_obj, atol=1e-5)


def test_an_object_swung_about_the_camera_keeps_its_look():
    """Turning the whole scene about the camera is exactly a shift for weights that know the viewing ray."""
    view = one_view((0.4, -0.3, 1.0))
    swing = torch.eye(4)
    swing[:3, :3] = torch.from_numpy(Rotation.from_euler("y", 25, degrees=True).as_matrix())
    truth = swing @ view.cam_from_obj
    shift = object_origin(view.K, truth) - object_origin(view.K, view.cam_from_obj)
    size = view.cam_from_obj[:, 2, 3] / truth[:, 2, 3]
    similarity = Similarity(shift, size, torch.tensor([[1.0, 0.0]]))

    def error(viewing_ray: bool) -> float:
        pose = pose_from_similarity(similarity, view, view.K, viewing_ray=viewing_ray)
        assert torch.allclose(pose[:, :3, 3], truth[:, :3, 3], atol=1e-4)
        return math.degrees(rotation_angle(pose[:, :3, :3] @ truth[:, :3, :3].mT))

    assert error(viewing_ray=True) < 1
    assert error(viewing_ray=False) == pytest.approx(25, abs=1)


def test_the_best_supported_hypothesis_wins_and_the_first_on_a_draw():
    support = torch.tensor([0.2, 0.5, 0.5, 0.0, 0.0, 0.0])
    mask = Mask(torch.tensor([0, 0, 2, 2]), None)
    found = Estimates.of([3] * 6, [mask] * 6)
    frame = Frame(torch.zeros(3, 4, 4, dtype=torch.uint8), torch.eye(3))
    for group, best in (([0, 0, 0, 1, 1, 1], [1, 3]), ([7, 2, 7, 2, 2, 7], [1, 2])):
        hypotheses = replace(found, group=torch.tensor(group), support=support, view=torch.arange(6))
        assert Best()(frame, hypotheses).view.tolist() == best


def test_a_negative_scale_is_half_a_turn():
    view = one_view((0.1, -0.05, 0.8))
    turned, negative = (
        Similarity(torch.tensor([[3.0, -2.0]]), torch.tensor([scale]), torch.tensor([[cosine, sine]]))
        for scale, cosine, sine in ((1.5, -0.6, -0.8), (-1.5, 0.6, 0.8))
    )
    torch.testing.assert_close(negative.matrix(view), turned.matrix(view))
    poses = [pose_from_similarity(s, view, view.K, viewing_ray=True) for s in (turned, negative)]
    torch.testing.assert_close(*poses)
