"""Pairs from scenes that serve all their objects: geometry, visibility, and what they depend on."""

from functools import cache

import numpy as np
import torch
from torch.nn.functional import max_pool2d

from picopose.datasets.training.object_pool import ObjectPool
from picopose.datasets.training.shared_scenes import SharedScenes
from picopose.datasets.training.synthetic import MIN_VISIBLE
from picopose.rendering.studio import Studio
from picopose.utils.geometry import cell_centres, invert, project, transform, unproject
from picopose.utils.records import Pair

SIZE, SEED, SCENES = 64, 3, 6


def make_scenes(seed: int = SEED) -> tuple[SharedScenes, ObjectPool]:
    studio = Studio(views=42)
    pool = ObjectPool(studio, [], shapes=1.0, seed=seed, slots=5, period=1000)
    return SharedScenes(studio, pool, size=SIZE, seed=seed), pool


@cache
def scenes() -> list[list[Pair]]:
    made, _ = make_scenes()
    return [made.pairs(number) for number in range(SCENES)]


def all_pairs() -> list[Pair]:
    return [pair for scene in scenes() for pair in scene]


def test_a_scene_serves_several_objects_at_their_own_sizes():
    assert np.mean([len(scene) for scene in scenes()]) > 2
    _, pool = make_scenes()
    things = [pool.get(0, slot) for slot in range(pool.slots)]
    for pair in all_pairs():
        rotation = pair.real.cam_from_obj[:3, :3]
        assert torch.allclose(rotation @ rotation.T, torch.eye(3), atol=1e-5)
        # Its template is one of an object of the pool, at that object's own size.
        pose = pair.template.cam_from_obj.double().numpy()
        assert any(np.abs(thing.template_poses - pose).max(axis=(1, 2)).min() < 1e-5 for thing in things)


def test_what_the_photo_shows_lies_where_the_template_shows_it_or_behind():
    seen = []
    for pair in all_pairs():
        xyz = unproject(pair.real.K, cell_centres(SIZE, SIZE), pair.real.depth.flatten())
        xyz = xyz[pair.real.depth.flatten() > 0]
        moved = transform(pair.template.cam_from_obj @ invert(pair.real.cam_from_obj), xyz)
        xy = project(pair.template.K, moved).round().long()
        inside = ((xy >= 0) & (xy < SIZE)).all(dim=1)
        shown = torch.where(pair.template.depth > 0, pair.template.depth, torch.inf)
        # A pixel's point may lie half a pixel beside it, so the nearest surface around is what counts.
        nearest = -max_pool2d(-shown[None], 3, stride=1, padding=1)[0]
        at = xy[inside, 1], xy[inside, 0]
        distance = pair.template.cam_from_obj[2, 3]
        assert (moved[inside, 2] - nearest[at]).quantile(0.05) > -0.01 * distance  # else it floats in the air
        gap = (moved[inside, 2] - shown[at])[shown[at].isfinite()]
        seen.append((gap.abs() < 0.02 * distance).float().mean().item())
    assert np.median(seen) > 0.6


def test_enough_of_every_object_is_seen_and_colours_are_its_own():
    studio = Studio()
    _, pool = make_scenes()
    things = [pool.get(0, slot) for slot in range(pool.slots)]
    for pair in all_pairs():
        pose = pair.template.cam_from_obj.double().numpy()
        thing = min(things, key=lambda thing: np.abs(thing.template_poses - pose).max(axis=(1, 2)).min())
        K = pair.real.K.double().numpy().copy()
        K[:2, 2] += 2 * SIZE
        alone = studio.depth(thing.mesh, pair.real.cam_from_obj.numpy(), K, 5 * SIZE, 5 * SIZE)
        assert (pair.real.depth > 0).sum() > 0.7 * MIN_VISIBLE * (alone > 0).sum()
        shown = pair.real.depth > 0
        part = torch.from_numpy(alone[2 * SIZE : 3 * SIZE, 2 * SIZE : 3 * SIZE])
        assert (part - pair.real.depth)[shown].abs().max() < 1e-3 * pair.real.cam_from_obj[2, 3]


def test_scenes_depend_on_seed_and_number_alone():
    again, _ = make_scenes()
    for number in (4, 1):
        for first, second in zip(scenes()[number], again.pairs(number), strict=True):
            assert torch.equal(first.real.rgb, second.real.rgb)
            assert torch.equal(first.template.depth, second.template.depth)
    other, _ = make_scenes(seed=SEED + 1)
    assert not torch.equal(other.pairs(0)[0].real.rgb, scenes()[0][0].real.rgb)
