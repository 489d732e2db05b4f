"""Prepared templates: the same as computed anew, found again, and made again where they cannot be trusted."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from picopose.model.picopose.build import build_network
from picopose.model.picopose.matching import descriptors
from picopose.model.picopose.network import PicoPose
from picopose.model.picopose.templates import store
from picopose.model.picopose.templates.bank import FeatureBank
from picopose.model.picopose.templates.store import FeatureStore, bytes_of
from picopose.model.prepared_files import PreparedFiles
from picopose.model.stage import Thing, Things
from picopose.utils.records import View

SIZE, VIEWS = 64, 5


@pytest.fixture(scope="module")
def network() -> PicoPose:
    torch.manual_seed(0)
    return build_network(
        backbone="resnet10t",
        pretrained=None,
        stride=16,
        size=SIZE,
        dpt_channels=[16, 16, 16],
        features=16,
        width=32,
        half_cell=0.0,
        viewing_ray=True,
    ).eval()


class Source:
    """Random views; counts how often they are asked for."""

    def __init__(self):
        self.calls = 0
        self.name = "first"

    def digest(self, obj_id: int) -> str:
        return f"{self.name} {obj_id}"

    def views(self, obj_id: int):
        self.calls += 1
        generator = torch.Generator().manual_seed(obj_id)
        for count in (3, VIEWS - 3):
            yield View(
                rgb=torch.rand(count, 3, SIZE, SIZE, generator=generator),
                mask=torch.rand(count, SIZE, SIZE, generator=generator) > 0.5,
                K=torch.rand(count, 3, 3, generator=generator),
                depth=torch.rand(count, SIZE, SIZE, generator=generator),
                cam_from_obj=torch.rand(count, 4, 4, generator=generator),
            )


def opened(folder: Path, network: PicoPose, source: Source, **options) -> FeatureStore:
    things = Things({i: Thing(i, f"{i}", None) for i in (1, 2, 7)}, templates=source)
    return FeatureStore(PreparedFiles(folder), network, things, **options)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


@torch.inference_mode()
def test_what_is_read_is_what_the_network_computes_up_to_half_precision(network, tmp_path):
    source = Source()
    bank = FeatureBank(network, opened(tmp_path, network, source, batch=2))
    found = bank.templates([7, 7], [4, 1])
    views = View.cat(list(source.views(7)))[torch.tensor([4, 1])]
    maps = network.features(views.rgb)
    expected = network.template_maps(maps)
    assert torch.equal(found.view.depth, views.depth) and torch.equal(found.view.mask, views.mask)
    assert (found.view.rgb - views.rgb).abs().max() <= 0.5 / 255 + 1e-6
    assert relative(found.descriptors, descriptors(maps[-1])) < 2e-3
    for ours, theirs in zip(
        (*found.maps.features, *found.maps.context), (*expected.features, *expected.context), strict=True
    ):
        assert relative(ours, theirs) < 5e-3
    assert relative(bank.descriptors(7)[[4, 1]].float(), descriptors(maps[-1])) < 2e-3


def test_a_second_run_computes_nothing(network, tmp_path):
    source = Source()
    first = FeatureBank(network, opened(tmp_path, network, source)).templates([1], [2])
    again = FeatureBank(network, opened(tmp_path, network, source)).templates([1], [2])
    assert source.calls == 1
    assert torch.equal(first.maps.context[2], again.maps.context[2])


def test_another_mesh_other_weights_another_version_and_a_damaged_file_are_computed_anew(
    network, tmp_path, monkeypatch
):
    source = Source()
    opened(tmp_path, network, source).open(1)
    source.name = "second"
    opened(tmp_path, network, source).open(1)
    assert source.calls == 2
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.backbone.join.bias += 1
    opened(tmp_path, other, source).open(1)
    assert source.calls == 3
    with monkeypatch.context() as patch:
        patch.setattr(store, "VERSION", store.VERSION + 1)
        opened(tmp_path, network, source).open(1)
    assert source.calls == 4
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    opened(tmp_path, network, source).open(1)
    assert source.calls == 5
    assert not [path for path in tmp_path.iterdir() if "tmp" in path.name]


@pytest.mark.parametrize(
    ("name", "kind"), [("map1", torch.bfloat16), ("depth", torch.int32), ("rgb", torch.int8)]
)
def test_files_whose_parts_are_of_another_kind_are_computed_anew(network, tmp_path, name, kind):
    source = Source()
    opened(tmp_path, network, source).open(1)
    (path,) = tmp_path.iterdir()
    content = load_file(path)
    content[name] = content[name].view(kind)
    save_file(content, path)
    opened(tmp_path, network, source).open(1)
    assert source.calls == 2 and load_file(path)[name].dtype != kind


def test_little_memory_changes_nothing_but_the_time(network, tmp_path):
    source = Source()
    store = opened(tmp_path, network, source)
    asked = ([1, 2, 1, 2, 1], [0, 0, 3, 1, 0])
    rich, poor = FeatureBank(network, store), FeatureBank(network, store, memory=0)
    for ours, theirs in zip(
        rich.templates(*asked).maps.features, poor.templates(*asked).maps.features, strict=True
    ):
        assert torch.allclose(ours, theirs, atol=1e-2)
    assert bytes_of(rich.templates(*asked)) == bytes_of(poor.templates(*asked))
    assert len(rich._kept) == 2 + 4 and len(poor._kept) == 1
