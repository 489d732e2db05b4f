"""COCO's polygons become the pixels that they cover, and what is none is refused."""

import numpy as np
import pytest

from picopose.datasets.masks.polygons import extent, fill, read_polygons
from picopose.utils.errors import InputError

SIZE = (48, 64)


def mask_of(segmentation, size=SIZE):
    return fill(read_polygons(segmentation, "here"), size, "here")


def test_a_rectangle_covers_the_pixels_of_its_box():
    expected = np.zeros(SIZE, bool)
    expected[12:26, 33:48] = True
    corners = [33, 12, 48, 12, 48, 26, 33, 26]
    assert np.array_equal(mask_of([corners]), expected)
    assert np.array_equal(mask_of(corners), expected)  # without the outer list
    assert extent(read_polygons([corners], "here")) == (33, 12, 48, 26)


def test_several_polygons_are_joined():
    left, right = [2, 2, 12, 2, 12, 12, 2, 12], [8, 8, 20, 8, 20, 20, 8, 20]
    expected = np.zeros(SIZE, bool)
    expected[2:12, 2:12] = expected[8:20, 8:20] = True
    assert np.array_equal(mask_of([left, right]), expected)


def test_a_triangle_has_the_pixels_whose_centres_are_inside():
    corners = np.array([[4.0, 3], [55, 20], [18, 44]])
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    inside = np.ones(SIZE, bool)
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        inside &= (b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]) > 0
    assert (mask_of([corners.reshape(-1).tolist()]) ^ inside).sum() < 0.03 * inside.sum()


def test_a_polygon_is_cut_at_the_rim():
    expected = np.zeros(SIZE, bool)
    expected[:10, :8] = True
    assert np.array_equal(mask_of([[-5, -6, 8, -6, 8, 10, -5, 10]]), expected)


@pytest.mark.parametrize(
    ("segmentation", "problem"),
    [
        ([[1, 2, 3, 4]], "three points"),  # which pycocotools would take for a box
        ([[1, 2, 3, 4, 5, 6, 7]], "three points"),
        ([[[1, 2], [3, 4], [5, 6]]], "finite numbers|three points"),
        ([["a", 2, 3, 4, 5, 6]], "finite numbers"),
        ([[float("inf"), 2, 3, 4, 5, 6]], "finite numbers"),
        ([[10**400, 2, 3, 4, 5, 6]], "finite numbers"),
        ([{"x": 1}], "three points"),
        ([[0, 0, 900, 0, 900, 700]], "far out of the photo of 64x48 px"),
        ([[0, 0, 1e9, 0, 1e9, 1e9]], "far out of the photo"),
        ([[-90, 0, 3, 0, 4, 5]], "far out of the photo"),
    ],
)
def test_what_is_no_polygon_of_the_photo_is_refused(segmentation, problem):
    with pytest.raises(InputError, match=f"^here.*({problem})"):
        mask_of(segmentation)
