"""Poses that claim what a better one claims are dropped, others are not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from picopose.model.distinct import Distinct, Options, iou, outline
from picopose.model.stage import Thing, Things
from picopose.rendering.mesh import hull_vertices
from picopose.utils.errors import InputError
from picopose.utils.records import Estimates, Frame, Mask
from tests.raycast import cast_depth

K = torch.tensor([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])
FRAME = Frame(torch.zeros(3, 480, 640, dtype=torch.uint8), K)
BRICK = trimesh.creation.box((0.1, 0.04, 0.02))


class Hulls:
    """Of bricks."""

    def hull(self, obj_id: int) -> torch.Tensor:
        return torch.from_numpy(hull_vertices(BRICK.vertices))


def estimates(*rows: tuple[int, tuple[float, float, float], float], turns=None) -> Estimates:
    """Of (object, position in m, score); turns: degrees about the optical axis."""
    found = Estimates.of([row[0] for row in rows], [Mask(torch.tensor([0, 0, 9, 9]), None)] * len(rows))
    pose = torch.eye(4).repeat(len(rows), 1, 1)
    pose[:, :3, 3] = torch.tensor([row[1] for row in rows])
    for one, turn in zip(pose, turns or [0] * len(rows), strict=True):
        one[:3, :3] = torch.from_numpy(Rotation.from_euler("z", turn, degrees=True).as_matrix())
    return replace(found, cam_from_obj=pose, confidence=torch.tensor([row[2] for row in rows]))


def kept(found: Estimates, *, meshes: bool = True, **options) -> list[float]:
    """Confidences of what stays, in order."""
    stage = Distinct(Options(**options))
    stage.prepare(Things({i: Thing(i, "brick", 0.11) for i in (1, 2)}, Hulls() if meshes else None))
    return [round(value, 4) for value in stage(FRAME, found).confidence.tolist()]


def test_of_poses_in_one_place_the_best_stays():
    here, near, beside = (0.0, 0.0, 0.6), (0.01, 0.005, 0.61), (0.0, 0.05, 0.6)
    assert kept(estimates((1, near, 0.6), (1, here, 0.9), (1, beside, 0.2))) == [0.9, 0.2]
    assert kept(estimates((1, near, 0.6), (1, here, 0.9)), overlap=1) == [0.6, 0.9]


def test_the_score_of_the_detection_counts_too():
    found = estimates((1, (0.0, 0.0, 0.6), 0.9), (1, (0.0, 0.0, 0.6), 0.6))
    assert kept(replace(found, score=torch.tensor([0.5, 1.0]))) == [0.6]


def test_of_equal_poses_the_first_stays():
    assert len(kept(estimates(*[(1, (0.0, 0.0, 0.6), 0.5)] * 3))) == 1


def test_what_is_dropped_drops_nothing():
    """Each is too near to the next alone; the middle one goes, and the third stays."""
    places = [(x, 0.0, 0.6) for x in (0.0, 0.025, 0.05)]
    assert kept(
        estimates(*((1, place, score) for place, score in zip(places, (0.9, 0.8, 0.7), strict=True)))
    ) == [0.9, 0.7]


def test_different_objects_must_coincide_more():
    here, near = (0.0, 0.0, 0.6), (0.02, 0.0, 0.6)
    assert kept(estimates((1, here, 0.9), (1, near, 0.5))) == [0.9]
    assert kept(estimates((1, here, 0.9), (2, near, 0.5))) == [0.9, 0.5]
    assert kept(estimates((1, here, 0.9), (2, here, 0.5))) == [0.9]
    assert kept(estimates((1, here, 0.9), (2, here, 0.5)), overlap_of_others=1) == [0.9, 0.5]


def test_things_side_by_side_stay_whichever_way_they_lie():
    """Two bricks askew whose upright boxes overlap by more than half."""
    along = np.array([0.045, -0.045]) / np.sqrt(2)
    pair = estimates((1, (0.0, 0.0, 0.6), 0.9), (1, (*along.tolist(), 0.6), 0.8), turns=(45, 45))
    assert kept(pair) == [0.9, 0.8]


@pytest.mark.parametrize("place", [(0.0, 0.0, -0.6), (0.0, 0.0, 0.005), (9.0, 0.0, 0.6), (1e9, 0.0, 0.6)])
def test_what_is_out_of_sight_clashes_with_nothing(place):
    assert kept(estimates((1, place, 0.9), (1, place, 0.8))) == [0.9, 0.8]


def test_without_meshes_or_rivals_all_stay():
    twins = estimates(*[(1, (0.0, 0.0, 0.6), 0.5)] * 2)
    assert len(kept(twins, meshes=False)) == 2
    assert kept(twins[:1]) == [0.5] and kept(twins[:0]) == []


def test_outlines_are_silhouettes_of_convex_things():
    """Against a ray caster, in a photo that is as large as what outlines are compared in."""
    camera = np.array([[240.0, 0, 127.5], [0, 240, 127.5], [0, 0, 1]])
    for seed in range(3):
        pose = np.eye(4)
        pose[:3, :3] = Rotation.random(random_state=seed).as_matrix()
        pose[:3, 3] = 0.02, -0.01, 0.25
        cast = torch.from_numpy(cast_depth(BRICK.vertices, BRICK.faces, pose, camera, 256, 256) > 0)
        drawn = outline(torch.from_numpy(BRICK.vertices), torch.from_numpy(pose), torch.from_numpy(camera))
        assert iou(torch.stack([cast, drawn]))[0, 1] > 0.95


def test_options_and_orders_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"overlap is 1.5; it must lie in 0 to 1"):
        Options(overlap=1.5)
    with pytest.raises(InputError, match="distinct needs poses to start from"):
        kept(replace(estimates(*[(1, (0.0, 0.0, 0.6), 0.5)] * 2), cam_from_obj=None))
