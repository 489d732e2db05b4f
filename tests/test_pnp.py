"""The batched RANSAC against constructed scenes and OpenCV's least squares."""

import zlib

import cv2
import numpy as np
import pytest
import torch

from benchmarks.emulated_gpu import GPU, EmulatedGpu
from picopose.model.solve.pnp import ON_CPU, ON_GPU, solve_pnp
from picopose.utils.geometry import project, rigid, rotation_angle, transform
from picopose.utils.records import Correspondences

SIZE = 224
MOST_KERNELS = 600  # that a batch of easy problems costs on a GPU


@pytest.fixture
def random(request) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


def rotations(random: np.random.Generator, count: int) -> torch.Tensor:
    q = torch.linalg.qr(torch.from_numpy(random.standard_normal((count, 3, 3))))[0]
    return q * torch.linalg.det(q)[:, None, None]


def scene(random, count=300, outliers=0.0, noise=0.0, flat=False, offset=(0.1, -0.15), batch=1):
    """Matches (float64), K and the true pose of objects 0.2 m wide at 1 m that fill a crop off the axis."""
    xyz = torch.from_numpy(random.uniform(-0.1, 0.1, (batch, count, 3)))
    if flat:
        xyz[..., 2] = 0.02
    t = torch.tensor([*offset, 1.0], dtype=torch.float64).expand(batch, 3)
    pose = rigid(rotations(random, batch), t)
    focal, centre = 700.0, SIZE / 2 - 700 * t[:, :2]
    K = torch.tensor([[focal, 0, 0], [0, focal, 0], [0, 0, 1]], dtype=torch.float64).repeat(batch, 1, 1)
    K[:, :2, 2] = centre
    xy = project(K[:, None], transform(pose, xyz)[:, :, None])[:, :, 0]
    xy = xy + noise * torch.from_numpy(random.standard_normal(xy.shape))
    wrong = round(outliers * count)
    xy[:, :wrong] = torch.from_numpy(random.uniform(0, SIZE, (batch, wrong, 2)))
    return Correspondences(xy, xyz, torch.ones(batch, count, dtype=torch.float64)), K, pose


def errors(estimate: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotation errors in degrees and translation errors in percent of the distance."""
    angle = rotation_angle(estimate[..., :3, :3].double() @ truth[..., :3, :3].mT).rad2deg()
    shift = (estimate[..., :3, 3] - truth[..., :3, 3]).norm(dim=-1) / truth[..., :3, 3].norm(dim=-1)
    return angle, 100 * shift


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("count", [4, 5, 20, 1500])
def test_exact_matches_give_the_exact_pose(random, count, flat):
    matches, K, pose = scene(random, count, flat=flat, batch=8)
    result = solve_pnp(matches, K)
    angle, shift = errors(result.cam_from_obj, pose)
    assert result.solved.all()
    assert result.inliers.all()
    assert angle.max() < 1e-3 and shift.max() < 1e-3
    torch.testing.assert_close(result.inlier_ratio, torch.ones(8, dtype=torch.float64))


def test_skew_and_unequal_focal_lengths(random):
    matches, K, pose = scene(random, 200, batch=2)
    K[0, 0, 0], K[0, 0, 1], K[0, 1, 1] = 900.0, 200.0, 600.0
    xy = project(K[:, None], transform(pose, matches.xyz)[:, :, None])[:, :, 0]
    xy[:, :140] = matches.xy[:, torch.arange(140).flip(0)]
    result = solve_pnp(Correspondences(xy, matches.xyz, matches.weight), K)
    angle, shift = errors(result.cam_from_obj, pose)
    assert angle.max() < 1e-3 and shift.max() < 1e-3


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("outliers", [0.3, 0.6, 0.85])
def test_outliers_and_noise(random, outliers, flat):
    matches, K, pose = scene(random, 400, outliers, noise=1.0, flat=flat, batch=12)
    result = solve_pnp(matches, K)
    angle, shift = errors(result.cam_from_obj, pose)
    assert result.solved.all()
    assert angle.median() < 1.0 and shift.median() < 0.5
    true = torch.arange(400) >= round(outliers * 400)
    assert result.inliers[:, true].double().mean() > 0.8  # 86 % of a unit Gaussian lies within 2 px
    assert result.inliers[:, ~true].double().mean() < 0.01
    ratio = result.inliers.double().mean(1)
    torch.testing.assert_close(result.inlier_ratio, ratio)


def test_noise_is_averaged_as_well_as_by_least_squares_on_the_true_inliers(random):
    matches, K, pose = scene(random, 300, 0.4, noise=1.0, batch=60)
    angle, shift = errors(solve_pnp(matches, K).cam_from_obj, pose)
    reference = []
    for i in range(60):
        xyz, xy = matches.xyz[i, 120:].numpy(), matches.xy[i, 120:].numpy()
        start = cv2.Rodrigues(pose[i, :3, :3].numpy())[0], pose[i, :3, 3:].numpy().copy()
        _, r, t = cv2.solvePnP(xyz, xy, K[i].numpy(), None, *start, True, cv2.SOLVEPNP_ITERATIVE)
        reference.append(rigid(torch.from_numpy(cv2.Rodrigues(r)[0]), torch.from_numpy(t[:, 0])))
    best_angle, best_shift = errors(torch.stack(reference), pose)
    assert angle.square().mean().sqrt() < 1.1 * best_angle.square().mean().sqrt()
    assert shift.square().mean().sqrt() < 1.1 * best_shift.square().mean().sqrt()


def test_a_problem_does_not_depend_on_its_batch(random):
    """Unequal sizes, hard and easy: alone and unpadded, the poses are the same."""
    counts, shares = [4, 30, 200, 900, 1700], [0.0, 0.2, 0.8, 0.5, 0.85]
    scenes = [scene(random, n, share, noise=0.5 * (n > 4)) for n, share in zip(counts, shares, strict=True)]
    longest = max(counts)
    padded = [matches.map(lambda x: padding(x, longest)) for matches, _, _ in scenes]
    result = solve_pnp(Correspondences.cat(padded), torch.cat([K for _, K, _ in scenes]))
    for i, (matches, K, pose) in enumerate(scenes):
        alone = solve_pnp(matches, K)
        assert bool(alone.solved) and bool(result.solved[i])
        torch.testing.assert_close(result.cam_from_obj[i], alone.cam_from_obj[0], rtol=0, atol=1e-6)
        assert torch.equal(result.inliers[i, : counts[i]], alone.inliers[0])
        assert not result.inliers[i, counts[i] :].any()
        angle, _ = errors(result.cam_from_obj[i], pose[0])
        assert angle < 1.0


def padding(values: torch.Tensor, length: int) -> torch.Tensor:
    """Fills dimension 1 up with numbers that must not matter, and weights of 0."""
    fill = 0.0 if values.ndim == 2 else float("nan")
    padded = torch.full((1, length, *values.shape[2:]), fill, dtype=values.dtype)
    padded[:, : values.shape[1]] = values
    return padded


def test_the_seed_decides(random):
    matches, K, _ = scene(random, 500, 0.7, noise=1.0, batch=3)
    first, second = solve_pnp(matches, K, seed=3), solve_pnp(matches, K, seed=3)
    torch.manual_seed(1)  # the global generator plays no part
    state = torch.random.get_rng_state()
    third = solve_pnp(matches, K, seed=3)
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(first.cam_from_obj, second.cam_from_obj)
    assert torch.equal(first.cam_from_obj, third.cam_from_obj)
    # Another seed draws other triples, and ends within the noise of the same pose.
    angle, _ = errors(solve_pnp(matches, K, seed=4).cam_from_obj, first.cam_from_obj)
    assert angle.max() < 0.5


def two_poses(random):
    """400 matches of which 100 follow one pose and 300 another."""
    few, K, pose_few = scene(random, 400)
    _, _, pose_many = scene(random, 400)
    xy = torch.cat(
        [few.xy[:, :100], project(K[:, None], transform(pose_many, few.xyz)[:, 100:, None])[:, :, 0]], 1
    )
    return Correspondences(xy, few.xyz, few.weight), K, pose_few, pose_many


def test_weights_decide_between_two_poses(random):
    matches, K, pose_few, pose_many = two_poses(random)
    weight = matches.weight.clone()
    result = solve_pnp(matches, K)
    assert errors(result.cam_from_obj, pose_many)[0] < 0.01
    assert abs(float(result.inlier_ratio) - 0.75) < 0.02
    weight[:, 100:] = 0.05
    result = solve_pnp(Correspondences(matches.xy, matches.xyz, weight), K)
    assert errors(result.cam_from_obj, pose_few)[0] < 0.01
    assert abs(float(result.inlier_ratio) - 100 / 115) < 0.02


def test_weights_steer_the_final_fit(random):
    """Half of the points are noisy; to know which ones they are makes the pose better."""
    matches, K, pose = scene(random, 400, noise=0.1, batch=20)
    xy = matches.xy.clone()
    xy[:, ::2] += torch.from_numpy(random.standard_normal((20, 200, 2)))
    weight = matches.weight.clone()
    weight[:, ::2] = 0.02
    blind = errors(solve_pnp(Correspondences(xy, matches.xyz, matches.weight), K).cam_from_obj, pose)[0]
    aware = errors(solve_pnp(Correspondences(xy, matches.xyz, weight), K).cam_from_obj, pose)[0]
    assert aware.median() < 0.6 * blind.median()


def test_points_of_weight_zero_play_no_part(random):
    matches, K, pose = scene(random, 300, 0.5)
    weight = (torch.arange(300)[None] >= 150).double()
    xy, xyz = matches.xy.clone(), matches.xyz.clone()
    xy[:, :50], xyz[:, 50:100] = torch.nan, torch.inf
    result = solve_pnp(Correspondences(xy, xyz, weight), K)
    assert errors(result.cam_from_obj, pose)[0] < 1e-3
    assert float(result.inlier_ratio) == 1
    assert not result.inliers[:, :150].any()


def test_points_that_are_not_finite_are_left_out(random):
    matches, K, pose = scene(random, 100)
    matches.xy[0, 0], matches.xyz[0, 1] = torch.nan, torch.inf
    result = solve_pnp(matches, K)
    assert errors(result.cam_from_obj, pose)[0] < 1e-3
    assert result.inliers[0].tolist() == [False, False, *[True] * 98]


def test_duplicates_change_nothing(random):
    matches, K, _ = scene(random, 60, 0.3, noise=0.5)
    index = torch.arange(60).repeat_interleave(5)
    result = solve_pnp(matches.map(lambda values: values[:, index]), K)
    once = solve_pnp(matches, K)
    assert errors(result.cam_from_obj, once.cam_from_obj)[0] < 0.1
    assert torch.equal(result.inliers[:, ::5], once.inliers)


def test_threshold_decides_what_is_an_inlier(random):
    matches, K, _ = scene(random, 500, noise=3.0, batch=3)
    result = solve_pnp(matches, K, threshold_px=torch.tensor([1.5, 3.0, 9.0]))
    expected = 1 - torch.exp(-(torch.tensor([1.5, 3.0, 9.0]).double() ** 2) / 18)
    assert (result.inlier_ratio - expected).abs().max() < 0.06
    single = solve_pnp(matches[1:2], K[1:2], threshold_px=3.0)
    torch.testing.assert_close(single.cam_from_obj[0], result.cam_from_obj[1], rtol=0, atol=1e-6)


def assert_flagged(result):
    assert not result.solved.any()
    assert not result.inliers.any()
    assert (result.inlier_ratio == 0).all()
    assert torch.equal(
        result.cam_from_obj.double(), torch.eye(4, dtype=torch.float64).expand(len(result.solved), 4, 4)
    )


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_fewer_than_four_points_are_flagged(random, count):
    matches, K, _ = scene(random, count)
    assert_flagged(solve_pnp(matches, K))
    assert_flagged(solve_pnp(matches.map(lambda x: padding(x, 50)), K))


def test_no_problems_at_all(random):
    matches, K, _ = scene(random, 50)
    result = solve_pnp(matches[:0], K[:0])
    assert result.cam_from_obj.shape == (0, 4, 4)
    assert result.inliers.shape == (0, 50)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_points_on_a_line_are_flagged(random, noise):
    matches, K, pose = scene(random, 100)
    along = torch.linspace(-0.1, 0.1, 100, dtype=torch.float64)[:, None]
    xyz = (along * torch.tensor([0.6, 0.0, 0.8]).double())[None]
    xy = project(K[:, None], transform(pose, xyz)[:, :, None])[:, :, 0]
    xy = xy + noise * torch.from_numpy(random.standard_normal(xy.shape))
    assert_flagged(solve_pnp(Correspondences(xy, xyz, matches.weight), K))
    assert_flagged(solve_pnp(Correspondences(xy, xyz, matches.weight).to(torch.float32), K.float()))


def test_three_spots_are_flagged_however_often_they_occur(random):
    matches, K, _ = scene(random, 3)
    assert_flagged(solve_pnp(matches.map(lambda values: values.repeat_interleave(40, 1)), K))


def test_one_spot_is_flagged(random):
    matches, K, _ = scene(random, 1)
    assert_flagged(solve_pnp(matches.map(lambda values: values.repeat_interleave(40, 1)), K))
    matches, K, _ = scene(random, 40)
    everywhere_the_same = matches.xy[:, :1].expand(-1, 40, -1)
    assert_flagged(solve_pnp(Correspondences(everywhere_the_same, matches.xyz, matches.weight), K))


@pytest.mark.parametrize("count", [10, 60, 400])
def test_random_matches_are_flagged(random, count):
    matches, K, _ = scene(random, count, outliers=1.0, batch=10)
    assert_flagged(solve_pnp(matches, K, iterations=2000))


def test_a_flagged_problem_leaves_its_neighbours_alone(random):
    matches, K, pose = scene(random, 100, noise=0.2, batch=3)
    weight = matches.weight.clone()
    weight[1, 3:] = 0
    result = solve_pnp(Correspondences(matches.xy, matches.xyz, weight), K)
    assert result.solved.tolist() == [True, False, True]
    assert errors(result.cam_from_obj, pose)[0][[0, 2]].max() < 0.5
    assert result.cam_from_obj.isfinite().all()


def test_points_behind_the_camera_are_no_inliers(random):
    """A scene around the camera: half of the points lie behind it, where pixels mean nothing."""
    xyz = torch.from_numpy(random.uniform(-1, 1, (1, 400, 3)))
    pose = rigid(rotations(random, 1), torch.tensor([[0.1, 0.0, 0.2]], dtype=torch.float64))
    K = torch.tensor([[[150.0, 0, 112], [0, 150, 112], [0, 0, 1]]], dtype=torch.float64)
    xyz_cam = transform(pose, xyz)
    seen = xyz_cam[..., 2] > 0.1
    xy = project(K[:, None], xyz_cam[:, :, None])[:, :, 0]  # the same formula behind the camera
    result = solve_pnp(Correspondences(xy, xyz, torch.ones(1, 400, dtype=torch.float64)), K)
    assert errors(result.cam_from_obj, pose)[0] < 1e-3
    assert result.inliers[seen].all()
    assert not result.inliers[xyz_cam[..., 2] < 0].any()


def test_float32_and_gradients(random):
    """As the network hands them over: float32, with gradients, maybe under autocast."""
    matches, K, _ = scene(random, 300, 0.85, noise=0.5, batch=2)
    exact = solve_pnp(matches, K)
    single = matches.to(torch.float32)
    single.xy.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        result = solve_pnp(single, K.float())
    assert result.cam_from_obj.dtype == torch.float32
    assert not result.cam_from_obj.requires_grad
    assert errors(result.cam_from_obj, exact.cam_from_obj)[0].max() < 1e-3
    assert torch.equal(result.inliers, exact.inliers)


def test_arguments_stay_as_they_are(random):
    matches, K, _ = scene(random, 50, 0.2)
    before = matches.map(torch.clone), K.clone()
    solve_pnp(matches, K)
    assert torch.equal(matches.xy, before[0].xy) and torch.equal(matches.xyz, before[0].xyz)
    assert torch.equal(matches.weight, before[0].weight) and torch.equal(K, before[1])


def test_a_far_origin_and_a_large_unit_do_not_matter(random):
    """Points in millimetres, their origin 50 object diameters away."""
    matches, K, _ = scene(random, 200, 0.4, noise=0.3)
    far = torch.tensor([5.0, -9.0, 2.0], dtype=torch.float64)
    moved = Correspondences(matches.xy, 1000 * (matches.xyz + far), matches.weight)
    result, usual = solve_pnp(moved, K), solve_pnp(matches, K)
    R, t = result.cam_from_obj[0, :3, :3], result.cam_from_obj[0, :3, 3]
    same = rigid(R, t / 1000 + R @ far)
    torch.testing.assert_close(same, usual.cam_from_obj[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("outliers", [0.3, 0.7, 0.85])
def test_the_rounds_for_gpus_find_the_same_poses(random, outliers):
    matches, K, pose = scene(random, 400, outliers, noise=1.0, batch=8)
    results = [solve_pnp(matches, K, rounds=rounds) for rounds in (ON_CPU, ON_GPU)]
    assert all(result.solved.all() for result in results)
    on_cpu, on_gpu = (errors(result.cam_from_obj, pose) for result in results)
    for ours, theirs in zip(on_gpu, on_cpu, strict=True):  # the last fit ends at the same place
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("outliers", [0.3, 0.7])
def test_what_a_gpu_is_asked_for(random, outliers):
    matches, K, _ = scene(random, 100, outliers, batch=3)
    expected = solve_pnp(matches, K, rounds=ON_GPU)
    with EmulatedGpu() as gpu:
        matches, K = matches.to(GPU), K.to(GPU)
        gpu.reset()
        result = solve_pnp(matches, K)
        asked = gpu.asked
        pose = result.cam_from_obj.cpu()
    torch.testing.assert_close(pose, expected.cam_from_obj, rtol=0, atol=1e-9)
    assert asked.synchronisations.total() <= 3
    assert asked.kernels.total() <= MOST_KERNELS
