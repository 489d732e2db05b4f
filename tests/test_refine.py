"""The refiner with a flow that knows the truth: it gets there, stays there, and drops what is worse."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from picopose.model.drawn.matcher import Matcher
from picopose.model.drawn.xfeat import load_xfeat
from picopose.model.refine import stage as refine_stage
from picopose.model.refine.compare import WIDTH, Comparison, compare, windows
from picopose.model.refine.details import with_details
from picopose.model.refine.stage import RefineStage, best_of
from picopose.utils.errors import InputError
from picopose.utils.geometry import cell_centres, invert, project, rigid, rotation_angle, transform, unproject
from picopose.utils.records import Correspondences, Estimates
from picopose.utils.symmetry import Symmetry
from tests.mini_photos import annotated, things

SIZE, CELLS = 160, 40


def none(found: Estimates) -> torch.Tensor:
    return torch.zeros(len(found))


class Oracle(torch.nn.Module):
    """In place of a network: its flow goes to the poses that `truth` says for estimates.

    outliers: the share of it (B,) that goes anywhere; staying: the share of the rest that says "here".
    """

    size, floored = SIZE, False

    def __init__(self, truth, *, outliers=none, staying=none):
        super().__init__()
        self.parameter = torch.nn.Parameter(torch.zeros(1))
        self.truth, self.outliers, self.staying = truth, outliers, staying
        self.compared: list[torch.Tensor] = []  # poses

    def compare(self, network, frame, found, drawings, *, bf16=False) -> Comparison:
        self.compared.append(found.cam_from_obj.double().clone())
        K = window_cameras(found, drawings, frame.K)
        drawn = drawings.draw(found.obj_id.tolist(), found.cam_from_obj, K, SIZE)
        index = cell_centres(CELLS, SIZE).expand(len(found), -1, -1).round().long()
        depth = drawn.depth[torch.arange(len(found))[:, None], index[..., 1], index[..., 0]]
        points = unproject(K, index.float(), depth)
        xyz = transform(invert(found.cam_from_obj.double()), points.double())
        seen = project(K.double(), transform(self.truth(found).double(), xyz))
        rng = np.random.default_rng(len(self.compared))

        def some(share: torch.Tensor) -> torch.Tensor:
            return (torch.from_numpy(rng.random(depth.shape)) < share[:, None])[..., None]

        seen = torch.where(some(self.staying(found)), index.double(), seen)
        anywhere = torch.from_numpy(rng.uniform(0, SIZE, seen.shape))
        seen = torch.where(some(self.outliers(found)), anywhere, seen)
        return Comparison(Correspondences(seen.float(), xyz.float(), (depth > 0).float()), drawn)


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
    oracle = Oracle(lambda _: truth, outliers=lambda now: torch.full((len(now),), outliers))
    refined = stage(monkeypatch, oracle)(frame, off(found, 20, 0.1))
    turn, shift = turn_and_shift(refined, truth)
    assert turn.max() < 0.1 and shift.max() < 1e-3
    assert (refined.inlier_ratio > 0.95 * (1 - outliers)).all() and refined.matches.drawn


def test_a_true_pose_stays(monkeypatch):
    frame, found = photo()
    truth = found.cam_from_obj
    turn, shift = turn_and_shift(stage(monkeypatch, Oracle(lambda _: truth))(frame, found), truth)
    assert turn.max() < 0.01 and shift.max() < 1e-4


def test_a_step_that_is_worse_is_dropped(monkeypatch):
    """Most of the flow leads astray, and there hardly any of the drawing is found again."""
    frame, found = photo()
    truth, astray = found.cam_from_obj, off(found, 30, 0.05).cam_from_obj

    def share(near: float, far: float):
        return lambda now: torch.where(turn_and_shift(now, truth)[0] < 5, near, far)

    oracle = Oracle(lambda _: astray, outliers=share(0.0, 0.9), staying=share(0.3, 0.5))
    refined = stage(monkeypatch, oracle)(frame, found)
    assert (turn_and_shift(replace(found, cam_from_obj=oracle.compared[1]), truth)[0] > 10).all()
    assert turn_and_shift(refined, truth)[0].max() < 0.01
    assert torch.allclose(refined.inlier_ratio, torch.full_like(refined.inlier_ratio, 0.3), atol=0.1)


def test_hypotheses_are_supported_by_what_is_found_again_and_by_what_was_known(monkeypatch):
    frame, found = photo()
    truth = found.cam_from_obj
    twice = Estimates.cat([off(found, 10, 0.03), off(found, 10, 0.03, seed=1)])
    first = torch.arange(len(twice)) < len(found)
    oracle = Oracle(lambda _: truth.repeat(2, 1, 1), outliers=lambda _: torch.where(first, 0.4, 0.2))
    refined = stage(monkeypatch, oracle)(frame, twice)
    assert (refined.support[~first] > refined.support[first]).all()
    assert torch.equal(refined.support, refined.inlier_ratio)
    assert refined.group.tolist() == twice.group.tolist()
    before = torch.where(first, 0.9, 0.5)
    known = stage(monkeypatch, oracle)(frame, replace(twice, support=before))
    assert torch.allclose(known.support, before * known.inlier_ratio)
    assert (known.support[~first] < known.support[first]).all()


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
    with pytest.raises(InputError, match="needs poses to start from"):
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


def test_details_are_matches_in_the_comparisons_own_crops():
    """At the true poses points are matched near to where they are drawn, in whatever crop that is told."""
    frame, found = photo()
    matcher, drawings = Matcher(load_xfeat(), batch=16), things().drawings
    seen, query = compare(Still(), frame, found, drawings), matcher.look_at(frame, found.mask)
    with torch.inference_mode():
        joined = with_details(seen, found, query, torch.arange(len(found)), matcher, drawings)
    flow = seen.matches.weight.shape[1]
    assert torch.equal(joined.xyz[:, :flow], seen.matches.xyz)
    xyz = transform(found.cam_from_obj.double(), joined.xyz[:, flow:].double())
    error = (project(seen.drawn.K.double(), xyz) - joined.xy[:, flow:].double()).norm(dim=-1)
    some = joined.weight[:, flow:] > 0
    assert (some.sum(1) > 50).all() and error[some].median() < 1.5


def test_the_last_move_heeds_details(monkeypatch):
    """Details say the truth, where the flow sees no motion."""
    frame, found = photo()
    truth, start = found.cam_from_obj, off(found, 2.0, 0.02)
    made = stage(monkeypatch, Oracle(lambda now: now.cam_from_obj))
    assert turn_and_shift(made(frame, start), start.cam_from_obj)[0].max() < 0.05
    made.matcher = SimpleNamespace(look_at=lambda frame, masks: None)
    knows = Oracle(lambda _: truth)

    def details(seen, now, query, owner, matcher, drawings) -> Correspondences:
        return knows.compare(None, frame, now, drawings).matches

    monkeypatch.setattr(refine_stage, "with_details", details)
    turn, shift = turn_and_shift(made(frame, start), truth)
    assert turn.max() < 0.05 and shift.max() < 1e-3 and len(knows.compared) == 1


def test_details_are_matched_only_where_the_last_pose_is_the_best(monkeypatch):
    """The flow leads every second estimate astray, to where little of the drawing is found again."""
    frame, found = photo()
    truth, astray = found.cam_from_obj, off(found, 30, 0.05).cam_from_obj
    misled = torch.arange(len(found)) % 2 == 0

    def staying(now: Estimates) -> torch.Tensor:
        return torch.where(misled & (turn_and_shift(now, truth)[0] < 5), 0.3, 0.0)

    def outliers(now: Estimates) -> torch.Tensor:
        return torch.where(turn_and_shift(now, truth)[0] > 5, 0.9, 0.0)

    oracle = Oracle(
        lambda _: torch.where(misled[:, None, None], astray, truth), outliers=outliers, staying=staying
    )
    made, asked = stage(monkeypatch, oracle), []
    made.matcher = SimpleNamespace(look_at=lambda frame, masks: None)

    def details(seen, now, query, owner, matcher, drawings) -> Correspondences:
        asked.extend(owner.tolist())
        return seen.matches

    monkeypatch.setattr(refine_stage, "with_details", details)
    turn, shift = turn_and_shift(made(frame, found), truth)
    assert asked == (~misled).nonzero()[:, 0].tolist()
    assert turn.max() < 0.05 and shift.max() < 1e-3
