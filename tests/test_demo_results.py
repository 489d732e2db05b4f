"""What is shown of poses in a photo: each says in word, number and colour how sure it is."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from picopose.demo import results
from picopose.demo.shots import Shot
from picopose.pipeline.estimator import ObjectPose, PoseEstimator
from picopose.pipeline.verdict import verdict
from tests import mesh_variants, shipped
from tests.mesh_variants import K

COLOURS = {"good": (60, 220, 80), "doubtful": (255, 150, 30), "wrong": (235, 50, 50)}


@pytest.mark.parametrize(
    ("confidence", "word"),
    [
        (1.0, "good"),
        (0.75, "good"),
        (np.nextafter(0.75, 0), "doubtful"),
        (0.25, "doubtful"),
        (np.nextafter(0.25, 0), "wrong"),
        (0.0, "wrong"),
    ],
)
def test_the_word_that_goes_with_a_confidence(confidence, word):
    assert verdict(confidence) == word


@pytest.fixture(scope="module")
def estimator() -> PoseEstimator:
    return shipped.estimator().add_object(mesh_variants.MODEL, name="cereal")


def true_pose(**changes) -> ObjectPose:
    """The pose of the object in the photo, with one match."""
    box, match = np.array([80.0, 40, 260, 200]), np.array([[160.0, 120, 161, 121]])
    return replace(ObjectPose("cereal", mesh_variants.true_pose(), 0.5, 0.5, 0, match, box), **changes)


@pytest.mark.parametrize(
    ("confidence", "word", "label"),
    [
        (0.91, "good", "cereal: good (91 %)"),
        (0.3, "doubtful", "cereal: doubtful (30 %)"),
        (0.042, "wrong", "cereal: wrong (4 %)"),
    ],
)
def test_a_pose_is_outlined_and_told_as_it_is_judged(estimator, monkeypatch, confidence, word, label):
    written = []
    put = cv2.putText
    monkeypatch.setattr(
        cv2, "putText", lambda image, text, *rest: written.append(text) or put(image, text, *rest)
    )
    image, mask = mesh_variants.photo(True)
    shot = Shot("photo.png", image, K, None)
    found = results.results_of(estimator, shot, [true_pose(confidence=confidence)])
    assert set(written) == {label}
    (told,) = found.numbers["poses"]
    assert (told["confidence"], told["verdict"]) == (confidence, word)
    assert "score" not in told
    rim = mask & ~cv2.erode(mask.astype(np.uint8), np.ones((3, 3))).astype(bool)
    # The lines' rims are soft, and the axes cross the outline.
    off = {name: np.abs(found.overlay[rim] - np.float64(ink)).max(axis=1) for name, ink in COLOURS.items()}
    shares = {name: (distance < 60).mean() for name, distance in off.items()}
    assert shares[word] > 0.8 and sum(share > 0.2 for share in shares.values()) == 1
    assert len(found.matches) == 1


def test_poses_are_drawn_onto_a_smaller_copy_of_a_very_large_photo(estimator, monkeypatch):
    image, mask = mesh_variants.photo(True)
    height, width = mask.shape
    monkeypatch.setattr(results, "LARGEST_OVERLAY", height * width // 4)
    shot = Shot("photo.png", image, K, None)
    found = results.results_of(estimator, shot, [true_pose(confidence=0.9)])
    assert found.overlay.shape == (height // 2, width // 2, 3)
    mask = cv2.resize(mask.astype(np.uint8), (width // 2, height // 2), interpolation=cv2.INTER_NEAREST)
    rim = (mask > 0) & ~cv2.erode(mask, np.ones((3, 3))).astype(bool)
    assert (np.abs(found.overlay[rim] - np.float64(COLOURS["good"])).max(axis=1) < 60).mean() > 0.6


def test_points_are_joined_where_they_are_in_both_pictures():
    """Black pictures: what is not black are the lines, which end at the points."""
    image, beside = np.zeros((300, 400, 3), np.uint8), np.zeros((50, 50, 3), np.uint8)
    there, here = np.array([[10.0, 40.0]]), np.array([[200.0, 160.0]])
    drawn = results.draw_matches(image, beside, there, here, box=(100, 100, 200, 200))
    # The box with a margin of 10 px, from 90 on, is 120 px wide and becomes 480 px.
    assert drawn.shape == (480, 960, 3)
    y, x = np.nonzero(drawn.max(axis=2))
    start, end = (10.5 * 9.6, 40.5 * 9.6), (480 + 110.5 * 4, 70.5 * 4)
    assert (x.min(), x.max()) == pytest.approx((start[0] - 3, end[0] + 3), abs=1.5)
    assert (y.min(), y.max()) == pytest.approx((end[1] - 3, start[1] + 3), abs=1.5)
