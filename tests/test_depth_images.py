"""Depth images of users: many forms and units become metres, and what is none gets one line."""

import logging

import numpy as np
import pytest
from PIL import Image

from picopose.datasets.depth_images import depth_in_metres, read_depth_image
from picopose.datasets.nocs import frames
from picopose.utils.errors import InputError
from tests.shared import shared

METRES = np.linspace(0.4, 2.0, 48).reshape(6, 8)
METRES[0, :3] = 0  # not known


def saved(path, values):
    np.save(path, values) if path.suffix == ".npy" else Image.fromarray(values).save(path)
    return path


def channels(millimetres: np.ndarray) -> np.ndarray:
    """As NOCS stores them: G 256 + R, and 32001 for none."""
    stored = np.where(millimetres == 0, 32001, millimetres)
    return np.stack([stored % 256, stored // 256, 0 * stored], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "stored", "unit"),
    [
        ("d.png", (1000 * METRES).round().astype(np.uint16), "auto"),
        ("d.png", (5000 * METRES).round().astype(np.uint16), "5000"),
        ("d.png", (100 * METRES).round().astype(np.uint16), "cm"),
        ("d.png", channels((1000 * METRES).round().astype(int)), "auto"),
        ("d.tif", METRES.astype(np.float32), "auto"),
        ("d.tif", METRES.astype(np.float32), "m"),
        ("d.tiff", (1000 * METRES).astype(np.float32), "auto"),
        ("d.tif", (1000 * METRES).round().astype(np.uint16), "mm"),
        ("d.tif", (1e6 * METRES).round().astype(np.int32), "1e6"),
        ("d.npy", METRES, "auto"),
        ("d.npy", METRES[..., None].astype(np.float16), "auto"),
        ("d.npy", (1000 * METRES).round().astype(np.int64), "auto"),
    ],
)
def test_every_form_and_unit_gives_metres(tmp_path, name, stored, unit):
    depth = read_depth_image(saved(tmp_path / name, stored), 6, 8, unit)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, METRES, atol=0.0051 if unit == "cm" else 0.0011)
    assert (depth[0, :3] == 0).all()


def test_what_no_sensor_sees_is_not_known(tmp_path):
    values = METRES.astype(np.float32)
    values[1, :4] = np.nan, np.inf, -np.inf, 1e10
    values[3:] = 1e10  # of most of the image
    depth = read_depth_image(saved(tmp_path / "d.npy", values), 6, 8)
    assert (depth[1, :4] == 0).all() and (depth[3:] == 0).all()
    np.testing.assert_allclose(depth[2], METRES[2], rtol=1e-6)


def test_the_unit_is_told(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = saved(tmp_path / "d.png", (1000 * METRES[1:]).round().astype(np.uint16))
    read_depth_image(path, 5, 8)
    assert caplog.messages == [f"depth {path}: 0.672 to 2 m, read as mm"]


@pytest.mark.parametrize(
    ("name", "stored", "unit", "message"),
    [
        ("d.png", np.zeros((6, 8), np.uint16), "auto", "is empty: none of its values is a distance"),
        ("d.npy", np.full((6, 8), np.nan), "auto", "is empty: none of its values is a distance"),
        ("d.npy", -METRES, "auto", "has negative depths, down to -2: give distances"),
        ("d.npy", METRES > 1, "auto", "holds bool in place of numbers"),
        ("d.npy", METRES[0], "auto", r"has an array of shape \(8,\) for a photo of 8x6 px"),
        (
            "d.png",
            np.ones((3, 4), np.uint16),
            "auto",
            "has 4x3 px for a photo of 8x6 px: give one that is reg",
        ),
        ("d.png", np.full((6, 8), 99, np.uint8), "auto", "is a picture of 8 bits, not of distances"),
        ("d.png", np.arange(144, dtype=np.uint8).reshape(6, 8, 3), "auto", "is a picture of colours, not of"),
        (
            "d.npy",
            METRES,
            "mm",
            "the middle one of its distances would be 0.00125 m in mm; give its u",
        ),
        ("d.npy", 1e5 * METRES, "auto", "the middle one of its distances would be 125 m in mm"),
        ("d.npy", METRES, "mile", "unit 'mile' is unknown; give its unit: m, cm, mm, or the values to a"),
        ("d.npy", METRES, "-5", "unit '-5' is unknown"),
        ("d.npy", METRES, "nan", "unit 'nan' is unknown"),
    ],
)
def test_what_is_no_depth_gets_one_line(tmp_path, name, stored, unit, message):
    with pytest.raises(InputError, match=rf"^depth .*{name}:? ?{message}"):
        read_depth_image(saved(tmp_path / name, stored), 6, 8, unit)


@pytest.mark.parametrize("name", ["d.png", "d.npy", "d.tif"])
def test_files_that_cannot_be_read(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(InputError, match=f"{name} not found: correct the path"):
        read_depth_image(path, 6, 8)
    whole = saved(path, (1000 * METRES).astype(np.uint16)).read_bytes()
    for damaged in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=name):
            read_depth_image(path, 6, 8)


def test_pickles_are_not_opened(tmp_path):
    np.save(tmp_path / "d.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="without pickled objects"):
        read_depth_image(tmp_path / "d.npy", 6, 8)


@pytest.mark.parametrize(
    "frame", ["CAMERA/train/00000/0000", "CAMERA/train/00000/0001", "Real/test/scene_1/0000"]
)
def test_frames_of_nocs(frame):
    path = shared(f"reference_dualposenet/sample/{frame}_depth.png")
    expected = frames.read_depth(path) / 1000
    np.testing.assert_allclose(read_depth_image(path, 480, 640), expected, atol=1e-6)


def test_arrays_keep_their_numbers():
    assert depth_in_metres(np.float32([[1.5, 0]]), "m", "depth").tolist() == [[1.5, 0]]
