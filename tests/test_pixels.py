"""Pictures of any mode mean the same colours as RGB, or are refused; nothing is clipped without a word."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from picopose.utils.errors import InputError
from picopose.utils.pixels import pixels_of, rgb_of

RGB = np.stack(np.meshgrid(np.arange(5, 250, 7), np.arange(10, 255, 6), indexing="ij"), axis=-1)
RGB = np.dstack([RGB, 255 - RGB[..., :1]]).astype(np.uint8)
GREY = RGB[..., 0]


def as_file(pixels: np.ndarray, suffix: str) -> Image.Image:
    """The picture of a file that OpenCV writes."""
    ordered = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    return Image.open(io.BytesIO(cv2.imencode(suffix, ordered)[1].tobytes()))


def as_tiff(image: Image.Image, **tags: int) -> Image.Image:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        directory[getattr(TiffImagePlugin, name)] = value
    file = io.BytesIO()
    image.save(file, "TIFF", tiffinfo=directory)
    return Image.open(file)


@pytest.mark.parametrize(
    ("mode", "tolerance"), [("RGB", 0), ("RGBA", 0), ("RGBa", 0), ("RGBX", 0), ("CMYK", 0), ("YCbCr", 3)]
)
def test_colours_of_any_mode(mode, tolerance):
    image = Image.fromarray(RGB).convert("RGBA" if mode == "RGBa" else "RGB").convert(mode)
    assert np.abs(rgb_of(image, "picture").astype(int) - RGB).max() <= tolerance


@pytest.mark.parametrize("mode", ["P", "PA"])
def test_palettes(mode):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([1, 0])
    assert rgb_of(image.convert(mode), "picture").tolist() == [[[200, 100, 50], [10, 20, 30]]]


@pytest.mark.parametrize("mode", ["L", "LA", "La"])
def test_grey_is_repeated(mode):
    image = Image.fromarray(GREY).convert("LA" if mode == "La" else "L").convert(mode)
    assert np.array_equal(rgb_of(image, "picture"), np.dstack([GREY] * 3))


def test_colours_of_other_spaces():
    # Of sRGB's red: 0 degrees in HSV; in Lab, about D50, Lindbloom's calculator gives 54.29, 80.81, 69.89.
    assert rgb_of(Image.new("HSV", (1, 1), (0, 255, 255)), "picture").tolist() == [[[255, 0, 0]]]
    red = Image.frombytes("LAB", (1, 1), bytes([round(54.29 * 2.55), 81, 70]))
    assert np.abs(rgb_of(red, "picture").astype(int) - [255, 0, 0]).max() <= 6  # a step of Lab is 5 of red


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bits_of_grey_are_scaled_and_not_clipped(suffix):
    image = as_file(GREY.astype(np.uint16) * 257, suffix)
    assert np.array_equal(rgb_of(image, "picture"), np.dstack([GREY] * 3))


@pytest.mark.parametrize("kind", [">u2", "<u2", "<i4"])
def test_16_bits_of_arrays(kind):
    image = Image.fromarray((GREY.astype(np.uint16) * 257).astype(kind))
    assert np.array_equal(rgb_of(image, "picture"), np.dstack([GREY] * 3))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
def test_16_bits_of_colours(suffix):
    assert np.array_equal(rgb_of(as_file(RGB.astype(np.uint16) * 257, suffix), "picture"), RGB)
    with pytest.raises(InputError, match="only the darkest quarter is used"):
        rgb_of(as_file(RGB.astype(np.uint16) * 16, suffix), "picture")  # of a camera of 12 bits


def test_pgm_of_12_bits():
    data = cv2.imencode(".pgm", GREY.astype(np.uint16) * 16)[1].tobytes().replace(b"65535", b"4095", 1)
    found = rgb_of(Image.open(io.BytesIO(data)), "picture")[..., 0]
    assert np.abs(found.astype(int) - GREY).max() <= 1


def test_tiff_whose_zero_is_white():
    image = as_tiff(Image.fromarray(GREY.astype(np.uint16) * 257), PHOTOMETRIC_INTERPRETATION=0)
    assert np.array_equal(rgb_of(image, "picture")[..., 0], 255 - GREY)


def test_alpha_stays_for_those_who_ask():
    alpha = np.where(GREY > 99, 255, 0).astype(np.uint8)
    image = Image.fromarray(np.dstack([RGB, alpha]))
    assert np.array_equal(pixels_of(image, "mask")[..., 3], alpha)
    clear = Image.fromarray((GREY > 99).astype(np.uint8), "P")
    clear.putpalette([9, 9, 9, 8, 8, 8])
    clear.info["transparency"] = 0
    assert np.array_equal(pixels_of(clear, "mask")[..., 3], alpha)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.fromarray(GREY / np.float32(255)), "pixels of mode F: save it as grey or RGB"),
        (Image.fromarray(GREY.astype(np.int32) * 1000), "pixels from 5000 to 243000: save it"),
        (as_tiff(Image.fromarray(GREY), SAMPLEFORMAT=2), "signed or fractional pixels: save it"),
        (Image.new("1", (20_000, 10_000)), "more than 150 million pixels: shrink it"),
    ],
    ids=["float", "large numbers", "signed", "too large"],
)
def test_pictures_that_cannot_be_used(image, message):
    with pytest.raises(InputError, match=f"^texture x.png.* {message}"):
        rgb_of(image, "texture x.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_truncated_pictures(suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = cv2.imencode(suffix, noise)[1].tobytes()
    with pytest.raises(InputError, match=r"^picture cannot be read .*: download or create it again"):
        rgb_of(Image.open(io.BytesIO(data[: len(data) * 2 // 3])), "picture")
