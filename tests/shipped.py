"""The weights that come with the repository, for tests in which poses must be right."""

import functools
import tempfile

from model.estimator import PoseEstimator

VIEWS = 42  # coarser than usual, so that templates take seconds


@functools.cache
def log_dir() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="picopose-test-")


def estimator(views: int = VIEWS) -> PoseEstimator:
    """A new one; what others prepared before is found on disk."""
    return PoseEstimator(device="cpu", log_dir=log_dir().name, overrides=[f"test.views={views}"])
