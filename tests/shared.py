"""Finds the optional reference data (golden outputs, real photos); tests skip where it is absent."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def shared(relative: str) -> Path:
    """A path below the folder that PICO_SHARED names (default: `../shared`), or the test is skipped."""
    path = Path(os.environ.get("PICO_SHARED", ROOT.parent / "shared")) / relative
    if not path.exists():
        pytest.skip(f"reference data not found: {path} (set PICO_SHARED)")
    return path
