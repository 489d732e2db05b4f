"""What a training's configuration asks for: kept pairs of these very meshes, and varied objects."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from datasets.kept_pairs import KeptPairs, begin_record, end_record, write_shard
from datasets.object_pool import ObjectPool
from datasets.sources import made_with, make_scenes, make_source
from rendering.studio import Studio
from utils.config import TrainDatasetConfig
from utils.errors import InputError
from utils.layouts import MeshFile

SIZE = 64


@pytest.fixture
def data(tmp_path) -> TrainDatasetConfig:
    (tmp_path / "meshes").mkdir()
    for k, height in enumerate((0.1, 0.2)):
        trimesh.creation.cylinder(0.05, height).export(tmp_path / f"meshes/can{k}.ply")
    folder, kept = str(tmp_path / "meshes"), str(tmp_path / "pairs")
    return TrainDatasetConfig(meshes=[folder], shapes=0.5, varied=0.5, max_faces=500, kept=kept, augment=0.0)


def test_pairs_are_made_with_what_files_hold_wherever_they_lie(data, tmp_path):
    before = made_with(data, SIZE)
    shutil.copytree(tmp_path / "meshes", tmp_path / "elsewhere")
    assert made_with(replace(data, meshes=[str(tmp_path / "elsewhere")]), SIZE) == before
    changed = [replace(data, shapes=0.25), replace(data, varied=0.0), replace(data, max_faces=None)]
    assert all(made_with(other, SIZE) != before for other in changed)
    assert made_with(data, 2 * SIZE) != before
    trimesh.creation.cylinder(0.05, 0.3).export(tmp_path / "meshes/can1.ply")
    assert made_with(data, SIZE) != before


def test_a_training_uses_the_pairs_of_its_own_scenes_and_no_others(data, tmp_path):
    scenes = make_scenes(Studio(views=42, max_faces=500), data, size=SIZE, seed=0)
    pairs = [pair for number in range(2) for pair in scenes.pairs(number)]
    folder = tmp_path / "pairs"
    begin_record(folder, made_with(data, SIZE), 0)
    write_shard(folder, 0, pairs, SIZE)
    assert end_record(folder, 1) == len(pairs) > 2
    source = make_source(Studio(views=42), data, size=SIZE, seed=5)
    assert isinstance(source, KeptPairs)
    known = torch.stack([pair.template.rgb for pair in pairs])
    for index in range(len(pairs)):
        template = source.sample(index).template.rgb
        assert (known - template).abs().amax(dim=(1, 2, 3)).min() < 0.003  # half a grey level
    with pytest.raises(InputError, match="other resting"):
        make_source(Studio(views=42), replace(data, resting=0.5), size=SIZE, seed=5)


def test_a_share_of_the_objects_is_varied(tmp_path):
    trimesh.creation.box((0.1, 0.08, 0.06)).export(tmp_path / "box.ply")
    files = {"box": MeshFile(tmp_path / "box.ply", 1.0)}

    def shown(varied: float) -> list:
        pool = ObjectPool(Studio(views=42), [files], shapes=0.0, varied=varied, seed=0, slots=4, period=8)
        return [pool.get(index, slot) for index in range(0, 80, 8) for slot in range(4)]

    plain, some = shown(0.0), shown(0.5)
    assert {id(thing) for thing in plain} == {id(plain[0])}
    varied = [thing for thing in some if thing.name == "box varied"]
    assert 10 <= len(varied) <= 30  # 20 of 40; a standard deviation is 3
    assert 3 <= sum(thing.mesh.texture is not None for thing in varied) < len(varied)
    extents = np.array([np.sort(np.ptp(thing.mesh.vertices, axis=0)) for thing in varied])
    assert extents.std(axis=0)[0] > 0.003
    again = shown(0.5)
    assert all(np.array_equal(a.mesh.vertices, b.mesh.vertices) for a, b in zip(some, again, strict=True))
