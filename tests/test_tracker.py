"""Following objects through a video, with stages that know the truth in place of the real ones."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from picopose.model.stage import Stage, Things
from picopose.pipeline.object_pose import ObjectPose
from picopose.pipeline.prepared_object import PreparedObject, read_object
from picopose.pipeline.track.one_track import DOUBTS
from picopose.pipeline.track.search import regions
from picopose.pipeline.track.steady import Steady
from picopose.pipeline.track.tracker import Tracker
from picopose.rendering.mesh_views import MeshViews
from picopose.rendering.procedural import solids
from picopose.rendering.procedural.painting import paint
from picopose.utils.errors import InputError
from picopose.utils.motion import moved, step
from picopose.utils.records import Estimates, Frame

WIDTH, HEIGHT = 320, 240
K = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])
PHOTO = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
BOX = (130, 90, 190, 150)


def pose_of(turn=(0.0, 0.0, 0.0), place=(0.0, 0.0, 1.0)) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    pose[:3, 3] = place
    return pose


class World:
    """Where each track's object is, the stages that see it, and a tracker with them."""

    def __init__(self, count: int = 1, symmetry: str | None = None, basin: float = 0.3):
        block = paint([(solids.box((0.2, 0.2, 0.2)), [(200, 30, 30)])])
        self.objects = {
            f"block {i}": read_object(block, i, f"block {i}", "m", symmetry) for i in range(count)
        }
        self.by_id = {obj.id: obj for obj in self.objects.values()}
        self.truth = {i: pose_of() for i in range(count)}
        self.hidden: set[int] = set()
        self.following, self.finding = Following(self, basin), Finding(self)
        things = Things(self.by_id, MeshViews({i: obj.mesh for i, obj in self.by_id.items()}))
        self.tracker = Tracker(self.objects, things, self.estimate, [self.finding], [self.following], K)

    def estimate(self, image, camera, boxes, masks, objects, **_) -> list[ObjectPose]:
        names = [objects] if isinstance(objects, str) else objects or list(self.objects)
        return [self.told(self.objects[name], np.array(BOX)) for name in names]

    def told(self, obj: PreparedObject, box: np.ndarray) -> ObjectPose:
        return ObjectPose(
            obj.name, obj.cam_from_file(self.truth[obj.id]), 0.9, 1.0, -1, np.zeros((0, 4)), box
        )

    def start(self) -> list[ObjectPose]:
        return self.tracker.start(PHOTO, boxes=[BOX] * len(self.objects), objects=list(self.objects))


class Following(Stage):
    """Gives the truth for a guess that is not too far off, and notes the guesses."""

    def __init__(self, world: World, basin: float):
        self.world, self.basin, self.asked, self.noise = world, basin, [], lambda: np.zeros(6)
        self.turned = np.eye(4)

    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        poses, confidence = found.cam_from_obj.clone(), torch.zeros(len(found))
        for row, obj_id in enumerate(found.obj_id.tolist()):
            guess, true = found.cam_from_obj[row].double().numpy(), self.world.truth[obj_id]
            self.asked.append(guess)
            if np.abs(step(guess, true)).max() < self.basin and obj_id not in self.world.hidden:
                poses[row] = torch.from_numpy(moved(true, self.noise()) @ self.turned).float()
                confidence[row] = 0.9
        return replace(found, cam_from_obj=poses, confidence=confidence)


class Finding(Stage):
    """Gives the truth of what has its centre in a region, and else a pose that is wrong."""

    def __init__(self, world: World):
        self.world, self.regions = world, []

    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        poses = torch.from_numpy(np.stack([pose_of((2, 0, 0))] * len(found))).float()
        for row, (obj_id, box) in enumerate(zip(found.obj_id.tolist(), found.box.tolist(), strict=True)):
            self.regions.append(box)
            x, y, z = self.world.truth[obj_id][:3, 3]
            u, v = K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]
            if box[0] < u < box[2] and box[1] < v < box[3]:
                poses[row] = torch.from_numpy(self.world.truth[obj_id]).float()
        return replace(found, cam_from_obj=poses, confidence=torch.ones(len(found)))


def test_a_constant_motion_is_predicted():
    """In a turn and a shift that are large beside what the stages could mend without a prediction."""
    world, motion = World(), np.array([0.05, 0.12, -0.04, 0.01, -0.005, 0.02])
    world.start()
    for _ in range(12):
        world.truth[0] = moved(world.truth[0], motion)
        (pose,) = world.tracker.update(PHOTO)
        assert pose.confidence == pytest.approx(0.9)
        assert np.abs(step(pose.cam_from_obj, world.truth[0])).max() < 2e-2
    assert np.abs(step(world.following.asked[-1], world.truth[0])).max() < 0.01


def test_frames_may_be_apart_by_any_time():
    world, motion = World(), np.array([0.0, 0.9, 0, 0.1, 0, 0])
    world.tracker.start(PHOTO, boxes=[BOX], time=0.0)
    times = np.cumsum([0.1] * 10 + [0.4])  # four frames were dropped at last
    for time in times:
        world.truth[0] = moved(pose_of(), time * motion)
        world.tracker.update(PHOTO, time)
    assert np.abs(step(world.following.asked[-1], world.truth[0])).max() < 0.02


def test_what_is_lost_is_told_once_and_found_again(caplog):
    world = World()
    world.start()
    world.tracker.update(PHOTO)
    world.hidden = {0}
    with caplog.at_level(logging.INFO):
        coasting = [world.tracker.update(PHOTO) for _ in range(DOUBTS)]
        assert all(pose.verdict == "wrong" and pose.track == 0 for (pose,) in coasting)
        assert [world.tracker.update(PHOTO) for _ in range(6)] == [[]] * 6
        world.hidden, world.truth[0] = set(), pose_of((1, 1, 0), (0.35, 0.25, 1.0))
        found = next(poses for _ in range(60) if (poses := world.tracker.update(PHOTO)))
    assert np.allclose(found[0].cam_from_obj, world.truth[0], atol=1e-5)
    assert caplog.text.count("is lost") == caplog.text.count("is found") == 1
    left, top, right, bottom = world.finding.regions[0]
    assert (left + right) / 2 == pytest.approx(160, abs=3) and (top + bottom) / 2 == pytest.approx(120, abs=3)


def test_what_comes_back_in_place_is_found_at_once():
    world = World()
    world.start()
    world.hidden = {0}
    for _ in range(DOUBTS + 8):
        world.tracker.update(PHOTO)
    world.hidden = set()
    assert len(world.tracker.update(PHOTO)) == 1


def test_a_short_occlusion_is_passed_over():
    world = World()
    world.start()
    for number in range(DOUBTS + 10):
        world.hidden = {0} if 5 <= number < 5 + DOUBTS else set()
        assert len(world.tracker.update(PHOTO)) == 1
    assert world.finding.regions == []


def test_objects_are_looked_for_where_nothing_says_their_place():
    world = World(2)
    world.truth[1] = pose_of(place=(-0.3, 0.2, 1.1))
    poses = world.tracker.start(PHOTO)
    for _ in range(60):
        poses = world.tracker.update(PHOTO)
    assert [(pose.name, pose.track) for pose in poses] == [("block 0", 0), ("block 1", 1)]
    with pytest.raises(InputError, match="no object named cup"):
        world.tracker.start(PHOTO, objects="cup")


def test_two_of_a_kind_do_not_take_one_place():
    """The one that is lost is not found where the other one is followed."""
    world = World()
    world.tracker.start(PHOTO, boxes=[BOX], objects="block 0")
    world.tracker.start(PHOTO, boxes=[BOX], objects="block 0")
    world.tracker.tracks[1].search = regions(np.array(BOX), WIDTH, HEIGHT)
    for _ in range(4):
        assert [pose.track for pose in world.tracker.update(PHOTO)] == [0]


def test_what_is_removed_is_not_followed():
    world = World(2)
    world.start()
    del world.by_id[0]
    assert [pose.track for pose in world.tracker.update(PHOTO)] == [1]


def test_a_symmetric_object_keeps_its_pose():
    """Whichever of the equivalent poses the stages give."""
    world = World(symmetry="z4")
    world.start()
    rng = np.random.default_rng(0)
    for _ in range(10):
        world.truth[0] = moved(world.truth[0], np.array([0, 0, 0.05, 0, 0, 0]))
        world.following.turned = pose_of((0, 0, rng.integers(4) * np.pi / 2), (0, 0, 0))
        (pose,) = world.tracker.update(PHOTO)
        assert np.abs(step(pose.cam_from_obj, world.truth[0])).max() < 0.06


def test_a_pose_at_rest_is_held_and_one_that_moves_is_not_held_back():
    rng, points = np.random.default_rng(0), rng_points()
    steady, rest = Steady(points, K), pose_of()
    noise = np.array([0.01, 0.01, 0.004, 0.0005, 0.0005, 0.004])
    held = [steady(moved(rest, noise * rng.normal(size=6))) for _ in range(60)][20:]
    turns = Rotation.from_matrix(np.stack([pose[:3, :3] for pose in held]))
    jitter = np.degrees(np.sqrt(np.mean((turns * turns.mean().inv()).magnitude() ** 2)))
    assert jitter < 0.35 < np.degrees(np.linalg.norm(noise[:3]))  # of 0.84 degrees
    pose, motion = rest, np.array([0, 0.03, 0, 0.004, 0, 0])
    for _ in range(15):
        pose = moved(pose, motion)
        smooth = steady(moved(pose, noise * rng.normal(size=6)))
    lag = step(smooth, pose)
    assert abs(lag[1]) < 0.03 and abs(lag[3]) < 0.004  # less than a frame


def rng_points() -> np.ndarray:
    return np.random.default_rng(1).uniform(-0.1, 0.1, (20, 3))


@pytest.mark.parametrize("box", [None, np.array([10.0, 20, 110, 100])])
def test_the_whole_photo_is_searched(box):
    places = regions(box, WIDTH, HEIGHT)
    seen = np.zeros((HEIGHT, WIDTH), bool)
    for _ in range(80):
        left, top, right, bottom = next(places)
        assert 0 <= left < right <= WIDTH and 0 <= top < bottom <= HEIGHT
        seen[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = True
    assert seen.all()


def test_bad_use_is_told():
    world = World()
    with pytest.raises(InputError, match="start the tracker"):
        world.tracker.update(PHOTO)
    world.tracker.start(PHOTO, boxes=[BOX], time=3.0)
    with pytest.raises(InputError, match="time 2 is not later than 3"):
        world.tracker.update(PHOTO, 2.0)
