"""The default estimator and the weights that come with the repository, for tests that need right poses."""

import functools
import tempfile
from pathlib import Path

from picopose.pipeline.estimator import PoseEstimator
from tests.shared import ROOT

VIEWS = 42  # coarser than usual, so that preparing an object takes seconds
PICOPOSE_WEIGHTS = ROOT / "data" / "weights" / "refine.pt"


@functools.cache
def log_dir() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="picopose-test-")


def estimator(weights: Path | None = None, *, views: int = VIEWS) -> PoseEstimator:
    """A new one, by default of the default method; what others prepared before is found on disk."""
    return PoseEstimator(weights, device="cpu", log_dir=log_dir().name, overrides=[f"test.views={views}"])
