"""What a training's configuration asks for: kept pairs of these very meshes, and varied objects."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from picopose.datasets.training.kept_pairs import KeptPairs, begin_record, end_record, write_shard
from picopose.datasets.training.object_pool import ObjectPool
from picopose.datasets.training.sources import description, idle_options, made_with, make_scenes, make_source
from picopose.model.picopose.learner import describe_pairs, pair_source
from picopose.rendering.studio import Studio
from picopose.utils.config import Config, TrainDatasetConfig
from picopose.utils.config_files import load_config
from picopose.utils.errors import InputError
from picopose.utils.mesh_file import MeshFile
from tests.shared import ROOT

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


def config_of(*overrides: str) -> Config:
    """Says of training data what the overrides say."""
    return load_config(ROOT / "config/default.yaml", overrides)


def test_meshes_that_are_given_are_used(data):
    config = config_of(f"train_dataset.meshes=[{data.meshes[0]}]", "train_dataset.augment=0")
    source = make_source(Studio(views=42), config.train_dataset, size=SIZE, seed=0)
    shown = [source.name(index).split(" of ")[1] for index in range(60)]
    files = [name for name in shown if name in ("can0", "can1")]
    assert 18 <= len(files) <= 42  # half of sixty; a standard deviation is 4
    assert all(name in files or name.startswith("shape ") for name in shown)
    assert description(config.train_dataset) == (
        f"100% rendered (50% procedural shapes, 50% meshes of {data.meshes[0]})"
    )
    assert description(config_of().train_dataset) == "100% rendered (100% procedural shapes)"


REFUSED = [
    (["meshes=[/data/nowhere]"], r"train_dataset\.meshes=/data/nowhere: no such folder"),
    (["meshes=[MESHES]", "shapes=1"], r"meshes names .*, but train_dataset\.shapes=1 leaves no object"),
    (["meshes=[MESHES]", "shapes=0.999"], r"shapes=0\.999: of 96 objects at a time 0 would be meshes"),
    (["meshes=[MESHES]", "shapes=0.001"], r"96 would be meshes, from 1 folders, and 0 procedural"),
    (["shapes=0.5"], r"shapes is below 1, but train_dataset\.meshes names no folder"),
    (["megapose=[gso]"], r"megapose names gso, but train_dataset\.synthetic=1 leaves no pair"),
    (["megapose=[gso,gso]", "synthetic=0"], "megapose names a set twice"),
    (["synthetic=0"], r"synthetic is below 1, but train_dataset\.megapose names no set"),
    (["backgrounds=/data/nowhere"], "train_dataset.backgrounds=/data/nowhere"),
    (
        ["validation_meshes=[/data/nowhere]"],
        r"train_dataset\.validation_meshes=/data/nowhere: no such folder",
    ),
]


@pytest.mark.parametrize(("options", "line"), REFUSED)
def test_options_that_leave_no_room_for_each_other_are_refused(data, options, line):
    overrides = [f"train_dataset.{option.replace('MESHES', data.meshes[0])}" for option in options]
    with pytest.raises(InputError, match=line) as caught:
        config = config_of(*overrides)
        pair_source(config)
        pair_source(config, held_out=True)
    assert "\n" not in str(caught.value)


def test_options_without_effect_are_told(data, caplog):
    mega = {"megapose": ["gso"], "synthetic": 0.0}
    assert idle_options(TrainDatasetConfig()) == idle_options(TrainDatasetConfig(**mega, data_dir="d")) == {}
    assert list(idle_options(TrainDatasetConfig(data_dir="d"))) == ["train_dataset.data_dir"]
    assert list(idle_options(TrainDatasetConfig(max_faces=9, varied=0.5))) == [
        "train_dataset.varied",
        "train_dataset.max_faces",
    ]
    options = {"shapes": 0.5, "kept": "k", "backgrounds": "b", "resting": 0.5, "max_faces": 9}
    idle = idle_options(TrainDatasetConfig(meshes=data.meshes, **mega, **options))
    assert set(idle) == {f"train_dataset.{name}" for name in ("meshes", *options)}
    validated = TrainDatasetConfig(validation_meshes=data.meshes, **mega, **options)
    assert list(idle_options(validated)) == ["train_dataset.shapes", "train_dataset.kept"]
    with caplog.at_level("INFO"):
        describe_pairs(config_of("train_dataset.resting=0.2", "train_dataset.data_dir=elsewhere"))
    assert [record.message for record in caplog.records] == [
        "training pairs: 100% rendered (100% procedural shapes)",
        "train_dataset.data_dir has no effect: train_dataset.megapose names no set",
    ]


def test_the_pairs_of_validation_may_be_rendered_where_training_has_megapose(data):
    gso = ["train_dataset.megapose=[gso]", "train_dataset.synthetic=0"]
    config = config_of(*gso, f"train_dataset.validation_meshes=[{data.meshes[0]}]")
    assert " of can" in pair_source(config, held_out=True).name(0)


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
