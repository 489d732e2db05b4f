"""LINEMOD's measures of poses against those that RNNPose's own evaluation gave."""

import numpy as np
import pytest

from picopose.evaluation.errors import add, adds, plain_angle, projection_error, translation_error
from tests.shared import shared


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(shared("reference_rnnpose/golden_metrics.npz")) as metrics:
        values = {name: metrics[name] for name in metrics.files}
    with np.load(shared("reference_rnnpose/golden_mesh.npz")) as mesh:
        return values | {"vertices": mesh["verts"].astype(np.float64)}


@pytest.fixture(scope="module")
def errors(golden) -> np.ndarray:
    """(8, 5): ADD and ADD-S in m, projection in px, angle in degrees, translation in cm."""
    estimate = golden["T_pred"].astype(np.float64)
    truth = np.repeat(golden["T_gt"].astype(np.float64)[None], len(estimate), axis=0)
    cameras, vertices = np.repeat(golden["K"][None], len(estimate), axis=0), golden["vertices"]
    return np.stack(
        [
            add(estimate, truth, vertices),
            adds(estimate, truth, vertices),
            projection_error(estimate, truth, vertices, cameras),
            plain_angle(estimate, truth),
            100 * translation_error(estimate, truth),
        ],
        axis=1,
    )


def test_the_values_are_those_of_the_original(golden, errors):
    differences = np.abs(errors - golden["values"]).max(axis=0)
    assert (differences < [1e-5, 1e-5, 1e-5, 1e-2, 1e-5]).all(), differences


def test_so_are_the_verdicts(golden, errors):
    mean, nearest, pixels, degrees, centimetres = errors.T
    diameter = golden["diameter"]
    found = [mean < share * diameter for share in (0.1, 0.05, 0.02)]
    found += [pixels < 5, (degrees < 5) & (centimetres < 5), nearest < 0.1 * diameter]
    assert np.array_equal(np.stack(found, axis=1), golden["flags"])
