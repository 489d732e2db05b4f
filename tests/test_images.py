"""Image files of unusual kinds become RGB of 8 bits, or are refused by name."""

import numpy as np
import pytest
from PIL import Image

from utils.errors import InputError
from utils.images import read_image

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


def test_pixels_that_are_no_photo_are_refused(tmp_path):
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "float.tif")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    problems = {"float.tif": "float32", "text.png": "cannot be read", "empty.jpg": "cannot be read"}
    for name, problem in (problems | {"missing.png": "not found", ".": "cannot be read"}).items():
        with pytest.raises(InputError, match=problem) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)
