"""Configurations: files, overrides, and what is wrong with them."""

import pytest
import torch

from picopose.model.methods import make_stages, stage_names
from picopose.model.stage import Setup
from picopose.utils.config_files import load_config
from picopose.utils.errors import InputError
from picopose.utils.stopwatch import Stopwatch
from tests.shared import ROOT


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_the_shipped_configurations_are_valid(path):
    load_config(path)


def test_overrides_win_and_exponents_are_numbers(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("train:\n  lr: 1e-5\n  steps: 7\n")
    config = load_config(path, ["train.steps=9", "test.threshold_px=5e-1"])
    assert config.train.lr == 1e-5
    assert config.train.steps == 9
    assert config.test.threshold_px == 0.5


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("train:\n  learning_rate: 1\n", "learning_rate"),
        ("train:\n  lr: fast\n", "train.lr"),
        ("train:\n  lr: -1.0\n", "train.lr"),
        ("model:\n  dpt_channels: [1, two]\n", "dpt_channels"),
        ("train_dataset:\n  meshes: meshes\n", "needs a list"),
        ("model: 3\n", ""),
        ("- a list\n", ""),
        ("train: {lr: [}\n", ""),
        ("log_dir: ${nowhere}\n", "nowhere"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path, text, named):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load_config(path)
    message = str(error.value)
    assert str(path) in message
    assert named in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("checkpoint=picopose.ckpt", "picopose.ckpt: method rendermatch takes no checkpoint"),
        ("test.level=affine", "test.level: no stage of the run uses it"),
        ("test.threshold_px=3.0", "test.threshold_px: no stage of the run uses it"),
        (
            "method=foundation",
            "foundation: no such method or stage; choose among best, confidence, detect, distinct",
        ),
        ("options.rendermatch.turns=0", "options.rendermatch: turns is 0; it must be positive"),
        ("options.redraw.times=2", "options.redraw: no stage of the run"),
        ("options.refine.times=-1", "options.refine: times is -1; it must not be negative"),
        ("options.rendermatch.views=3", "options.rendermatch: views"),
        ("options.rendermach.turns=3", "options.rendermach: no stage of the run"),
    ],
)
def test_the_default_method_refuses_what_it_would_not_use(override, named):
    path = ROOT / "config/default.yaml"
    with pytest.raises(InputError) as error:
        config = load_config(path, [override])
        make_stages(stage_names(config), Setup(config, torch.device("cpu"), Stopwatch(running=False)))
    message = str(error.value)
    assert named in message and "\n" not in message


def test_the_default_is_render_and_match():
    config = load_config(ROOT / "config/default.yaml", ["options.rendermatch.turns=1", "test.views=642"])
    assert (config.method, config.options["rendermatch"]["turns"], config.test.views) == (
        "rendermatch",
        1,
        642,
    )
    assert load_config(ROOT / "config/base.yaml").method == "picopose"


BOMB = "a: &a [1, 2]\nb: &b [*a, *a]\nlog_dir: log\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("log_dir: ${oc.env:HOME}\n", "log_dir: ${oc.env:HOME} would be looked up elsewhere"),
        ("train_dataset: {meshes: [a, '${log_dir}/b']}\n", "train_dataset.meshes: ${log_dir}/b would be"),
        ("log_dir: ${\n", "not a YAML file"),
        (BOMB, "has aliases (*name), which are not read"),
        ("[" * 800, "not a YAML file"),
        ("# " + "x" * 100_001, "longer than 100000 characters"),
        ("model: {features: 3000000}\n", "model.features is 3000000; it must lie in 1 to 2048"),
        ("model: {features: .inf}\n", "could not be converted to Integer"),
        ("hello\n", "hello"),
        ("5\n", "not a YAML file"),
    ],
)
def test_values_stand_for_themselves_and_are_bounded(tmp_path, monkeypatch, text, reason):
    monkeypatch.setenv("HOME", "/a/secret")
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        load_config(path)
    assert str(raised.value).startswith(f"{path}: ") and reason in str(raised.value)
    assert "\n" not in str(raised.value) and "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "override", ["log_dir=${oc.env:HOME}", "test_dataset={data_dir: '${log_dir}'}", "log_dir=${"]
)
def test_options_look_nothing_up(override):
    with pytest.raises(InputError, match="option "):
        load_config(ROOT / "config/base.yaml", [override])
    with pytest.raises(InputError, match="would be looked up elsewhere"):
        load_config(ROOT / "config/base.yaml", flags={"checkpoint": "${log_dir}/a.pt"})


@pytest.mark.parametrize(
    "carried",
    [
        5,
        b"abc",
        {"model": {}},
        "a: [",
        "5",
        "[1]",
        "hello",
        "model: 5",
        "model: {backbone: '${oc.env:HOME}'}",
        BOMB,
        "model: {unknown: 1}",
        "model: {size: 1e999}",
        "a: !!python/object/apply:os.getcwd []",
    ],
)
def test_what_a_checkpoint_carries_in_place_of_a_configuration(carried):
    with pytest.raises(InputError) as raised:
        load_config(ROOT / "config/base.yaml", flags={"checkpoint": "a.pt"}, trained_with=carried)
    assert str(raised.value).startswith("a.pt: its own configuration: ") and "\n" not in str(raised.value)
