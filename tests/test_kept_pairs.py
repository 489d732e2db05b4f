"""Pairs on disk: what is written is read, turned views are exact, and nothing stale is used."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from picopose.datasets.training.kept_pairs import (
    RECORD,
    KeptPairs,
    begin_record,
    end_record,
    from_record,
    shard_path,
    to_records,
    turned,
    write_shard,
)
from picopose.utils.errors import InputError
from picopose.utils.geometry import project
from picopose.utils.records import Pair, View

SIZE = 16
MADE_WITH = {"size": SIZE, "shapes": 1.0, "meshes": ["a", "b"]}


def view(seed: int) -> View:
    rng = np.random.default_rng(seed)
    depth = np.where(rng.random((SIZE, SIZE)) < 0.6, rng.uniform(0.8, 1.3, (SIZE, SIZE)), 0.0)
    pose = np.eye(4)
    pose[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    pose[:3, 3] = 0.05, -0.02, 1.0
    return View(
        rgb=torch.from_numpy(rng.integers(0, 256, (3, SIZE, SIZE))).float() / 255,
        mask=torch.from_numpy(rng.random((SIZE, SIZE)) < 0.5),
        K=torch.tensor([[30.0, 0, 9], [0, 31, 6], [0, 0, 1]]),
        depth=torch.from_numpy(depth).float(),
        cam_from_obj=torch.from_numpy(pose).float(),
    )


def pair(seed: int) -> Pair:
    return Pair(view(2 * seed), view(2 * seed + 1))


def folder_of(tmp_path, counts=(3, 4), made_with=MADE_WITH):
    begin_record(tmp_path, made_with, 0)
    first = 0
    for number, count in enumerate(counts):
        write_shard(tmp_path, number, [pair(first + k) for k in range(count)], SIZE)
        first += count
    return end_record(tmp_path, len(counts))


def test_records_hold_what_pairs_hold():
    pairs = [pair(0), replace(pair(1), real=replace(view(5), depth=torch.zeros(SIZE, SIZE)))]
    for expected, record in zip(pairs, to_records(pairs, SIZE), strict=True):
        found = from_record(record)
        for name in ("real", "template"):
            one, other = getattr(expected, name), getattr(found, name)
            assert (one.rgb - other.rgb).abs().max() < 1e-6
            assert one.mask.equal(other.mask) and one.K.equal(other.K)
            assert one.cam_from_obj.equal(other.cam_from_obj)
            assert (one.depth > 0).equal(other.depth > 0)
            assert (one.depth - other.depth).abs().max() < 1e-5  # 0.5 m in 65534 steps


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_view_shows_every_point_where_its_camera_projects_it(quarters):
    before = view(0)
    after = turned(before, quarters)
    handedness = [torch.linalg.det(turned.cam_from_obj[:3, :3]) for turned in (before, after)]
    assert torch.allclose(*handedness)
    ones = torch.ones(SIZE * SIZE, 1)
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    pixels = torch.cat([columns.reshape(-1, 1), rows.reshape(-1, 1), ones], dim=1)
    rays = pixels @ torch.linalg.inv(before.K).T
    # Points of the object's frame one metre deep behind every pixel, seen by the other camera.
    points = torch.cat([rays, ones], dim=1) @ torch.linalg.inv(before.cam_from_obj).T
    seen = (points @ after.cam_from_obj.T)[:, :3]
    xy = project(after.K, seen)
    assert (xy - xy.round()).abs().max() < 1e-3
    x, y = xy.round().long().unbind(1)
    assert torch.allclose(seen[:, 2], ones[:, 0], atol=1e-5)
    for name in ("rgb", "mask", "depth"):
        moved, kept = getattr(after, name), getattr(before, name)
        assert moved[..., y, x].equal(kept.flatten(-2))


def test_every_pair_comes_once_a_round_in_another_order(tmp_path):
    assert folder_of(tmp_path) == 7
    source = KeptPairs(tmp_path, MADE_WITH, seed=3)
    names = [source.name(index) for index in range(21)]
    rounds = [names[k : k + 7] for k in (0, 7, 14)]
    assert all(set(found) == set(rounds[0]) and len(set(found)) == 7 for found in rounds)
    assert rounds[0] != rounds[1]
    for index in range(7):
        again = KeptPairs(tmp_path, MADE_WITH, seed=3).sample(index)
        assert again.real.rgb.equal(source.sample(index).real.rgb)
    templates = torch.stack([source.sample(index).template.rgb for index in range(7)])
    expected = torch.stack([pair(seed).template.rgb for seed in range(7)])
    assert all((expected - rgb).abs().amax(dim=(1, 2, 3)).min() < 1e-6 for rgb in templates)


def test_pairs_that_were_made_with_something_else_are_refused(tmp_path):
    folder_of(tmp_path)
    with pytest.raises(InputError, match="other meshes: remove it"):
        KeptPairs(tmp_path, MADE_WITH | {"meshes": ["a", "c"]}, seed=0)
    with pytest.raises(InputError, match="other size"):
        begin_record(tmp_path, MADE_WITH | {"size": 32}, 0)
    with pytest.raises(InputError, match="seed=0"):
        begin_record(tmp_path, MADE_WITH, 1)
    record = json.loads((tmp_path / RECORD).read_text())
    (tmp_path / RECORD).write_text(json.dumps(record | {"version": 0}))
    with pytest.raises(InputError, match="other version"):
        KeptPairs(tmp_path, MADE_WITH, seed=0)


def test_missing_and_damaged_pairs_are_named(tmp_path):
    with pytest.raises(InputError, match=r"tools\.keep_pairs"):
        KeptPairs(tmp_path, MADE_WITH, seed=0)
    begin_record(tmp_path, MADE_WITH, 0)
    with pytest.raises(InputError, match="no pairs yet"):
        KeptPairs(tmp_path, MADE_WITH, seed=0)
    folder_of(tmp_path)
    damaged = shard_path(tmp_path, 1)
    whole = damaged.read_bytes()
    np.save(damaged, np.zeros(4))
    with pytest.raises(InputError, match=r"pairs-000001\.npy is missing or damaged"):
        KeptPairs(tmp_path, MADE_WITH, seed=0)
    damaged.write_bytes(whole)
    damaged.write_bytes(damaged.read_bytes()[:300])
    with pytest.raises(InputError, match=r"pairs-000001\.npy is missing or damaged"):
        KeptPairs(tmp_path, MADE_WITH, seed=0)


@pytest.mark.parametrize(
    "record",
    [
        [],
        True,
        {},
        {"seed": 0, "made_with": "x", "shards": [3, 4]},
        {"seed": 0, "made_with": {}, "shards": 7},
        {"seed": 0, "made_with": {}, "shards": ["3", None]},
        {"seed": 0, "made_with": {}, "shards": [3.5]},
    ],
)
def test_a_damaged_record_is_named(tmp_path, record):
    folder_of(tmp_path)
    (tmp_path / RECORD).write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"pairs\.json"):
        KeptPairs(tmp_path, MADE_WITH, seed=0)


@pytest.mark.parametrize(
    ("field", "place", "value"),
    [
        ("K", (0, 0), -30.0),
        ("K", (2, 2), 0.0),
        ("K", (0, 2), np.nan),
        ("cam_from_obj", (0, 0), 3.0),
        ("cam_from_obj", (2, 3), -1.0),
        ("cam_from_obj", (1, 3), np.inf),
        ("range", 0, np.nan),
        ("range", 1, 1e9),
    ],
)
def test_pairs_that_cannot_be_are_named(tmp_path, field, place, value):
    folder_of(tmp_path, counts=(1,))
    records = np.load(shard_path(tmp_path, 0))
    records["template"][field][0][place] = value
    np.save(shard_path(tmp_path, 0), records)
    with pytest.raises(InputError, match=r"pair 0 of .*pairs-000000\.npy is damaged: remove that file"):
        KeptPairs(tmp_path, MADE_WITH, seed=0).sample(0)


def test_pairs_of_another_kind_of_record_are_named(tmp_path):
    folder_of(tmp_path, counts=(1,))
    np.save(shard_path(tmp_path, 0), np.zeros(1))
    with pytest.raises(InputError, match=r"pairs-000000\.npy is missing or damaged"):
        KeptPairs(tmp_path, MADE_WITH, seed=0)
