"""TensorFlow's checkpoints are read exactly; damaged and lying ones are refused in one line."""

import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from picopose.commands.convert import main
from picopose.model.dualposenet.crc32c import crc32c
from picopose.model.dualposenet.network import DualPoseNet, Sizes
from picopose.model.dualposenet.options import Options
from picopose.model.dualposenet.quirks import RELEASED
from picopose.model.dualposenet.released import rewrite
from picopose.model.dualposenet.tensorflow_checkpoint import DATA, read_index, read_variables
from picopose.model.dualposenet.weights import load_network
from picopose.utils.errors import InputError
from tests.dualposenet_golden import original_names, variable_shapes
from tests.shared import shared

FOLDER = "reference_dualposenet/checkpoint"
SMALL = Sizes(16, (2, 2, 2, 2), 8, (8,), (8,))


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """The index of a copy of the small checkpoint."""
    for end in (".index", DATA):
        shutil.copyfile(shared(f"{FOLDER}/tiny-7{end}"), tmp_path / f"tiny-7{end}")
    return tmp_path / "tiny-7.index"


def data_of(index: Path) -> Path:
    return index.with_name(index.stem + DATA)


def test_every_variable_is_exact(checkpoint):
    variables = read_variables(checkpoint)
    with np.load(shared(f"{FOLDER}/tiny_expected.npz"), allow_pickle=False) as expected:
        assert variables.keys() == set(expected.files)
        for name, values in variables.items():
            assert values.dtype == expected[name].dtype
            np.testing.assert_array_equal(values, expected[name])


def test_the_name_without_an_ending_will_do_and_some_can_be_picked(checkpoint):
    assert read_variables(checkpoint.with_suffix(""), lambda name: name == "global_step") == {
        "global_step": 7
    }


def test_the_index_of_a_complete_checkpoint():
    entries = read_index(shared(f"{FOLDER}/full.index"))
    assert len(entries) == 228
    shapes = variable_shapes()
    assert {name: entries[name].shape for name in shapes} == shapes
    assert max(entry.offset + entry.size for entry in entries.values()) == 813_784_488


def test_a_missing_data_file(checkpoint):
    data_of(checkpoint).unlink()
    with pytest.raises(InputError, match=r"tiny-7\.data-00000-of-00001: no such file"):
        read_variables(checkpoint)


@pytest.mark.parametrize("left", [0, 20, 47, 48, 500, 1025])
def test_a_truncated_index(checkpoint, left):
    checkpoint.write_bytes(checkpoint.read_bytes()[:left])
    with pytest.raises(InputError, match=r"tiny-7\.index: .*download both files"):
        read_variables(checkpoint)


def test_truncated_data(checkpoint):
    data = data_of(checkpoint)
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"ends before .* does"):
        read_variables(checkpoint)


def test_damaged_data(checkpoint):
    data = data_of(checkpoint)
    content = bytearray(data.read_bytes())
    content[12_345] ^= 1
    data.write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        read_variables(checkpoint)


def test_no_damaged_byte_of_an_index_passes(checkpoint):
    content = checkpoint.read_bytes()
    expected = read_variables(checkpoint)
    for place in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        checkpoint.write_bytes(damaged)
        try:
            variables = read_variables(checkpoint)
        except InputError:
            continue
        assert place > len(content) - 48 - 50  # padding of the footer, and a block that nothing reads
        for name, values in expected.items():
            np.testing.assert_array_equal(variables[name], values)


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"PK\3\4" * 300])
def test_other_files(checkpoint, content):
    checkpoint.write_bytes(content)
    with pytest.raises(InputError, match="no index of a checkpoint"):
        read_variables(checkpoint)


# An index that lies is correct in form: its check sums agree.


def varint(value: int) -> bytes:
    rest = value >> 7
    return bytes([value & 127 | 128 * bool(rest)]) + (varint(rest) if rest else b"")


def message(**fields: int | bytes) -> bytes:
    """A protocol buffer of fields f1=, f2=, ...: numbers, or bytes."""
    parts = [
        varint(8 * int(name[1:])) + varint(value)
        if isinstance(value, int)
        else varint(8 * int(name[1:]) + 2) + varint(len(value)) + value
        for name, value in fields.items()
    ]
    return b"".join(parts)


def block(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """A block with its trailer."""
    content = b"".join(b"\0" + varint(len(key)) + varint(len(value)) + key + value for key, value in pairs)
    content += struct.pack("<II", 0, 1) + b"\0"
    return content + checksum(content)


def checksum(content: bytes) -> bytes:
    """As it is stored."""
    plain = crc32c(np.frombuffer(content, np.uint8))
    return struct.pack("<I", ((plain >> 15 | plain << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def table(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """A table with one block of data."""
    data = block(pairs)
    index = block([(b"z", varint(0) + varint(len(data) - 5))])
    footer = varint(0) * 2 + varint(len(data)) + varint(len(index) - 5)
    return data + index + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


HEADER = (b"", message(f1=1))
SIX = message(f2=message(f1=2)) + message(f2=message(f1=3))  # the shape (2, 3)
LIES = {
    "unknown kind 7": [HEADER, (b"a", message(f1=7, f2=SIX, f5=24))],
    "cannot take 20 bytes": [HEADER, (b"a", message(f1=1, f2=SIX, f5=20))],
    r"ends before a does": [HEADER, (b"a", message(f1=1, f2=SIX, f4=2**50, f5=24))],
    "begins within": [HEADER, *((key, message(f1=1, f2=SIX, f4=8, f5=24)) for key in (b"a", b"b"))],
    "a in it is damaged": [HEADER, (b"a", message(f1=1, f2=SIX, f5=24, f6=1))],
    "out of order": [HEADER, (b"b", message(f1=1, f2=SIX, f5=24)), (b"a", message(f1=1, f2=SIX, f5=24))],
    "in a second file": [HEADER, (b"a", message(f1=1, f2=SIX, f3=1, f5=24))],
    "in 2 files": [(b"", message(f1=2))],
    "the high byte": [(b"", message(f1=1, f2=1))],
    "has no end": [HEADER, (b"a", b"\x08" + b"\xff" * 20)],
    "beyond its message": [HEADER, (b"a", b"\x12\x7f")],
    "unknown form": [HEADER, (b"a", b"\x0b")],
    "damaged": [HEADER, (b"a", message(f1=1, f2=5, f5=24))],
    "no number for its place": [HEADER, (b"a", message(f1=1, f2=SIX, f4=b"a", f5=24))],
    r"\(a has 5000 dimensions\)": [HEADER, (b"a", message(f1=1, f2=message(f2=message(f1=1)) * 5000, f5=4))],
    "cannot take 0 bytes": [HEADER, (b"a", message(f1=1, f2=message(f2=message(f1=0)), f5=0))],
}


@pytest.mark.parametrize("complaint", LIES)
def test_a_lying_index(checkpoint, complaint):
    checkpoint.write_bytes(table(LIES[complaint]))
    with pytest.raises(InputError, match=complaint) as error:
        read_variables(checkpoint)
    assert "\n" not in str(error.value) and "tiny-7" in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [(b"", 0), (b"123456789", 0xE3069283), (b"\0" * 32, 0x8A9136AA), (bytes(range(32)), 0x46DD794E)],
)
def test_check_sums_as_published(text, expected):
    assert crc32c(np.frombuffer(text, np.uint8)) == expected


def test_check_sums_of_long_messages():
    message = np.random.default_rng(0).integers(0, 256, 50_001, dtype=np.uint8)
    register = 0xFFFFFFFF
    for byte in message.tolist():
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    assert crc32c(message) == register ^ 0xFFFFFFFF


# A whole checkpoint, of a small network


def write_checkpoint(prefix: Path, variables: dict[str, np.ndarray]) -> None:
    """Writes both files; the numbers are float32."""
    pairs, content = [HEADER], b""
    for name, values in sorted(variables.items()):
        content += (tensor := np.ascontiguousarray(values, "<f4").tobytes())
        shape = b"".join(message(f2=message(f1=side)) for side in values.shape)
        fields = {"f1": 1, "f2": shape, "f4": len(content) - len(tensor), "f5": len(tensor)}
        pairs.append((name.encode(), message(**fields) + b"\x35" + checksum(tensor)))  # field 6, fixed
    prefix.with_name(prefix.name + ".index").write_bytes(table(pairs))
    prefix.with_name(prefix.name + DATA).write_bytes(content)


def original_variables(network: DualPoseNet) -> dict[str, np.ndarray]:
    """A network's weights by TensorFlow's names and in its order, with some that only training needs."""
    variables = {name: np.zeros(()) for name in ("beta1_power", "global_step")}
    for ours, weight in network.state_dict().items():
        name, values = original_names(network)[ours], weight.numpy()
        if name.endswith("/W"):
            values = values.transpose(1, 0, 2)
        elif name.endswith("/b"):
            values = values[None, None, None]
        elif name.endswith("/kernel"):
            values = values.T[None] if "conv1d" in name else values.T
        variables |= {name: values, f"{name}/Adam": np.zeros(values.shape)}
    return variables


@pytest.fixture(scope="module")
def network() -> DualPoseNet:
    torch.manual_seed(0)
    network = DualPoseNet(SMALL)
    for weight in network.parameters():
        nn.init.normal_(weight)
    return network


@pytest.mark.parametrize("end", ["", ".index", DATA])
def test_a_whole_checkpoint_is_rewritten_once(network, tmp_path, end):
    write_checkpoint(tmp_path / "model-30", original_variables(network))
    out = tmp_path / "released.safetensors"
    assert rewrite(tmp_path / f"model-30{end}", out, SMALL) == sum(w.numel() for w in network.parameters())
    for path in (tmp_path / f"model-30{end}", out):
        read, quirks = load_network(path, Options(network=SMALL))
        assert replace(quirks, carried_moments=True) == RELEASED
        for name, weight in network.state_dict().items():
            torch.testing.assert_close(read.state_dict()[name], weight, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"encoder/fc2/dense/bias": None}, "lacks encoder/fc2/dense/bias;"),
        ({"encoder/rgb_conv4/Variable": None}, "lacks encoder/rgb_conv4/Variable;"),
        ({"implicit_decoder/conv9/conv1d/bias": np.zeros(3)}, "has unknown implicit_decoder/conv9/conv1d/"),
        ({"encoder/dis_conv6/sphconv/b": np.zeros((1, 1, 1, 5))}, r"dis_conv6/sphconv/b has shape \(5,\)"),
        ({"encoder/fc1/dense/kernel": np.full((8, 8), np.nan)}, "NaN"),
    ],
)
def test_another_network_is_refused_by_tensorflows_names(network, tmp_path, changed, complaint):
    variables = original_variables(network) | changed
    write_checkpoint(tmp_path / "model-30", {k: v for k, v in variables.items() if v is not None})
    with pytest.raises(InputError, match=complaint) as error:
        rewrite(tmp_path / "model-30", tmp_path / "released.safetensors", SMALL)
    assert "model-30" in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "released.safetensors").exists()


def test_an_incomplete_checkpoint_is_refused_by_the_command(checkpoint, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(checkpoint), str(tmp_path / "released.safetensors")])
    assert "tiny-7.index: lacks " in (said := capsys.readouterr().err) and said.count("\n") == 1
    assert "encoder." not in said  # names of TensorFlow's have slashes


def test_other_endings_are_refused(checkpoint, tmp_path):
    with pytest.raises(InputError, match=r"released\.pt: weights are written as \.safetensors"):
        rewrite(checkpoint, tmp_path / "released.pt", SMALL)


def test_names_are_the_originals():
    assert sorted(original_names(DualPoseNet(Sizes())).values()) == sorted(variable_shapes())
