"""Image files of unusual kinds become RGB of 8 bits, or are refused by name; what is done to them is told."""

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin

from picopose.datasets.images import photo_of, read_depth, read_image, read_pixels
from picopose.utils.errors import InputError

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
GREY = RGB[..., 0]
BINARY = (GREY > 127) * np.uint8(255)


@pytest.mark.parametrize(
    ("picture", "name", "expected"),
    [
        (Image.fromarray(RGB), "a.png", RGB),
        (Image.fromarray(np.dstack([RGB, GREY])), "a.png", RGB),
        (Image.fromarray(BINARY).convert("P"), "a.png", BINARY),
        (Image.fromarray(BINARY > 0), "a.png", BINARY),
        (Image.fromarray(np.dstack([GREY, GREY]), "LA"), "a.png", GREY),
        (Image.fromarray(GREY.astype(np.uint16) * 257), "a.png", GREY),
        (Image.fromarray((GREY.astype(np.uint16) * 257).astype(">u2")), "a.tif", GREY),
    ],
)
def test_kinds_of_pixels(tmp_path, picture, name, expected):
    picture.save(tmp_path / name)
    if expected.ndim == 2:
        expected = np.dstack([expected] * 3)
    assert np.array_equal(read_image(tmp_path / name).permute(1, 2, 0).numpy(), expected)


def rgb(path, **options) -> np.ndarray:
    return read_image(path, **options).permute(1, 2, 0).numpy()


def save_turned(path, orientation: int):
    image = Image.fromarray(RGB)
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(path, exif=exif)
    return path


@pytest.mark.parametrize("name", ["photo.png", "photo.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_photos(tmp_path, caplog, name, orientation):
    path = save_turned(tmp_path / name, orientation)
    assert np.array_equal(rgb(path), RGB) and not caplog.text  # in data sets the stored pixels count
    upright = ImageOps.exif_transpose(Image.open(path).copy())
    assert np.array_equal(rgb(path, upright=True), np.array(upright))
    told = f"{path} is turned upright ({upright.width}x{upright.height}), as its EXIF data say"
    assert (told in caplog.text) == (orientation > 1)


@pytest.mark.parametrize("name", ["photo.png", "photo.tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_picture_at_hand_is_its_file(tmp_path, name, orientation):
    path = save_turned(tmp_path / name, orientation)
    with Image.open(path) as image:
        assert np.array_equal(photo_of(image), rgb(path, upright=True))


@pytest.mark.parametrize(("bits", "told"), [(8, True), (12, True), (14, True), (16, False)])
def test_16_bits_of_which_a_camera_uses_fewer(tmp_path, caplog, bits, told):
    values = np.array([[0, 1 << (bits - 1), (1 << bits) - 1]], np.uint16)
    image = Image.fromarray(values)
    image.save(tmp_path / "photo.png")
    assert np.array_equal(rgb(tmp_path / "photo.png")[..., 0], [[0, 128, 255]])
    assert (f"photo.png has 16 bits, but no value above {values.max()}: read as" in caplog.text) == told
    assert np.array_equal(photo_of(image)[..., 0], [[0, 128, 255]])
    assert np.array_equal(read_pixels(tmp_path / "photo.png"), values)


def test_tiff_of_12_bits(tmp_path):
    Image.fromarray(np.zeros((1, 4), np.uint16)).save(tmp_path / "photo.tif")
    with Image.open(tmp_path / "photo.tif") as image:
        start = image.tag_v2[TiffImagePlugin.STRIPOFFSETS][0]
    data = bytearray((tmp_path / "photo.tif").read_bytes())
    bits = data.index(bytes.fromhex("0201 0300 0100 0000 1000"))  # the tag's number, type, count and value
    data[bits + 8] = 12
    data[start : start + 6] = bytes.fromhex("FFF800000010")
    (tmp_path / "photo.tif").write_bytes(data)
    assert rgb(tmp_path / "photo.tif")[..., 0].tolist() == [[255, 128, 0, 1]]


def test_several_pictures_in_one_file(tmp_path, caplog):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    frames[0].save(tmp_path / "two.tif", save_all=True, append_images=frames[1:])
    assert np.array_equal(rgb(tmp_path / "two.tif"), RGB)
    assert "two.tif holds 2 pictures: the first is taken" in caplog.text


def test_a_second_picture_that_is_damaged(tmp_path):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    frames[0].save(tmp_path / "two.tif", save_all=True, append_images=frames[1:])
    data = bytearray((tmp_path / "two.tif").read_bytes())
    width = bytes.fromhex("0001 0400 0100 0000") + RGB.shape[1].to_bytes(4, "little")  # a tag with its value
    data[data.rindex(width)] = 9  # another tag
    (tmp_path / "two.tif").write_bytes(data)
    with pytest.raises(InputError, match=r"two\.tif cannot be read .*: download or create it again"):
        rgb(tmp_path / "two.tif")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.heic", b"\0\0\0\x24ftypheic" + bytes(99), "is a HEIC photo: convert it to JPEG"),
        ("a.jpg", b"\0\0\0\x18ftypmif1" + bytes(99), "is a HEIC photo: convert it to JPEG"),
        ("a.cr3", b"", "is a RAW photo: convert it to JPEG"),
        ("a.jpg", b"", "is empty: download or create it again"),
        ("a.jpg", b"no image", "cannot be read .*: download or create it again"),
        # A header that claims 30000x30000 px, and one that claims 15000x11000.
        ("a.ppm", b"P6 30000 30000 255\n", "more than 150 million pixels: shrink it"),
        ("a.ppm", b"P6 15000 11000 255\n", "more than 150 million pixels: shrink it"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # as outside of tests
def test_what_a_file_is(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"^image {tmp_path / name} .*{message}"):
        read_image(tmp_path / name)


def test_a_preview_of_a_raw_photo(tmp_path):
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory[254] = 1  # NewSubfileType: a smaller copy of another picture
    Image.fromarray(RGB).save(tmp_path / "a.tif", tiffinfo=directory)
    with pytest.raises(InputError, match="RAW photo, of which only a preview can be read"):
        read_image(tmp_path / "a.tif")


def test_pixels_that_are_no_photo_are_refused(tmp_path):
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "float.tif")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    problems = {"float.tif": "fractional", "text.png": "cannot be read", "empty.jpg": "is empty"}
    for name, problem in (problems | {"missing.png": "not found", ".": "cannot be read"}).items():
        with pytest.raises(InputError, match=problem) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.int32])
def test_depths_are_read_as_they_are_spelt(tmp_path, kind):
    depth = (np.arange(48).reshape(6, 8) * 5).astype(kind) + kind(0.5)  # far below the type's largest
    Image.fromarray(depth).save(tmp_path / "depth.tif")
    np.testing.assert_array_equal(read_depth(tmp_path / "depth.tif"), depth.astype(np.float32))


def test_colours_are_no_depths(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "depth.png")
    with pytest.raises(InputError, match=r"depth\.png has pixels of mode RGB, so is no depth image"):
        read_depth(tmp_path / "depth.png")
