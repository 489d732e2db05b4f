"""The refiner with a flow that knows the truth: it gets there, stays there, and drops what is worse."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from picopose.model.refine import stage as refine_stage
from picopose.model.refine.compare import WIDTH, Comparison, compare, windows
from picopose.model.refine.stage import RefineStage, best_of
from picopose.utils.errors import InputError
from picopose.utils.geometry import cell_centres, invert, project, rigid, rotation_angle, transform, unproject
from picopose.utils.records import Correspondences, Estimates
from picopose.utils.symmetry import Symmetry
from tests.mini_photos import annotated, things

SIZE, CELLS = 160, 40


class Oracle(torch.nn.Module):
    """In place of a network: flows go where poses say, which are those of `truth` for each row."""

    size, floored = SIZE, False

    def __init__(self, truth, *, outliers: float = 0.0, certainty=lambda found: torch.ones(len(found))):
        super().__init__()
        self.parameter = torch.nn.Parameter(torch.zeros(1))
        self.truth, self.outliers, self.certainty = truth, outliers, certainty
        self.compared: list[torch.Tensor] = []  # poses

    def compare(self, network, frame, found, drawings, *, bf16=False) -> Comparison:
        self.compared.append(found.cam_from_obj.double().clone())
        K = window_cameras(found, drawings, frame.K)
        drawn = drawings.draw(found.obj_id.tolist(), found.cam_from_obj, K, SIZE)
        xy = cell_centres(CELLS, SIZE).expand(len(found), -1, -1)
        index = xy.round().long()
        depth = drawn.depth[torch.arange(len(found))[:, None], index[..., 1], index[..., 0]]
        points = unproject(K, index.float(), depth)
        xyz = transform(invert(found.cam_from_obj.double()), points.double())
        seen = project(K.double(), transform(self.truth(found).double(), xyz))
        rng = np.random.default_rng(len(self.compared))
        wrong = torch.from_numpy(rng.random(seen.shape[:2]) < self.outliers)
        anywhere = torch.from_numpy(rng.uniform(0, SIZE, seen.shape))
        seen = torch.where(wrong[..., None], anywhere, seen)
        weight = (depth > 0) * self.certainty(found)[:, None]
        return Comparison(Correspondences(seen.float(), xyz.float(), weight), drawn)


def window_cameras(found: Estimates, drawings, K: torch.Tensor) -> torch.Tensor:
    regions = windows(found, drawings, K)
    side = 1.1 * regions.diameter
    crop_from_photo = torch.eye(3).repeat(len(found), 1, 1)
    crop_from_photo[:, 0, 0] = crop_from_photo[:, 1, 1] = SIZE / side
    crop_from_photo[:, :2, 2] = -(SIZE / side)[:, None] * (regions.centre - side[:, None] / 2) - 0.5
    return crop_from_photo @ K


def photo():
    frame, found = annotated(1, 0)
    return frame, found


def stage(monkeypatch, oracle: Oracle, times: int = 3) -> RefineStage:
    made = RefineStage(oracle, times=times, batch=64)
    monkeypatch.setattr(refine_stage, "compare", oracle.compare)
    made.prepare(things())
    return made


def off(found: Estimates, degrees: float, shift: float, seed: int = 0) -> Estimates:
    """Poses turned about the objects' centres by an angle, and shifted by a share of their size."""
    rng, poses = np.random.default_rng(seed), []
    for obj_id, pose in zip(found.obj_id.tolist(), found.cam_from_obj.double(), strict=True):
        axis = rng.normal(size=3)
        turn = Rotation.from_rotvec(degrees * axis / np.linalg.norm(axis), degrees=True).as_matrix()
        hull = things().drawings.hull(obj_id)
        centre = (hull.amin(0) + hull.amax(0)) / 2
        pivot = transform(pose, centre[None])[0]
        size = (hull.amax(0) - hull.amin(0)).norm()
        rotation = torch.from_numpy(turn) @ pose[:3, :3]
        aside = torch.from_numpy(rng.normal(size=3))
        poses.append(rigid(rotation, pivot - rotation @ centre + shift * size * aside / aside.norm()))
    return replace(found, cam_from_obj=torch.stack(poses))


def turn_and_shift(found: Estimates, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Degrees and shares of the distance that poses are off."""
    pose, truth = found.cam_from_obj.double(), truth.double()
    turn = rotation_angle(pose[:, :3, :3] @ truth[:, :3, :3].mT).rad2deg()
    return turn, (pose - truth)[:, :3, 3].norm(dim=1) / truth[:, 2, 3]


@pytest.mark.parametrize("outliers", [0.0, 0.3])
def test_with_a_true_flow_poses_become_true(monkeypatch, outliers):
    frame, found = photo()
    truth = found.cam_from_obj
    oracle = Oracle(lambda _: truth, outliers=outliers)
    refined = stage(monkeypatch, oracle)(frame, off(found, 20, 0.1))
    turn, shift = turn_and_shift(refined, truth)
    assert turn.max() < 0.1 and shift.max() < 1e-3
    assert (refined.support > 0.6 * (1 - outliers)).all() and refined.matches.drawn


def test_a_true_pose_stays(monkeypatch):
    frame, found = photo()
    truth = found.cam_from_obj
    turn, shift = turn_and_shift(stage(monkeypatch, Oracle(lambda _: truth))(frame, found), truth)
    assert turn.max() < 0.01 and shift.max() < 1e-4


def test_a_step_that_is_worse_is_dropped(monkeypatch):
    """The flow leads away from the truth, and where it leads less of the drawing is found again."""
    frame, found = photo()
    truth, astray = found.cam_from_obj, off(found, 30, 0.05).cam_from_obj

    def certainty(now: Estimates) -> torch.Tensor:
        return torch.where(turn_and_shift(now, truth)[0] < 5, 0.9, 0.3)

    oracle = Oracle(lambda _: astray, certainty=certainty)
    refined = stage(monkeypatch, oracle)(frame, found)
    assert (turn_and_shift(replace(found, cam_from_obj=oracle.compared[1]), truth)[0] > 10).all()
    # At the start nothing agrees with a flow that leads away; at its end 0.3 of the drawing does.
    assert torch.allclose(refined.support, torch.full_like(refined.support, 0.3), atol=0.05)


def test_hypotheses_are_compared_by_what_is_found_of_them(monkeypatch):
    frame, found = photo()
    truth = found.cam_from_obj
    twice = Estimates.cat([off(found, 10, 0.03), off(found, 10, 0.03, seed=1)])
    first = torch.arange(len(twice)) < len(found)
    oracle = Oracle(lambda now: truth.repeat(2, 1, 1), certainty=lambda now: torch.where(first, 0.6, 0.8))
    refined = stage(monkeypatch, oracle)(frame, twice)
    assert (refined.support[len(found) :] > refined.support[: len(found)]).all()
    assert refined.group.tolist() == twice.group.tolist()


def test_of_each_detection_the_hypotheses_that_are_supported_best_are_refined():
    _, found = photo()
    many = Estimates.cat([found] * 4)
    support = torch.tensor([0.1, 0.4, 0.3, 0.4]).repeat_interleave(len(found))
    kept = best_of(replace(many, support=support), 2)
    assert kept.support.tolist() == pytest.approx([0.4] * 2 * len(found))
    assert kept.group.tolist() == 2 * found.group.tolist()
    assert len(best_of(found, 1)) == len(found) and len(best_of(many, 3)) == 3 * len(found)


def test_a_symmetric_objects_pose_follows_the_copy_that_is_nearest_to_the_start(monkeypatch):
    """The drawing looks the same from any of them, so flow goes to the nearest."""
    frame, found = photo()
    found = found[:1]
    hull = things().drawings.hull(int(found.obj_id))
    about = Symmetry(np.zeros((0, 4, 4)), ((np.array([0.0, 0.0, 1.0]), hull.mean(0).numpy()),))
    truth = found.cam_from_obj.double()

    def nearest(now: Estimates) -> torch.Tensor:
        poses = now.cam_from_obj.double().numpy()
        return torch.from_numpy(np.stack([about.nearest(truth[0].numpy(), pose) for pose in poses]))

    quarter = torch.eye(4, dtype=torch.float64)
    quarter[:3, :3] = torch.from_numpy(Rotation.from_rotvec([0, 0, 1.5]).as_matrix())
    start = off(replace(found, cam_from_obj=truth @ quarter), 10, 0.02)
    refined = stage(monkeypatch, Oracle(nearest))(frame, start)
    assert turn_and_shift(refined, nearest(refined))[0].max() < 0.1
    assert turn_and_shift(refined, start.cam_from_obj)[0].max() < 12  # and not back by 86 degrees


def test_poses_that_cannot_be_drawn_stay_as_they_are(monkeypatch):
    frame, found = photo()
    truth = found.cam_from_obj
    poses = truth.clone()
    poses[0, 2, 3] = -1.0
    poses[1, 0, 0] = torch.nan
    oracle = Oracle(lambda now: truth[2:])
    refined = stage(monkeypatch, oracle)(frame, replace(found, cam_from_obj=poses))
    assert torch.allclose(refined.cam_from_obj[:1], poses[:1], atol=1e-6)
    assert refined.cam_from_obj[1].isnan().any() and refined.support[:2].tolist() == [0, 0]
    assert (refined.support[2:] > 0.5).all() and refined.obj_id.tolist() == found.obj_id.tolist()


def test_without_poses_it_says_what_to_do(monkeypatch):
    frame, found = photo()
    with pytest.raises(InputError, match="goes on from poses"):
        stage(monkeypatch, Oracle(None))(frame, replace(found, cam_from_obj=None))


class Still(torch.nn.Module):
    """A network that sees no motion."""

    size, floored = SIZE, False

    def __init__(self):
        super().__init__()
        self.seen = None

    def features(self, rgb, *, bf16=False):
        self.seen = rgb
        return [rgb]

    def dense(self, maps):
        return maps

    template_maps = dense

    def flow(self, real, template, mask, start):
        from picopose.model.picopose.flow import Flow

        assert torch.equal(start, torch.eye(3).expand(len(mask), -1, -1))
        nothing = torch.zeros(len(mask), 1, CELLS, CELLS)
        return [Flow(nothing.expand(-1, 2, -1, -1), nothing + 5)]


def test_photo_and_drawing_are_compared_through_one_camera():
    frame, found = photo()
    network = Still()
    seen = compare(network, frame, found, things().drawings)
    crops, drawn = network.seen.chunk(2)
    assert torch.equal(drawn, seen.drawn.rgb)
    for crop, mask, rgb, region in zip(crops, seen.drawn.mask, drawn, found.mask, strict=True):
        both = mask & (crop.sum(0) > 0)
        assert not region.is_box and both.sum() > 0.5 * mask.sum()
        assert (crop[:, both] - rgb[:, both]).abs().mean() < 0.25  # they show the same
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        longest = max(int(rows.max() - rows.min()), int(columns.max() - columns.min())) + 1
        assert SIZE / longest == pytest.approx(WIDTH, rel=0.04)
    xyz = transform(found.cam_from_obj.double(), seen.matches.xyz.double())
    error = (project(seen.drawn.K.double(), xyz) - seen.matches.xy.double()).norm(dim=-1)
    assert error[seen.matches.weight > 0].max() < 1e-2  # no motion, so every point is where it was
