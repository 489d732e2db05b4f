"""Entries of `options.rnnpose` that cannot be used are refused in one line that names them."""

import pytest

from picopose.model.rnnpose.options import Options, Training, read_options
from picopose.utils.config import Config
from picopose.utils.config_files import changed_options, to_yaml
from picopose.utils.errors import InputError


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("network.patch", 100),
        ("network.patch", 0),
        ("network.zoom", -96),
        ("network.zoom", 8),
        ("network.width", 1),
        ("network.descriptor", 0),
        ("network.renderings", 0),
        ("network.iterations", -1),
        ("longest_edge", 0.0),
        ("longest_edge", -1.0),
        ("longest_edge", float("nan")),
        ("training.noise_degrees", -1.0),
        ("training.noise_degrees", float("nan")),
        ("training.noise_shift", [0.1]),
        ("training.noise_shift", [-0.1, 0.0, 0.0]),
        ("training.noise_least", 2.0),
        ("training.single", -1),
        ("training.point_weight", float("nan")),
        ("quirks", ["loose"]),
    ],
)
def test_entry_out_of_range(entry, value):
    tree = value
    for name in reversed(entry.split(".")):
        tree = {name: tree}
    with pytest.raises(InputError, match=f"options.rnnpose: .*{entry.rpartition('.')[2]}"):
        read_options(Config(options={"rnnpose": tree}))


def test_defaults_are_within_their_limits():
    assert read_options(Config()) == Options(training=Training())


def test_another_object_is_another_training():
    trained = Config(method="rnnpose", options={"rnnpose": {"training": {"object": "mug", "single": 9}}})
    other = Config(
        method="rnnpose",
        options={"rnnpose": {"training": {"object": "jug", "single": 9}, "quirks": ["near_limit"]}},
    )
    assert changed_options(to_yaml(trained), trained, "a.pt") == []
    names = ["options.rnnpose.quirks", "options.rnnpose.training.object"]
    assert changed_options(to_yaml(trained), other, "a.pt") == names
